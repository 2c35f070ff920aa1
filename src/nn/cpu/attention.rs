//! Attention: heads are columns of the tensors as they are. Scores are computed transposed, one row for each key, in
//! blocks that fit into a core's cache: so the softmax of many queries goes on side by side, and each block is the right
//! operand of the next product as it is.

use candle_core::Tensor;
use rayon::prelude::*;

use super::gemm::{Accumulate, PANEL, Panels, Strides, View, ViewMut, product_of_panels};
use super::math::{exp2, vectorised};
use super::scratch;
use super::tile::{Tile, tiles};
use crate::Result;
use crate::nn::parameters::{AttentionInput, InputGrads};
use crate::nn::tensor::numbers_of;

/// Query rows of one task: the columns of all its products, so that what a softmax does to a row is done to a vector of
/// rows at a time.
const QUERIES: usize = PANEL;
/// Keys that it takes at a time: their scores are 32 KiB, which a core's first cache holds.
const KEYS: usize = 128;

/// A number of each query.
type Queries = [f32; QUERIES];

/// The sizes of an attention.
#[derive(Clone, Copy)]
struct AttentionSizes {
    b: usize,
    n: usize,
    t: usize,
    heads: usize,
    d: usize,
}

impl AttentionSizes {
    fn of(AttentionInput { q, k, heads, .. }: AttentionInput) -> Result<Self> {
        let (b, n, c) = q.dims3()?;
        let (t, d) = (k.dim(1)?, c / heads);
        Ok(Self { b, n, t, heads, d })
    }

    fn width(self) -> usize {
        self.heads * self.d
    }

    /// Distances within one head of a tensor of whole width.
    fn strides(self) -> Strides {
        Strides::rows(self.width())
    }

    /// Tiles of at most `rows` rows of one head each, of every sample; with the sample's number.
    fn tiles(self, out: &mut [f32], rows: usize) -> Vec<(usize, Tile<'_>)> {
        let sample = (out.len() / self.b.max(1)).max(1);
        out.chunks_mut(sample)
            .enumerate()
            .flat_map(|(i, out)| {
                let cut = tiles(out, self.width(), rows.max(1), self.d);
                cut.into_iter().map(move |tile| (i, tile))
            })
            .collect()
    }

    /// One head of `rows` rows a sample, from row `from` of a sample on.
    fn head(self, x: &[f32], rows: usize, sample: usize, (from, column): (usize, usize)) -> &[f32] {
        &x[(sample * rows + from) * self.width() + column..]
    }
}

/// What the scores are multiplied with, so that the softmax is of powers of two: log₂e/√d.
fn scale(d: usize) -> f32 {
    std::f32::consts::LOG2_E / (d as f32).sqrt()
}

/// The forward pass: a running softmax over blocks of keys (Milakov and Gimelshein 2018, Dao et al. 2022).
pub(super) fn forward(input: AttentionInput) -> Result<Tensor> {
    let shape = AttentionSizes::of(input)?;
    let AttentionInput { q, k, v, .. } = input;
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let (qs, ks, vs) = (numbers_of(&q)?, numbers_of(&k)?, numbers_of(&v)?);
    let mut out = vec![0f32; qs.len()];
    let (qs, ks, vs) = (&*qs, &*ks, &*vs);
    shape
        .tiles(&mut out, QUERIES)
        .into_par_iter()
        .for_each(|(sample, mut tile)| {
            let of_keys = (0, tile.from.1);
            let q = shape.head(qs, shape.n, sample, tile.from);
            let k = shape.head(ks, shape.t, sample, of_keys);
            let v = shape.head(vs, shape.t, sample, of_keys);
            attend(shape, &mut tile, q, k, v);
        });
    Ok(Tensor::from_vec(out, q.shape(), q.device())?)
}

