//! The gradients of an attention.

use candle_core::Tensor;
use rayon::prelude::*;

use super::{AttentionSizes, QUERIES, Queries, forward_in_f32, scale, write_turned};
use crate::Result;
use crate::nn::cpu::gemm::{Accumulate, PANEL, Panels, View, ViewMut, product_of_panels};
use crate::nn::cpu::math::{exp2, vectorised};
use crate::nn::cpu::scratch;
use crate::nn::cpu::tile::Tile;
use crate::nn::cpu::zeros::zeros;
use crate::nn::parameters::{AttentionInput, AttentionKept, InputGrads};
use crate::nn::tensor::numbers_of;

/// Queries that a panel of keys sees at a time.
const QUERIES_AT_A_TIME: usize = 128;

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
    let (mut dq, mut dk, mut dv) = (zeros(qs.len()), zeros(ks.len()), zeros(ks.len()));
    let (qs, ks, vs, gs, os) = (&*qs, &*ks, &*vs, &*gs, &*os);
    let softmax = softmax.as_chunks::<QUERIES>().0.as_chunks::<2>().0;
    let dq_heads = shape.tiles(&mut dq, shape.n);
    let dk_heads = in_heads(shape.tiles(&mut dk, PANEL), shape);
    let dv_heads = in_heads(shape.tiles(&mut dv, PANEL), shape);
    dq_heads
        .into_par_iter()
        .zip(dk_heads)
        .zip(dv_heads)
        .for_each(|(((sample, mut dq), dk), dv)| {
            let at = (0, dq.from.1);
            let head = Head {
                shape,
                q: shape.head(qs, shape.n, sample, at),
                k: shape.head(ks, shape.t, sample, at),
                v: shape.head(vs, shape.t, sample, at),
                grad: shape.head(gs, shape.n, sample, at),
            };
            let output = shape.head(os, shape.n, sample, at);
            let of_tile = |tile: usize| {
                let tile = sample * shape.n.div_ceil(QUERIES) + tile;
                &softmax[tile * shape.heads + at.1 / shape.d]
            };
            let rows = head.rows(output, of_tile);
            for (mut dk, mut dv) in dk.into_iter().zip(dv) {
                head.backward(&rows, &mut dq, &mut dk, &mut dv);
            }
        });
    let like = |values, x: &Tensor| {
        Ok::<_, crate::Error>(Tensor::from_vec(values, x.shape(), x.device())?)
    };
    Ok((like(dq, &q)?, like(dk, &k)?, like(dv, &v)?))
}

/// The tiles of each head of each sample, of tiles in the order of rows and then heads.
fn in_heads(cut: Vec<(usize, Tile)>, shape: AttentionSizes) -> Vec<Vec<Tile>> {
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

/// What the forward pass leaves of a query.
struct Row {
    /// The largest of its scores.
    largest: f32,
    /// What makes probabilities of the powers relative to that.
    share: f32,
    /// Σ ∂L/∂O·O.
    along: f32,
}

impl Head<'_> {
    /// Of every query, from the output, which begins with the head's, and what the softmax of each of its tiles left.
    fn rows<'s>(&self, output: &[f32], of_tile: impl Fn(usize) -> &'s [Queries; 2]) -> Vec<Row> {
        let row = |i: usize| {
            let [largest, shares] = of_tile(i / QUERIES);
            let values = i * self.shape.width()..i * self.shape.width() + self.shape.d;
            let terms = self.grad[values.clone()].iter().zip(&output[values]);
            Row {
                largest: largest[i % QUERIES],
                share: shares[i % QUERIES],
                along: terms.map(|(g, o)| g * o).sum(),
            }
        };
        (0..self.shape.n).map(row).collect()
    }

    /// Of a panel of keys and their values: their gradients, and what they add to those of the queries. Probabilities
    /// lie a row for each query: as they are, they are the right operand of what is summed over queries.
    fn backward(&self, rows: &[Row], dq: &mut Tile, dk: &mut Tile, dv: &mut Tile) {
        let (d, from, keys) = (self.shape.d, dk.from.0, dk.rows);
        let k = self.shape.rows(self.k, from);
        let v = self.shape.rows(self.v, from);
        let norm = 1.0 / (d as f32).sqrt();
        let dq_sums = Accumulate::add_if(from > 0);
        let mut multiply = |k_turned: Panels, k: Panels, v_turned: Panels| {
            scratch::with(2 * (QUERIES_AT_A_TIME + d) * PANEL, |buffer| {
                let (p, buffer) = buffer.split_at_mut(QUERIES_AT_A_TIME * PANEL);
                let (dp, sums) = buffer.split_at_mut(QUERIES_AT_A_TIME * PANEL);
                let (k_sums, v_sums) = sums.split_at_mut(d * PANEL);
                for (i, rows) in rows.chunks(QUERIES_AT_A_TIME).enumerate() {
                    let (from, n) = (i * QUERIES_AT_A_TIME, rows.len());
                    let (p, dp) = (&mut p[..n * PANEL], &mut dp[..n * PANEL]);
                    let (q, grad) = (
                        self.shape.rows(self.q, from),
                        self.shape.rows(self.grad, from),
                    );
                    let c = ViewMut::rows(p, PANEL);
                    product_of_panels(n, q, k_turned, c, Accumulate::Replace);
                    let c = ViewMut::rows(dp, PANEL);
                    product_of_panels(n, grad, v_turned, c, Accumulate::Replace);
                    vectorised(
                        #[inline(always)]
                        || to_slopes(p, dp, rows),
                    );
                    let sums = Accumulate::add_if(from > 0);
                    let panels = Panels::new(p, n, keys, PANEL);
                    let c = ViewMut::rows(v_sums, PANEL);
                    product_of_panels(d, grad.transposed(), panels, c, sums);
                    let panels = Panels::new(dp, n, keys, PANEL);
                    let c = ViewMut::rows(k_sums, PANEL);
                    product_of_panels(d, q.transposed(), panels, c, sums);
                    dq.product_of_panels(from..from + n, View::rows(dp, PANEL), k, dq_sums);
                }
                write_turned(k_sums, &[norm; PANEL], dk);
                write_turned(v_sums, &[1.0; PANEL], dv);
            });
        };
        Panels::with(scale(d), k.transposed(), d, keys, |k_turned| {
            Panels::with(norm, k, keys, d, |k| {
                Panels::with(1.0, v.transposed(), d, keys, |v_turned| {
                    multiply(k_turned, k, v_turned);
                });
            });
        });
    }
}

/// Turns scores into probabilities P, and ∂L/∂P into that of the scores: P·(∂L/∂P − Σ P·∂L/∂P).
#[inline(always)]
fn to_slopes(p: &mut [f32], dp: &mut [f32], rows: &[Row]) {
    let (p, dp) = (p.as_chunks_mut::<PANEL>().0, dp.as_chunks_mut::<PANEL>().0);
    for ((p, dp), row) in p.iter_mut().zip(dp).zip(rows) {
        for (p, dp) in p.iter_mut().zip(dp) {
            *p = exp2(*p - row.largest) * row.share;
            *dp = *p * (*dp - row.along);
        }
    }
}
