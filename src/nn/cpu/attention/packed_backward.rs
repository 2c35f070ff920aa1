//! The gradients of attention on AMX: of keys and values they are summed as their transposes, so that what is packed of
//! the probabilities lies as these do.

use super::{AttentionSizes, BACKWARD_ROWS, Head, KEYS, powers, scale};
use crate::nn::cpu::amx::{Line, Operand, Packed, Side, lines, multiply_rows};
use crate::nn::cpu::gemm::{Accumulate, Strides, View};
use crate::nn::cpu::math::{dot, max, sum, vectorised};
use crate::nn::cpu::scratch;
use crate::nn::cpu::tile::Tile;

/// One head of one sample.
pub(super) fn backward(head: &Head, dq: Vec<Tile>, dk: Tile, dv: Tile) {
    let AttentionSizes { t, d, .. } = head.shape;
    let operand = |vectors, terms| Operand {
        side: Side::Right,
        vectors,
        terms,
    };
    let (by_key, by_value) = (operand(t, d), operand(d, t));
    // Rows as the unit fills them.
    let (width, stride) = (d.next_multiple_of(16), t.next_multiple_of(16));
    lines(2 * by_key.len() + by_value.len(), |packed| {
        let (of_keys, rest) = packed.split_at_mut(by_key.len());
        let (of_values, of_columns) = rest.split_at_mut(by_key.len());
        let strides = head.shape.strides();
        let (k, v) = (View::new(head.k, strides), View::new(head.v, strides));
        by_key.pack(k, 1.0, of_keys);
        by_key.pack(v, 1.0, of_values);
        by_value.pack(k.transposed(), 1.0, of_columns);
        let keys = Keys {
            keys: Packed::new(by_key, of_keys).padded(),
            values: Packed::new(by_key, of_values).padded(),
            columns: Packed::new(by_value, of_columns).padded(),
            stride,
            width,
        };
        let rows = BACKWARD_ROWS.min(head.shape.n).next_multiple_of(16);
        scratch::with(
            2 * rows * stride + 2 * width * stride + rows * width,
            |numbers| {
                let (p, rest) = numbers.split_at_mut(rows * stride);
                let (dp, rest) = rest.split_at_mut(rows * stride);
                let (dk_t, rest) = rest.split_at_mut(width * stride);
                let (dv_t, sums) = rest.split_at_mut(width * stride);
                dk_t.fill(0.0);
                dv_t.fill(0.0);
                let mut buffers = Buffers {
                    p,
                    dp,
                    dk_t,
                    dv_t,
                    sums,
                };
                for dq in dq {
                    keys.rows(head, dq, &mut buffers);
                }
                let Buffers { dk_t, dv_t, .. } = buffers;
                for (mut out, transposed) in [(dk, dk_t), (dv, dv_t)] {
                    for i in 0..t {
                        let column = transposed[i..].iter().step_by(stride);
                        out.row(i).iter_mut().zip(column).for_each(|(o, v)| *o = *v);
                    }
                }
            },
        );
    });
}

/// What all query rows of a head are multiplied with.
struct Keys<'a> {
    keys: Packed<'a>,
    values: Packed<'a>,
    /// The keys, as the matrix that gradients of scores are multiplied with.
    columns: Packed<'a>,
    /// From a row of scores to the next, and from a row of queries.
    stride: usize,
    width: usize,
}

struct Buffers<'a> {
    /// Probabilities of some query rows, and their gradients.
    p: &'a mut [f32],
    dp: &'a mut [f32],
    /// `[width, stride]`
    dk_t: &'a mut [f32],
    dv_t: &'a mut [f32],
    /// `[rows, width]`
    sums: &'a mut [f32],
}