/// One tile of the output. `q`, `k` and `v` begin with the tile's rows and the head's keys.
fn attend(shape: AttentionSizes, out: &mut Tile, q: &[f32], k: &[f32], v: &[f32]) {
    let (strides, width, d) = (shape.strides(), shape.width(), shape.d);
    let queries = out.rows;
    let q = View::new(q, strides).transposed();
    Panels::with(q, d, queries, |q| {
        scratch::with((KEYS + d) * QUERIES, |buffer| {
            let (scores, sums) = buffer.split_at_mut(KEYS * QUERIES);
            let mut softmax = Softmax::new();
            for from in (0..shape.t).step_by(KEYS) {
                let keys = KEYS.min(shape.t - from);
                let scores = &mut scores[..keys * QUERIES];
                let k = View::new(&k[from * width..], strides);
                let c = ViewMut::rows(scores, QUERIES);
                product_of_panels(keys, scale(d), k, q, c, Accumulate::Replace);
                vectorised(
                    #[inline(always)]
                    || {
                        let shrink = softmax.add(scores);
                        if from > 0 {
                            scale_rows(sums, &shrink);
                        }
                    },
                );
                let v = View::new(&v[from * width..], strides).transposed();
                let p = Panels::new(scores, keys, queries, QUERIES);
                let c = ViewMut::rows(sums, QUERIES);
                product_of_panels(d, 1.0, v, p, c, Accumulate::add_if(from > 0));
            }
            write_turned(sums, &softmax.shares(), out);
        });
    });
}

/// The softmax over keys of each query, of scores that come in blocks: a running one (Milakov and Gimelshein 2018, Dao
/// et al. 2022).
struct Softmax {
    largest: Queries,
    /// Of the powers of two of all scores, relative to that of the largest.
    total: Queries,
}

impl Softmax {
    fn new() -> Self {
        Self {
            largest: [f32::NEG_INFINITY; QUERIES],
            total: [0.0; QUERIES],
        }
    }

    /// Turns a block of scores, a row for each key, into 2^(score − largest so far). What became of the powers of
    /// earlier blocks by that.
    #[inline(always)]
    fn add(&mut self, scores: &mut [f32]) -> Queries {
        let (before, mut largest, mut total) = (self.largest, self.largest, [0f32; QUERIES]);
        for row in scores.as_chunks::<QUERIES>().0 {
            for (largest, &score) in largest.iter_mut().zip(row) {
                *largest = if score > *largest { score } else { *largest };
            }
        }
        for row in scores.as_chunks_mut::<QUERIES>().0 {
            for ((score, largest), total) in row.iter_mut().zip(&largest).zip(&mut total) {
                *score = exp2(*score - largest);
                *total += *score;
            }
        }
        let mut shrink = [0f32; QUERIES];
        for i in 0..QUERIES {
            shrink[i] = exp2(before[i] - largest[i]);
            self.total[i] = self.total[i] * shrink[i] + total[i];
        }
        self.largest = largest;
        shrink
    }

    /// What the powers are multiplied with to become probabilities.
    fn shares(&self) -> Queries {
        self.total.map(|total| 1.0 / total)
    }
}

/// Multiplies each column with a number of its own.
#[inline(always)]
fn scale_rows(rows: &mut [f32], by: &Queries) {
    for row in rows.as_chunks_mut::<QUERIES>().0 {
        for (v, by) in row.iter_mut().zip(by) {
            *v *= by;
        }
    }
}

/// Writes `[d, QUERIES]` into a tile of a row for each query, multiplied with a number of its own.
fn write_turned(rows: &[f32], by: &Queries, out: &mut Tile) {
    for (j, by) in by.iter().enumerate().take(out.rows) {
        for (out, row) in out.row(j).iter_mut().zip(rows.as_chunks::<QUERIES>().0) {
            *out = row[j] * by;
        }
    }
}

