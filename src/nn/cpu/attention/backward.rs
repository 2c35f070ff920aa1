//! The gradients of an attention.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{AttentionSizes, QUERIES, Queries, Softmax, scale, scale_rows, write_turned};
use crate::Result;
use crate::nn::cpu::gemm::{Accumulate, Panels, View, ViewMut, product_of_panels};
use crate::nn::cpu::math::{exp2, vectorised};
use crate::nn::cpu::scratch;
use crate::nn::cpu::tile::Tile;
use crate::nn::parameters::{AttentionInput, InputGrads};
use crate::nn::tensor::numbers_of;

/// The gradients from ∂L/∂output, by the equations of [`attention_backward`](crate::nn::attention_backward); one task
/// for each head of each sample.
pub(in super::super) fn backward(input: AttentionInput, grad: &Tensor) -> Result<InputGrads> {
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
        let (from, queries) = (dq.from.0, dq.rows);
        let q = self.shape.rows(self.q, from);
        let grad = self.shape.rows(self.grad, from);
        scratch::with(2 * t * QUERIES, |buffer| {
            let (p, dp) = buffer.split_at_mut(t * QUERIES);
            let shares = self.powers(q, queries, p);
            let along = self.slopes(grad, queries, &shares, (&mut *p, &mut *dp), dv);
            let norm = 1.0 / (d as f32).sqrt();
            scratch::with(d * QUERIES, |sums| {
                Panels::with(q, queries, d, |q| {
                    for (from, keys) in self.shape.blocks() {
                        let block = from * QUERIES..(from + keys) * QUERIES;
                        let (p, ds) = (&p[block.clone()], &mut dp[block]);
                        vectorised(
                            #[inline(always)]
                            || to_scores(p, ds, &along),
                        );
                        let rows = View::rows(ds, QUERIES);
                        dk.product_of_panels(from..from + keys, norm, rows, q, Accumulate::Add);
                        let k = self.shape.rows(self.k, from).transposed();
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

    /// Fills `p`, a row for each key, with the powers of two of all scores, each block relative to the largest so far,
    /// and returns what makes probabilities of each block's.
    fn powers(&self, q: View, queries: usize, p: &mut [f32]) -> Vec<Queries> {
        let d = self.shape.d;
        let (mut softmax, mut largest) = (Softmax::new(), Vec::new());
        Panels::with(q.transposed(), d, queries, |q| {
            for (from, keys) in self.shape.blocks() {
                let p = &mut p[from * QUERIES..(from + keys) * QUERIES];
                let (k, c) = (self.shape.rows(self.k, from), ViewMut::rows(p, QUERIES));
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
                for ((from, keys), shares) in self.shape.blocks().zip(shares) {
                    let block = from * QUERIES..(from + keys) * QUERIES;
                    let (p, dp) = (&mut p[block.clone()], &mut dp[block]);
                    let (v, c) = (self.shape.rows(self.v, from), ViewMut::rows(dp, QUERIES));
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
