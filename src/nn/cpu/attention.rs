//! Attention: heads are columns of the tensors as they are, and scores exist in blocks that fit into a core's cache.

use candle_core::Tensor;
use rayon::prelude::*;

use super::gemm::{Accumulate, Sizes, Strides, View, ViewMut, product};
use super::math::{dot, exp2, max, sum, vectorised};
use super::tile::{Tile, tiles};
use crate::Result;
use crate::nn::parameters::{AttentionInput, InputGrads};
use crate::nn::tensor::numbers_of;

/// Query rows of one task, and keys that it takes at a time: their scores are 256 KiB.
const ROWS: usize = 128;
const KEYS: usize = 512;
/// Query rows that a task of the backward pass takes at a time, with all keys.
const BACKWARD_ROWS: usize = 64;

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
    shape.tiles(&mut out, ROWS).into_par_iter().for_each_init(
        || vec![0f32; ROWS.min(shape.n) * KEYS.min(shape.t)],
        |scores, (sample, mut tile)| {
            let of_keys = (0, tile.from.1);
            let q = shape.head(qs, shape.n, sample, tile.from);
            let k = shape.head(ks, shape.t, sample, of_keys);
            let v = shape.head(vs, shape.t, sample, of_keys);
            attend(shape, &mut tile, q, k, v, scores);
        },
    );
    Ok(Tensor::from_vec(out, q.shape(), q.device())?)
}

/// One tile of the output. `q`, `k` and `v` begin with the tile's rows and the head's keys.
fn attend(
    shape: AttentionSizes,
    out: &mut Tile,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    scores: &mut [f32],
) {
    let (strides, width) = (shape.strides(), shape.width());
    // Of each row the largest score so far and the sum of powers below it.
    let mut state = [(f32::NEG_INFINITY, 0f32); ROWS];
    for from in (0..shape.t).step_by(KEYS) {
        let keys = KEYS.min(shape.t - from);
        let scores = &mut scores[..out.rows * keys];
        let (k, v) = (&k[from * width..], &v[from * width..]);
        let (q, k) = (View::new(q, strides), View::new(k, strides).transposed());
        let sizes = Sizes {
            m: out.rows,
            k: shape.d,
            n: keys,
        };
        let c = ViewMut::rows(scores, keys);
        product(sizes, scale(shape.d), q, k, c, Accumulate::Replace);
        vectorised(
            #[inline(always)]
            || {
                for (i, (row, (largest, total))) in
                    scores.chunks_exact_mut(keys).zip(&mut state).enumerate()
                {
                    let before = *largest;
                    let highest = max(row);
                    *largest = if highest > before { highest } else { before };
                    powers(row, *largest);
                    if from == 0 {
                        *total = sum(row);
                    } else {
                        let shrink = exp2(before - *largest);
                        *total = *total * shrink + sum(row);
                        for o in out.row(i) {
                            *o *= shrink;
                        }
                    }
                }
            },
        );
        let accumulate = match from {
            0 => Accumulate::Replace,
            _ => Accumulate::Add,
        };
        let (p, v) = (View::rows(scores, keys), View::new(v, strides));
        out.product(keys, 1.0, p, v, accumulate);
    }
    for (i, (_, total)) in state.iter().enumerate().take(out.rows) {
        let share = 1.0 / total;
        out.row(i).iter_mut().for_each(|o| *o *= share);
    }
}

/// 2^(x − largest).
#[inline(always)]
fn powers(row: &mut [f32], largest: f32) {
    for x in row {
        *x = exp2(*x - largest);
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
    let rows = BACKWARD_ROWS.min(shape.n);
    let dq_tiles = in_heads(shape.tiles(&mut dq, rows), shape);
    let dk_tiles = shape.tiles(&mut dk, shape.t);
    let dv_tiles = shape.tiles(&mut dv, shape.t);
    dq_tiles
        .into_par_iter()
        .zip(dk_tiles)
        .zip(dv_tiles)
        .for_each_init(
            || Scores::new(rows * shape.t),
            |scores, ((dq, (sample, dk)), (_, dv))| {
                let at = (0, dk.from.1);
                let head = Head {
                    shape,
                    q: shape.head(qs, shape.n, sample, at),
                    k: shape.head(ks, shape.t, sample, at),
                    v: shape.head(vs, shape.t, sample, at),
                    grad: shape.head(gs, shape.n, sample, at),
                };
                head.backward(dq, dk, dv, scores);
            },
        );
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

/// The probabilities of some query rows, and their gradients.
struct Scores {
    p: Vec<f32>,
    dp: Vec<f32>,
}

impl Scores {
    fn new(len: usize) -> Self {
        let (p, dp) = (vec![0f32; len], vec![0f32; len]);
        Self { p, dp }
    }
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
    fn backward(&self, dq: Vec<Tile>, mut dk: Tile, mut dv: Tile, scores: &mut Scores) {
        let &Self {
            shape: AttentionSizes { t, d, .. },
            k,
            v,
            ..
        } = self;
        let strides = self.shape.strides();
        let (keys, values) = (View::new(k, strides), View::new(v, strides));
        let norm = 1.0 / (d as f32).sqrt();
        for mut dq in dq {
            let (from, rows) = (dq.from.0, dq.rows);
            let q = View::new(&self.q[from * self.shape.width()..], strides);
            let grad = View::new(&self.grad[from * self.shape.width()..], strides);
            let (p, dp) = (&mut scores.p[..rows * t], &mut scores.dp[..rows * t]);
            let sizes = Sizes {
                m: rows,
                k: d,
                n: t,
            };
            let c = ViewMut::rows(p, t);
            product(
                sizes,
                scale(d),
                q,
                keys.transposed(),
                c,
                Accumulate::Replace,
            );
            vectorised(
                #[inline(always)]
                || {
                    for row in p.chunks_exact_mut(t) {
                        let largest = max(row);
                        powers(row, largest);
                        let share = 1.0 / sum(row);
                        for p in row {
                            *p *= share;
                        }
                    }
                },
            );
            let pt = View::rows(p, t).transposed();
            dv.product(rows, 1.0, pt, grad, Accumulate::Add);
            let c = ViewMut::rows(dp, t);
            product(
                sizes,
                1.0,
                grad,
                values.transposed(),
                c,
                Accumulate::Replace,
            );
            vectorised(
                #[inline(always)]
                || {
                    for (p, dp) in p.chunks_exact(t).zip(dp.chunks_exact_mut(t)) {
                        let along = dot(p, dp);
                        for (dp, p) in dp.iter_mut().zip(p) {
                            *dp = p * (*dp - along);
                        }
                    }
                },
            );
            let ds = View::rows(dp, t);
            dq.product(t, norm, ds, keys, Accumulate::Replace);
            dk.product(rows, norm, ds.transposed(), q, Accumulate::Add);
        }
    }
}