/// The gradients from ∂L/∂output, by the equations of [`attention_backward`](crate::nn::attention_backward); one task
/// for each head of each sample.
pub(super) fn backward(input: AttentionInput, grad: &Tensor) -> Result<InputGrads> {
    let shape = AttentionSizes::of(input)?;
    let AttentionInput { q, k, v, .. } = input;
    let (q, k, v, grad) = (
        q.contiguous()?,
        k.contiguous()?,
        v.contiguous()?,
        grad.contiguous()?,
    );
    let (qs, ks, vs, gs) = (
        numbers_of(&q)?,
        numbers_of(&k)?,
        numbers_of(&v)?,
        numbers_of(&grad)?,
    );
    let (mut dq, mut dk, mut dv) = (
        vec![0f32; qs.len()],
        vec![0f32; ks.len()],
        vec![0f32; ks.len()],
    );
    let (qs, ks, vs, gs) = (&*qs, &*ks, &*vs, &*gs);
    let dq_tiles = in_heads(shape.tiles(&mut dq, QUERIES), shape);
    let dk_tiles = shape.tiles(&mut dk, shape.t);
    let dv_tiles = shape.tiles(&mut dv, shape.t);
    dq_tiles
        .into_par_iter()
        .zip(dk_tiles)
        .zip(dv_tiles)
        .for_each(|((dq, (sample, dk)), (_, dv))| {
            let at = (0, dk.from.1);
            let head = Head {
                shape,
                q: shape.head(qs, shape.n, sample, at),
                k: shape.head(ks, shape.t, sample, at),
                v: shape.head(vs, shape.t, sample, at),
                grad: shape.head(gs, shape.n, sample, at),
            };
            head.backward(dq, dk, dv);
        });
    let like = |values, x: &Tensor| {
        Ok::<_, crate::Error>(Tensor::from_vec(values, x.shape(), x.device())?)
    };
    Ok((like(dq, &q)?, like(dk, &k)?, like(dv, &v)?))
}

/// Tiles in the order of rows and then heads, as one list for each head of each sample.
fn in_heads<'a>(cut: Vec<(usize, Tile<'a>)>, shape: AttentionSizes) -> Vec<Vec<Tile<'a>>> {
    let mut heads: Vec<Vec<Tile>> = (0..shape.b * shape.heads).map(|_| Vec::new()).collect();
    for (sample, tile) in cut {
        heads[sample * shape.heads + tile.from.1 / shape.d].push(tile);
    }
    heads
}

/// One head of one sample, its values a width apart from row to row.
struct Head<'a> {
    shape: AttentionSizes,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    grad: &'a [f32],
}

