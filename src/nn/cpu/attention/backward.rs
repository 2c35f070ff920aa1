//! The gradients of an attention.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{AttentionSizes, KEYS, QUERIES, Queries, forward_in_f32, scale, write_turned};
use crate::Result;
use crate::nn::cpu::gemm::{Accumulate, Panels, View, ViewMut, product_of_panels};
use crate::nn::cpu::math::{exp2, vectorised};
use crate::nn::cpu::scratch;
use crate::nn::cpu::tile::Tile;
use crate::nn::parameters::{AttentionInput, AttentionKept, InputGrads};
use crate::nn::tensor::numbers_of;

/// The gradients from ∂L/∂output, by the equations of [`attention_backward`](crate::nn::attention_backward); one task
/// for each head of each sample. What was not kept of the forward pass is computed again.
pub(in super::super) fn backward(
    input: AttentionInput,
    kept: Option<&AttentionKept>,
    grad: &Tensor,
) -> Result<InputGrads> {
    let shape = AttentionSizes::of(input)?;
    let AttentionInput { q, k, v, .. } = input;
    let (q, k, v, grad) = (
        q.contiguous()?,
        k.contiguous()?,
        v.contiguous()?,
        grad.contiguous()?,
    );
    let again;
    let AttentionKept { output, softmax } = match kept {
        Some(kept) => kept,
        None => {
            again = forward_in_f32(input)?;
            &again
        }
    };
    let (qs, ks, vs, gs) = (
        numbers_of(&q)?,
        numbers_of(&k)?,
        numbers_of(&v)?,
        numbers_of(&grad)?,
    );
    let (os, softmax) = (numbers_of(output)?, numbers_of(softmax)?);
    let (mut dq, mut dk, mut dv) = (
        vec![0f32; qs.len()],
        vec![0f32; ks.len()],
        vec![0f32; ks.len()],
    );
    let (qs, ks, vs, gs, os) = (&*qs, &*ks, &*vs, &*gs, &*os);
    let of_tiles = softmax.as_chunks::<QUERIES>().0.as_chunks::<2>().0;
    let dq_tiles = in_heads(shape.tiles(&mut dq, QUERIES), of_tiles, shape);
    let dk_tiles = shape.tiles(&mut dk, shape.t);
    let dv_tiles = shape.tiles(&mut dv, shape.t);
    dq_tiles
        .into_par_iter()
        .zip(dk_tiles)
        .zip(dv_tiles)
        .for_each(|((dq, (sample, mut dk)), (_, mut dv))| {
            let at = (0, dk.from.1);
            let head = Head {
                shape,
                q: shape.head(qs, shape.n, sample, at),
                k: shape.head(ks, shape.t, sample, at),
                v: shape.head(vs, shape.t, sample, at),
                grad: shape.head(gs, shape.n, sample, at),
                output: shape.head(os, shape.n, sample, at),
            };
            for (mut dq, softmax) in dq {
                head.backward(softmax, &mut dq, &mut dk, &mut dv);
            }
        });
    let like = |values, x: &Tensor| {
        Ok::<_, crate::Error>(Tensor::from_vec(values, x.shape(), x.device())?)
    };
    Ok((like(dq, &q)?, like(dk, &k)?, like(dv, &v)?))
}

/// Tiles of a head, each with what its softmax came to.
type OfHead<'a, 's> = Vec<(Tile<'a>, &'s [Queries; 2])>;

