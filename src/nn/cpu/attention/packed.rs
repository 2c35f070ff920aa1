//! Attention on AMX: the keys and values of a head are packed once for all its queries.

use rayon::prelude::*;

use super::{AttentionSizes, KEYS, ROWS, in_heads, powers, scale};
use crate::nn::cpu::amx::{Operand, Packed, Side, lines, multiply_rows};
use crate::nn::cpu::gemm::{Accumulate, View};
use crate::nn::cpu::math::{exp2, max, sum, vectorised};
use crate::nn::cpu::scratch;
use crate::nn::cpu::tile::Tile;

/// As the other of this name.
pub(super) fn forward(shape: AttentionSizes, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]) {
    let AttentionSizes { t, heads, d, .. } = shape;
    let (keys, values) = (shape.keys(), shape.values());
    let of_head = keys.len() + values.len();
    let mut tiles = in_heads(shape.tiles(out, ROWS), shape);
    let at_once = rayon::current_num_threads();
    for (group, tiles) in tiles.chunks_mut(at_once).enumerate() {
        lines(tiles.len() * of_head, |packed| {
            let each = packed.par_chunks_mut(of_head).enumerate();
            each.for_each(|(i, packed)| {
                let head = group * at_once + i;
                let (sample, at) = (head / heads, (0, head % heads * d));
                let (of_keys, of_values) = packed.split_at_mut(keys.len());
                let k = View::new(shape.head(k, t, sample, at), shape.strides());
                let v = View::new(shape.head(v, t, sample, at), shape.strides());
                keys.pack(k, 1.0, of_keys);
                values.pack(v.transposed(), 1.0, of_values);
            });
            let tiles = tiles.iter_mut().zip(packed.chunks_exact(of_head));
            let all: Vec<_> = tiles
                .enumerate()
                .flat_map(|(i, (tiles, packed))| {
                    let sample = (group * at_once + i) / heads;
                    let (of_keys, of_values) = packed.split_at(keys.len());
                    let k = Packed::new(keys, of_keys);
                    let v = Packed::new(values, of_values);
                    tiles.drain(..).map(move |tile| (tile, sample, k, v))
                })
                .collect();
            all.into_par_iter().for_each(|(mut tile, sample, k, v)| {
                let q = View::new(shape.head(q, shape.n, sample, tile.from), shape.strides());
                attend(shape, &mut tile, q, k, v);
            });
        });
    }
}

impl AttentionSizes {
    fn keys(self) -> Operand {
        Operand {
            side: Side::Right,
            vectors: self.t,
            terms: self.d,
        }
    }

    fn values(self) -> Operand {
        Operand {
            side: Side::Right,
            vectors: self.d,
            terms: self.t,
        }
    }
}

/// One tile of the output: see the other of this name.
fn attend(shape: AttentionSizes, out: &mut Tile, q: View, k: Packed, v: Packed) {
    let AttentionSizes { t, d, .. } = shape;
    let vectors = out.rows;
    let left = |terms| Operand {
        side: Side::Left,
        vectors,
        terms,
    };
    // Rows and columns as the unit fills them.
    let (rows, width) = (out.rows.next_multiple_of(16), d.next_multiple_of(16));
    let most = t.next_multiple_of(16).min(KEYS);
    let (of_q, of_p) = (left(d), left(most));
    let mut state = [(f32::NEG_INFINITY, 0f32); ROWS];
    scratch::with(rows * (most + width), |numbers| {
        let (scores, sums) = numbers.split_at_mut(rows * most);
        lines(of_q.len() + of_p.len(), |packed| {
            let (packed_q, packed_p) = packed.split_at_mut(of_q.len());
            of_q.pack(q, scale(d), packed_q);
            let q = Packed::new(of_q, packed_q).padded();
            for from in (0..t).step_by(KEYS) {
                let keys = KEYS.min(t - from);
                let stride = keys.next_multiple_of(16);
                let k = k.vectors(from, keys).padded();
                multiply_rows(q, k, scores, stride, Accumulate::Replace);
                vectorised(
                    #[inline(always)]
                    || {
                        let rows = scores.chunks_exact_mut(stride).zip(&mut state);
                        for (i, (row, (largest, total))) in rows.take(out.rows).enumerate() {
                            let row = &mut row[..keys];
                            let before = *largest;
                            let highest = max(row);
                            *largest = if highest > before { highest } else { before };
                            powers(row, *largest);
                            let shrink = exp2(before - *largest);
                            *total = *total * shrink + sum(row);
                            if from > 0 {
                                for s in &mut sums[i * width..][..width] {
                                    *s *= shrink;
                                }
                            }
                        }
                    },
                );
                let of_p = left(keys);
                let packed_p = &mut packed_p[..of_p.len()];
                of_p.pack(View::rows(scores, stride), 1.0, packed_p);
                let accumulate = match from {
                    0 => Accumulate::Replace,
                    _ => Accumulate::Add,
                };
                let p = Packed::new(of_p, packed_p).padded();
                multiply_rows(p, v.terms(from, keys).padded(), sums, width, accumulate);
            }
        });
        for (i, (_, total)) in state.iter().enumerate().take(out.rows) {
            let share = 1.0 / total;
            let sums = &sums[i * width..][..d];
            out.row(i)
                .iter_mut()
                .zip(sums)
                .for_each(|(o, s)| *o = s * share);
        }
    });
}