impl Keys<'_> {
    /// The part of some query rows.
    fn rows(&self, head: &Head, mut dq: Tile, buffers: &mut Buffers) {
        let (rows, shape) = (dq.rows, head.shape);
        let AttentionSizes { t, d, .. } = shape;
        let left = |vectors, terms| Operand {
            side: Side::Left,
            vectors,
            terms,
        };
        let right = |vectors| Operand {
            side: Side::Right,
            vectors,
            terms: rows,
        };
        let (across, down, block) = (left(rows, d), left(d, rows), left(rows, KEYS.min(t)));
        let norm = 1.0 / (d as f32).sqrt();
        let most = 2 * (across.len() + down.len()) + block.len().max(right(KEYS.min(t)).len());
        lines(most, |packed| {
            let (of_q, packed) = packed.split_at_mut(across.len());
            let (of_g, packed) = packed.split_at_mut(across.len());
            let (of_q_t, packed) = packed.split_at_mut(down.len());
            let (of_g_t, scores) = packed.split_at_mut(down.len());
            let at = dq.from.0 * shape.width();
            let q = View::new(&head.q[at..], shape.strides());
            let g = View::new(&head.grad[at..], shape.strides());
            across.pack(q, scale(d), of_q);
            across.pack(g, 1.0, of_g);
            down.pack(q.transposed(), norm, of_q_t);
            down.pack(g.transposed(), 1.0, of_g_t);
            let (q, g) = (
                Packed::new(across, of_q).padded(),
                Packed::new(across, of_g).padded(),
            );
            let (q_t, g_t) = (
                Packed::new(down, of_q_t).padded(),
                Packed::new(down, of_g_t).padded(),
            );
            let Buffers {
                p,
                dp,
                dk_t,
                dv_t,
                sums,
            } = buffers;
            multiply_rows(q, self.keys, p, self.stride, Accumulate::Replace);
            vectorised(
                #[inline(always)]
                || {
                    for row in p.chunks_exact_mut(self.stride).take(rows) {
                        let row = &mut row[..t];
                        let largest = max(row);
                        powers(row, largest);
                        let share = 1.0 / sum(row);
                        row.iter_mut().for_each(|p| *p *= share);
                    }
                },
            );
            let pack = |operand: Operand, matrix: View, out: &mut [Line]| {
                operand.pack(matrix, 1.0, &mut out[..operand.len()]);
            };
            let strides = Strides::rows(self.stride);
            for from in (0..t).step_by(KEYS) {
                let n = KEYS.min(t - from);
                let values = self.values.vectors(from, KEYS);
                multiply_rows(g, values, &mut dp[from..], self.stride, Accumulate::Replace);
                let p = View::new(&p[from..], strides).transposed();
                pack(right(n), p, scores);
                let p = Packed::new(right(n), &scores[..right(n).len()]).padded();
                multiply_rows(g_t, p, &mut dv_t[from..], self.stride, Accumulate::Add);
            }
            vectorised(
                #[inline(always)]
                || {
                    let gradients = dp.chunks_exact_mut(self.stride).take(rows);
                    for (p, dp) in p.chunks_exact(self.stride).zip(gradients) {
                        let (p, dp) = (&p[..t], &mut dp[..t]);
                        let along = dot(p, dp);
                        for (dp, p) in dp.iter_mut().zip(p) {
                            *dp = p * (*dp - along);
                        }
                    }
                },
            );
            for from in (0..t).step_by(KEYS) {
                let n = KEYS.min(t - from);
                let ds = View::new(&dp[from..], strides);
                let block = left(rows, n);
                pack(block, ds, scores);
                let by_row = Packed::new(block, &scores[..block.len()]).padded();
                let accumulate = match from {
                    0 => Accumulate::Replace,
                    _ => Accumulate::Add,
                };
                let columns = self.columns.terms(from, n);
                multiply_rows(by_row, columns, sums, self.width, accumulate);
                pack(right(n), ds.transposed(), scores);
                let by_key = Packed::new(right(n), &scores[..right(n).len()]).padded();
                multiply_rows(q_t, by_key, &mut dk_t[from..], self.stride, Accumulate::Add);
            }
            for i in 0..rows {
                let sums = &sums[i * self.width..][..d];
                dq.row(i)
                    .iter_mut()
                    .zip(sums)
                    .for_each(|(o, s)| *o = s * norm);
            }
        });
    }
}
