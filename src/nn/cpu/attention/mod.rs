//! Attention: heads are columns of the tensors as they are. Scores are computed in blocks that fit into a core's cache,
//! and each block is the right operand of the next product as it is: of the forward pass transposed, one row for each
//! key, so that the softmax of many queries goes on side by side, and of the gradients one row for each query.

mod backward;
mod bf16;

use candle_core::Tensor;
use rayon::prelude::*;

use super::gemm::{Accumulate, PANEL, Panels, Strides, View, ViewMut, product_of_panels};
use super::math::{exp2, vectorised};
use super::scratch;
use super::tile::{Tile, by_sample, tiles};
use super::zeros::zeros;
use crate::Result;
use crate::nn::dispatch::in_bf16;
use crate::nn::parameters::{AttentionInput, AttentionKept};
use crate::nn::tensor::numbers_of;

pub(super) use self::backward::backward;

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

    /// The keys in blocks: the first of each, and how many.
    fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        let block = move |from| (from, KEYS.min(self.t - from));
        (0..self.t).step_by(KEYS).map(block)
    }

    /// The rows from `from` on of a head that begins with `x`.
    fn rows(self, x: &[f32], from: usize) -> View<'_> {
        View::new(&x[from * self.width()..], self.strides())
    }

    /// Tiles of at most `rows` rows of one head each, of every sample; with the sample's number.
    fn tiles(self, out: &mut [f32], rows: usize) -> Vec<(usize, Tile<'_>)> {
        let of_sample = out.len() / self.b.max(1);
        by_sample(out, of_sample, |out| {
            tiles(out, self.width(), rows.max(1), self.d)
        })
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
    Ok(forward_keeping(input)?.0)
}

/// The same, and what the backward pass reads of it: nothing where products are taken in bf16, as gradients are not.
pub(super) fn forward_keeping(input: AttentionInput) -> Result<(Tensor, Option<AttentionKept>)> {
    if !in_bf16() {
        let kept = forward_in_f32(input)?;
        return Ok((kept.output.clone(), Some(kept)));
    }
    let shape = AttentionSizes::of(input)?;
    let AttentionInput { q, k, v, .. } = input;
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let (qs, ks, vs) = (numbers_of(&q)?, numbers_of(&k)?, numbers_of(&v)?);
    let mut out = zeros(qs.len());
    bf16::forward(shape, &qs, [&ks, &vs], &mut out);
    Ok((Tensor::from_vec(out, q.shape(), q.device())?, None))
}

fn forward_in_f32(input: AttentionInput) -> Result<AttentionKept> {
    let shape = AttentionSizes::of(input)?;
    let AttentionInput { q, k, v, .. } = input;
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let (qs, ks, vs) = (numbers_of(&q)?, numbers_of(&k)?, numbers_of(&v)?);
    let mut out = zeros(qs.len());
    let (qs, ks, vs) = (&*qs, &*ks, &*vs);
    let tiles = shape.tiles(&mut out, QUERIES);
    let count = tiles.len();
    let softmax: Vec<[Queries; 2]> = tiles
        .into_par_iter()
        .map(|(sample, mut tile)| {
            let of_keys = (0, tile.from.1);
            let q = shape.head(qs, shape.n, sample, tile.from);
            let k = shape.head(ks, shape.t, sample, of_keys);
            let v = shape.head(vs, shape.t, sample, of_keys);
            attend(shape, &mut tile, q, k, v)
        })
        .collect();
    let softmax = softmax.into_flattened().into_flattened();
    Ok(AttentionKept {
        output: Tensor::from_vec(out, q.shape(), q.device())?,
        softmax: Tensor::from_vec(softmax, (count, 2, QUERIES), q.device())?,
    })
}

/// One tile of the output, and of each query the largest score and what makes probabilities of the powers relative to
/// it. `q`, `k` and `v` begin with the tile's rows and the head's keys.
fn attend(shape: AttentionSizes, out: &mut Tile, q: &[f32], k: &[f32], v: &[f32]) -> [Queries; 2] {
    let (d, queries) = (shape.d, out.rows);
    let q = shape.rows(q, 0).transposed();
    Panels::with(scale(d), q, d, queries, |q| {
        scratch::with((KEYS + d) * QUERIES, |buffer| {
            let (scores, sums) = buffer.split_at_mut(KEYS * QUERIES);
            let mut softmax = Softmax::new();
            for (from, keys) in shape.blocks() {
                let scores = &mut scores[..keys * QUERIES];
                let (k, c) = (shape.rows(k, from), ViewMut::rows(scores, QUERIES));
                product_of_panels(keys, k, q, c, Accumulate::Replace);
                softmax.add_to(scores, (from > 0).then_some(&mut *sums));
                let v = shape.rows(v, from).transposed();
                let p = Panels::new(scores, keys, queries, QUERIES);
                let c = ViewMut::rows(sums, QUERIES);
                product_of_panels(d, v, p, c, Accumulate::add_if(from > 0));
            }
            let shares = softmax.shares();
            write_turned(sums, &shares, out);
            [softmax.largest, shares]
        })
    })
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

    /// [`Softmax::add`], with the sums of the blocks before multiplied by what became of their powers.
    fn add_to(&mut self, scores: &mut [f32], sums: Option<&mut [f32]>) {
        vectorised(
            #[inline(always)]
            || {
                let shrink = self.add(scores);
                if let Some(sums) = sums {
                    scale_rows(sums, &shrink);
                }
            },
        );
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