impl Head<'_> {
    fn backward(&self, dq: Vec<Tile>, mut dk: Tile, mut dv: Tile) {
        for mut dq in dq {
            self.backward_of(&mut dq, &mut dk, &mut dv);
        }
    }

    /// Of some queries: their own gradient, and what they add to those of keys and values.
    fn backward_of(&self, dq: &mut Tile, dk: &mut Tile, dv: &mut Tile) {
        let (t, d) = (self.shape.t, self.shape.d);
        let (strides, from, queries) = (self.shape.strides(), dq.from.0, dq.rows);
        let q = View::new(&self.q[from * self.shape.width()..], strides);
        let grad = View::new(&self.grad[from * self.shape.width()..], strides);
        scratch::with(2 * t * QUERIES, |buffer| {
            let (p, dp) = buffer.split_at_mut(t * QUERIES);
            let shares = self.powers(q, queries, p);
            let along = self.slopes(grad, queries, &shares, (&mut *p, &mut *dp), dv);
            let norm = 1.0 / (d as f32).sqrt();
            scratch::with(d * QUERIES, |sums| {
                Panels::with(q, queries, d, |q| {
                    for (from, keys) in self.blocks() {
                        let block = from * QUERIES..(from + keys) * QUERIES;
                        let (p, ds) = (&p[block.clone()], &mut dp[block]);
                        vectorised(
                            #[inline(always)]
                            || to_scores(p, ds, &along),
                        );
                        let rows = View::rows(ds, QUERIES);
                        dk.product_of_panels(from..from + keys, norm, rows, q, Accumulate::Add);
                        let k = self.rows(self.k, from).transposed();
                        let (ds, c) = (
                            Panels::new(ds, keys, queries, QUERIES),
                            ViewMut::rows(sums, QUERIES),
                        );
                        product_of_panels(d, norm, k, ds, c, Accumulate::add_if(from > 0));
                    }
                });
                write_turned(sums, &[1.0; QUERIES], dq);
            });
        });
    }

    /// The keys in blocks: the first of each, and how many.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> {
        let t = self.shape.t;
        (0..t)
            .step_by(KEYS)
            .map(move |from| (from, KEYS.min(t - from)))
    }

    /// This head's rows from `from` on.
    fn rows<'b>(&self, x: &'b [f32], from: usize) -> View<'b> {
        View::new(&x[from * self.shape.width()..], self.shape.strides())
    }

    /// Fills `p`, a row for each key, with the powers of two of all scores, each block relative to the largest so far,
    /// and returns what makes probabilities of each block's.
    fn powers(&self, q: View, queries: usize, p: &mut [f32]) -> Vec<Queries> {
        let d = self.shape.d;
        let (mut softmax, mut largest) = (Softmax::new(), Vec::new());
        Panels::with(q.transposed(), d, queries, |q| {
            for (from, keys) in self.blocks() {
                let p = &mut p[from * QUERIES..(from + keys) * QUERIES];
                let (k, c) = (self.rows(self.k, from), ViewMut::rows(p, QUERIES));
                product_of_panels(keys, scale(d), k, q, c, Accumulate::Replace);
                vectorised(
                    #[inline(always)]
                    || softmax.add(p),
                );
                largest.push(softmax.largest);
            }
        });
        let shares = softmax.shares();
        let to_probabilities = |of_block: Queries| {
            std::array::from_fn(|i| shares[i] * exp2(of_block[i] - softmax.largest[i]))
        };
        largest.into_iter().map(to_probabilities).collect()
    }

    /// Makes probabilities P of the powers in `p`, fills `dp` with ∂L/∂P, adds to `dv` what P has part in, and returns
    /// Σ P·∂L/∂P over each query's keys.
    fn slopes(
        &self,
        grad: View,
        queries: usize,
        shares: &[Queries],
        (p, dp): (&mut [f32], &mut [f32]),
        dv: &mut Tile,
    ) -> Queries {
        let d = self.shape.d;
        let mut along = [0f32; QUERIES];
        Panels::with(grad.transposed(), d, queries, |turned| {
            Panels::with(grad, queries, d, |grad| {
                for ((from, keys), shares) in self.blocks().zip(shares) {
                    let block = from * QUERIES..(from + keys) * QUERIES;
                    let (p, dp) = (&mut p[block.clone()], &mut dp[block]);
                    let (v, c) = (self.rows(self.v, from), ViewMut::rows(dp, QUERIES));
                    product_of_panels(keys, 1.0, v, turned, c, Accumulate::Replace);
                    vectorised(
                        #[inline(always)]
                        || {
                            scale_rows(p, shares);
                            add_products(p, dp, &mut along);
                        },
                    );
                    let p = View::rows(p, QUERIES);
                    dv.product_of_panels(from..from + keys, 1.0, p, grad, Accumulate::Add);
                }
            });
        });
        along
    }
}

/// Adds P·∂L/∂P of each query's keys to `along`.
#[inline(always)]
fn add_products(p: &[f32], dp: &[f32], along: &mut Queries) {
    let mut sums = *along;
    for (p, dp) in p
        .as_chunks::<QUERIES>()
        .0
        .iter()
        .zip(dp.as_chunks::<QUERIES>().0)
    {
        for ((sum, p), dp) in sums.iter_mut().zip(p).zip(dp) {
            *sum += p * dp;
        }
    }
    *along = sums;
}

/// Turns ∂L/∂P into that of the scores: P·(∂L/∂P − Σ P·∂L/∂P).
#[inline(always)]
fn to_scores(p: &[f32], dp: &mut [f32], along: &Queries) {
    for (p, dp) in p
        .as_chunks::<QUERIES>()
        .0
        .iter()
        .zip(dp.as_chunks_mut::<QUERIES>().0)
    {
        for ((dp, p), along) in dp.iter_mut().zip(p).zip(along) {
            *dp = p * (*dp - along);
        }
    }
}
