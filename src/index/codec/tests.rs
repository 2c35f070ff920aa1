use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// The bytes of a set of indices below `universe`.
///
/// # Errors
/// [`Error::Index`] if the indices are not strictly increasing and below `universe`, or if `universe` is above 2^32.
fn encode(indices: &[u32], universe: u64) -> Result<Vec<u8>> {
    let coded = Coded::new(indices.iter().copied(), universe)?;
    Ok(coded.bytes.into_vec())
}

/// The set of indices below `universe` that these bytes are the encoding of.
///
/// The bytes are not trusted: nothing is allocated before all of them are checked, no more than `max_count` indices
/// then, and the time is proportional to their number.
///
/// # Errors
/// [`Error::Index`] if the bytes are not what [`encode`] makes, or are more than `max_count` indices.
fn decode(bytes: &[u8], universe: u64, max_count: usize) -> Result<Vec<u32>> {
    Ok(Coded::read(bytes, universe, max_count)?.to_vec())
}

/// A small generator that needs no crate (splitmix64).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A random set of exactly `count` indices below `universe`.
fn random_set(universe: u64, count: u64, seed: u64) -> Vec<u32> {
    let mut state = seed;
    let mut set = Vec::new();
    while (set.len() as u64) < count {
        // Draws what is still missing; duplicates fall out until there are enough others.
        set.extend((set.len() as u64..count).map(|_| (random(&mut state) % universe) as u32));
        set.sort_unstable();
        set.dedup();
    }
    set
}

/// log2 of the number of sets of `count` out of `universe`, exactly.
fn entropy(universe: u64, count: u64) -> f64 {
    (1..=count)
        .map(|i| ((universe - count + i) as f64).log2() - (i as f64).log2())
        .sum()
}

#[test]
fn known_bytes() {
    // Gaps 3, 0, 6 with m = 3, w = 1, s = 1: 10|0, 0|0, 110|0, then one bit of padding.
    assert_eq!(
        encode(&[3, 4, 11], 12).unwrap(),
        [3, 0b1000_0110, 0b0111_1111]
    );
    assert!(encode(&[], 12).unwrap().is_empty());
    assert_eq!(encode(&[0], 1).unwrap(), [1, 0b0111_1111]);
    // The greatest index of the greatest universe.
    let last = encode(&[u32::MAX], 1 << 32).unwrap();
    assert_eq!(decode(&last, 1 << 32, 1).unwrap(), [u32::MAX]);
    let all: Vec<u32> = (0..1000).collect();
    let bytes = encode(&all, 1000).unwrap();
    assert_eq!(bytes.len(), 1 + 125);
    assert_eq!(decode(&bytes, 1000, 1000).unwrap(), all);
}

#[test]
fn divisors_increase_and_fit() {
    let divisors: Vec<u64> = (1..=LAST_DIVISOR)
        .map(|code| u64::from(Divisor::new(code).value))
        .collect();
    assert_eq!(divisors[..12], [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16]);
    assert!(divisors.is_sorted_by(|a, b| a < b));
    assert_eq!(divisors.last(), Some(&(7 << 29)));
    for code in 1..=LAST_DIVISOR {
        let divisor = Divisor::new(code);
        assert_eq!(
            u64::from(divisor.short),
            (2_u64 << divisor.width) - u64::from(divisor.value)
        );
    }
}

#[test]
fn the_divisor_is_the_best_of_all() {
    for (universe, count, seed) in [
        (100, 1, 1),
        (5000, 5, 2),
        (5000, 700, 3),
        (1 << 32, 40, 4),
        (90, 90, 5),
    ] {
        let indices = random_set(universe, count, seed);
        let size = |code: u8| -> u64 {
            gaps(indices.iter().copied())
                .map(|gap| Divisor::new(code).bits(gap))
                .sum()
        };
        let best = (1..=LAST_DIVISOR).min_by_key(|&code| (size(code), code));
        let end = u64::from(*indices.last().unwrap()) + 1;
        assert_eq!(
            best_divisor(indices.iter().copied(), indices.len() as u64, end),
            best
        );
    }
}

/// How far the encodings of random sets are above the entropy, on average of some draws, in percent.
fn overhead(universe: u64, count: u64) -> f64 {
    let draws = (20_000 / count).clamp(1, 64);
    let bound = entropy(universe, count);
    let bits = (0..draws).map(|seed| {
        let bits = encode(&random_set(universe, count, seed), universe)
            .unwrap()
            .len() as f64
            * 8.0;
        // Header, padding and the luck of one draw, for sets so small that three percent are less than a byte.
        assert!(
            bits <= bound * 1.03 + 24.0,
            "{count} of {universe}: {bits} bits, entropy {bound:.1}"
        );
        bits
    });
    (bits.sum::<f64>() / draws as f64 / bound - 1.0) * 100.0
}

