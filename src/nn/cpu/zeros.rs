//! Zeros that kernels write over or add to.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Numbers that one task lays: 1 MiB.
const RUN: usize = 1 << 18;

/// `len` zeros, laid by all threads: while one lays hundreds of megabytes, the others have nothing to do.
pub(super) fn zeros(len: usize) -> Vec<f32> {
    if len <= RUN {
        return vec![0.0; len];
    }
    let mut numbers = Vec::with_capacity(len);
    let runs = numbers.spare_capacity_mut()[..len].par_chunks_mut(RUN);
    runs.for_each(|run| run.fill(MaybeUninit::new(0.0)));
    // SAFETY: the runs are the first `len` numbers, all of them, and each was written.
    #[expect(unsafe_code, reason = "what was written through the spare capacity")]
    unsafe {
        numbers.set_len(len);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_numbers_are_zeros() {
        for len in [0, 1, RUN, RUN + 1, 3 * RUN - 5] {
            let zeros = zeros(len);
            assert!(zeros.len() == len && zeros.iter().all(|z| z.to_bits() == 0));
        }
    }
}