/// Tiles in the order of rows and then heads, as one list for each head of each sample.
fn in_heads<'a, 's>(
    cut: Vec<(usize, Tile<'a>)>,
    softmax: &'s [[Queries; 2]],
    shape: AttentionSizes,
) -> Vec<OfHead<'a, 's>> {
    let mut heads: Vec<OfHead> = (0..shape.b * shape.heads).map(|_| Vec::new()).collect();
    for ((sample, tile), softmax) in cut.into_iter().zip(softmax) {
        heads[sample * shape.heads + tile.from.1 / shape.d].push((tile, softmax));
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
    output: &'a [f32],
}

impl Head<'_> {
    /// Of some queries: their own gradient, and what they add to those of keys and values. Blocks of scores stay in a
    /// core's nearest caches.
    fn backward(
        &self,
        [largest, shares]: &[Queries; 2],
        dq: &mut Tile,
        dk: &mut Tile,
        dv: &mut Tile,
    ) {
        let (d, from, queries) = (self.shape.d, dq.from.0, dq.rows);
        let q = self.shape.rows(self.q, from);
        let grad = self.shape.rows(self.grad, from);
        let along = self.along(from, queries);
        let norm = 1.0 / (d as f32).sqrt();
        let mut multiply = |q_turned: Panels, q: Panels, grad_turned: Panels, grad: Panels| {
            scratch::with((2 * KEYS + d) * QUERIES, |buffer| {
                let (p, buffer) = buffer.split_at_mut(KEYS * QUERIES);
                let (dp, sums) = buffer.split_at_mut(KEYS * QUERIES);
                for (from, keys) in self.shape.blocks() {
                    let (p, dp) = (&mut p[..keys * QUERIES], &mut dp[..keys * QUERIES]);
                    let (k, v) = (self.shape.rows(self.k, from), self.shape.rows(self.v, from));
                    let of_block = from..from + keys;
                    let c = ViewMut::rows(p, QUERIES);
                    product_of_panels(keys, scale(d), k, q_turned, c, Accumulate::Replace);
                    let c = ViewMut::rows(dp, QUERIES);
                    product_of_panels(keys, 1.0, v, grad_turned, c, Accumulate::Replace);
                    vectorised(
                        #[inline(always)]
                        || to_slopes(p, dp, [largest, shares, &along]),
                    );
                    let rows = View::rows(p, QUERIES);
                    dv.product_of_panels(of_block.clone(), 1.0, rows, grad, Accumulate::Add);
                    let rows = View::rows(dp, QUERIES);
                    dk.product_of_panels(of_block, norm, rows, q, Accumulate::Add);
                    let ds = Panels::new(dp, keys, queries, QUERIES);
                    let (k, c) = (k.transposed(), ViewMut::rows(sums, QUERIES));
                    product_of_panels(d, norm, k, ds, c, Accumulate::add_if(from > 0));
                }
                write_turned(sums, &[1.0; QUERIES], dq);
            });
        };
        Panels::with(q.transposed(), d, queries, |q_turned| {
            Panels::with(q, queries, d, |q| {
                Panels::with(grad.transposed(), d, queries, |grad_turned| {
                    Panels::with(grad, queries, d, |grad| {
                        multiply(q_turned, q, grad_turned, grad);
                    });
                });
            });
        });
    }

    /// Σ ∂L/∂O·O of each of some queries.
    fn along(&self, from: usize, queries: usize) -> Queries {
        let (d, width) = (self.shape.d, self.shape.width());
        let mut along = [0f32; QUERIES];
        for (i, along) in along.iter_mut().enumerate().take(queries) {
            let row = (from + i) * width..(from + i) * width + d;
            let terms = self.grad[row.clone()].iter().zip(&self.output[row]);
            *along = terms.map(|(g, o)| g * o).sum();
        }
        along
    }
}

/// Turns scores into probabilities P, and ∂L/∂P into that of the scores: P·(∂L/∂P − Σ P·∂L/∂P).
#[inline(always)]
fn to_slopes(p: &mut [f32], dp: &mut [f32], [largest, shares, along]: [&Queries; 3]) {
    let rows = p.as_chunks_mut::<QUERIES>().0.iter_mut();
    for (p, dp) in rows.zip(dp.as_chunks_mut::<QUERIES>().0) {
        for i in 0..QUERIES {
            p[i] = exp2(p[i] - largest[i]) * shares[i];
            dp[i] = p[i] * (dp[i] - along[i]);
        }
    }
}
