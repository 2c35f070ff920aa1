//! The forward pass with products in bf16: keys and values of a head are packed once, probabilities as they come.

use std::ops::Range;

use rayon::prelude::*;

use super::super::bf16::{Lines, Packed, Side, add_product, pack, pack_here, packed_len};
use super::super::gemm::View;
use super::super::scratch;
use super::super::tile::{Tile, tiles};
use super::{AttentionSizes, KEYS, QUERIES, Softmax, scale, write_turned};

/// The output of `q: [b, n, c]` with `k` and `v: [b, t, c]`, written to `out: [b, n, c]`.
pub(super) fn forward(shape: AttentionSizes, q: &[f32], [k, v]: [&[f32]; 2], out: &mut [f32]) {
    let (of_keys, of_values) = (packed_len(shape.t, shape.d), packed_len(shape.d, shape.t));
    let heads = shape.b * shape.heads;
    scratch::with(heads * (of_keys + of_values), |words| {
        let (keys, values) = words.split_at_mut(heads * of_keys);
        let of_head = |x, head: usize| {
            let column = head % shape.heads * shape.d;
            shape.rows(shape.head(x, shape.t, head / shape.heads, (0, column)), 0)
        };
        for head in 0..heads {
            let keys = &mut keys[head * of_keys..][..of_keys];
            pack(
                Lines::rows(of_head(k, head)),
                shape.t,
                shape.d,
                Side::Left,
                keys,
            );
            let values = &mut values[head * of_values..][..of_values];
            pack(
                Lines::columns(of_head(v, head)),
                shape.d,
                shape.t,
                Side::Left,
                values,
            );
        }
        let (keys, values) = (&*keys, &*values);
        let tiles = shape.tiles(out, QUERIES).into_par_iter();
        tiles.for_each(|(sample, mut tile)| {
            let head = sample * shape.heads + tile.from.1 / shape.d;
            let q = shape.rows(shape.head(q, shape.n, sample, tile.from), 0);
            let keys = Packed::new(&keys[head * of_keys..], shape.d);
            let values = Packed::new(&values[head * of_values..], shape.t);
            attend(shape, &mut tile, q, keys, values);
        });
    });
}

/// One tile of the output, of queries that `q` begins with.
fn attend(shape: AttentionSizes, out: &mut Tile, q: View, keys: Packed, values: Packed) {
    let (d, queries) = (shape.d, out.rows);
    let of_shares = packed_len(QUERIES, KEYS);
    let parts = [
        QUERIES * d,
        packed_len(QUERIES, d),
        KEYS * QUERIES,
        d * QUERIES,
        of_shares,
    ];
    scratch::with(parts.iter().sum(), |buffer| {
        let (scaled, buffer) = buffer.split_at_mut(parts[0]);
        let (q_words, buffer) = buffer.split_at_mut(parts[1]);
        let (scores, buffer) = buffer.split_at_mut(parts[2]);
        let (sums, shares) = buffer.split_at_mut(parts[3]);
        let (from, width, _) = q.parts();
        for (i, scaled) in scaled.chunks_exact_mut(d.max(1)).take(queries).enumerate() {
            for (scaled, q) in scaled.iter_mut().zip(&from[i * width..][..d]) {
                *scaled = q * scale(d);
            }
        }
        pack_here(
            Lines::rows(View::rows(scaled, d)),
            queries,
            d,
            Side::Right,
            q_words,
        );
        let q = Packed::new(q_words, d);
        let mut softmax = Softmax::new();
        sums.fill(0.0);
        for (from, count) in shape.blocks() {
            let scores = &mut scores[..count * QUERIES];
            scores.fill(0.0);
            add(keys.from(from), q, scores);
            softmax.add_to(scores, (from > 0).then_some(&mut *sums));
            let shares = &mut shares[..packed_len(QUERIES, count)];
            let columns = Lines::columns(View::rows(scores, QUERIES));
            pack_here(columns, QUERIES, count, Side::Right, shares);
            let block: Range<usize> = from..from + count;
            add(values.within(block), Packed::new(shares, count), sums);
        }
        write_turned(sums, &softmax.shares(), out);
    });
}

/// Adds a product to rows of as many columns as there are queries.
fn add(a: Packed, b: Packed, rows: &mut [f32]) {
    let count = rows.len() / QUERIES;
    for mut tile in tiles(rows, QUERIES, count.max(1), QUERIES) {
        add_product(a, b, &mut tile);
    }
}