#[test]
fn sizes_are_within_three_percent_of_the_entropy() {
    for universe in [5_000, 20_480, 102_400, 245_760] {
        for density in [
            0.001, 0.002, 0.004, 0.005, 0.01, 0.016, 0.02, 0.03, 0.05, 0.07, 0.1, 0.113, 0.15,
            0.18, 0.2,
        ] {
            let count = (universe as f64 * density).round() as u64;
            let over = overhead(universe, count);
            if count >= 80 {
                assert!(
                    over <= 3.0,
                    "{universe} at {density}: {over:.2} % over the entropy"
                );
            }
        }
    }
}

#[test]
#[ignore = "prints the table of the README; run it with --release --nocapture"]
fn table_of_sizes() {
    for universe in [5_000, 20_480, 102_400, 245_760, 983_040, 1_638_400] {
        let mut line = format!("{universe:9}");
        for density in [
            0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2,
        ] {
            let count = (universe as f64 * density).round() as u64;
            line += &format!(" {:6.2}", overhead(universe, count));
        }
        eprintln!("{line}");
    }
    for universe in [102_400, 1_638_400] {
        let step =
            |i: i32| (universe as f64 * 0.001 * 200_f64.powf(f64::from(i) / 60.0)).round() as u64;
        let worst = (0..=60)
            .map(|i| (overhead(universe, step(i)), step(i)))
            .fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a });
        eprintln!(
            "{universe:9} worst of 61 densities: {:.2} % at {} indices",
            worst.0, worst.1
        );
    }
}

#[test]
fn lies_are_refused() {
    let refuse = |bytes: &[u8], universe, max, wants: &str| {
        let error = decode(bytes, universe, max).unwrap_err().to_string();
        assert!(error.contains(wants), "{bytes:?}: {error}");
    };
    refuse(&[0, 0], 10, 10, "divisor code");
    refuse(&[124, 0], 10, 10, "divisor code");
    refuse(&[255, 0], 10, 10, "divisor code");
    refuse(&[1], 10, 10, "fewest bits"); // the empty set is no bytes
    refuse(&[1, 0x7f, 0xff], 10, 10, "padding");
    refuse(&[1, 0xff], 10, 10, "padding");
    refuse(&[17, 0], 100, 10, "whole last gap"); // m = 40: six bits, then two of a second gap
    refuse(&[1, 0, 0], 16, 15, "at most 15");
    refuse(&[1, 0, 0], 15, 99, "below 15");
    refuse(&[4, 0b0010_1111], 99, 9, "fewest bits");
    let mut unary = vec![123];
    unary.extend([0xff; 40]);
    unary.extend([0; 8]);
    refuse(&unary, 1 << 32, 9, "below");
    assert!(encode(&[2, 2], 9).is_err());
    assert!(encode(&[3, 2], 9).is_err());
    assert!(encode(&[9], 9).is_err());
    assert!(encode(&[], (1 << 32) + 1).is_err());
    assert!(decode(&[], (1 << 32) + 1, 0).is_err());
}

/// Sets of every kind: sparse, dense, clustered, and with the extremes of the universe.
fn sets() -> impl Strategy<Value = Vec<u32>> {
    let sparse = prop::collection::btree_set(any::<u32>(), 0..200);
    let dense = prop::collection::btree_set(0_u32..300, 0..300);
    let bursts = prop::collection::vec((any::<u32>(), 0_u32..40), 0..10).prop_map(|bursts| {
        bursts
            .into_iter()
            .flat_map(|(start, length)| (0..length).map(move |i| start.saturating_add(i)))
            .collect()
    });
    prop_oneof![sparse, dense, bursts].prop_map(|set: BTreeSet<u32>| set.into_iter().collect())
}

proptest! {
    #[test]
    fn sets_come_back(indices in sets()) {
        let universe = indices.last().map_or(0, |&last| u64::from(last) + 1);
        let bytes = encode(&indices, universe).unwrap();
        prop_assert_eq!(&decode(&bytes, universe, indices.len()).unwrap(), &indices);
        prop_assert_eq!(decode(&bytes, 1 << 32, usize::MAX).unwrap(), indices);
    }

    #[test]
    fn accepted_bytes_encode_again_to_themselves(bytes in prop::collection::vec(any::<u8>(), 0..24), code in 1_u8..40) {
        for bytes in [bytes.clone(), [&[code], &bytes[..]].concat()] {
            if let Ok(indices) = decode(&bytes, 1 << 32, usize::MAX) {
                prop_assert_eq!(encode(&indices, 1 << 32).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn one_flipped_bit_is_another_set_or_refused(indices in sets(), at in any::<prop::sample::Index>()) {
        let mut bytes = encode(&indices, 1 << 32).unwrap();
        if !bytes.is_empty() {
            let at = at.index(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            if let Ok(others) = decode(&bytes, 1 << 32, usize::MAX) {
                prop_assert_ne!(&others, &indices);
                prop_assert_eq!(encode(&others, 1 << 32).unwrap(), bytes);
            }
        }
    }
}
