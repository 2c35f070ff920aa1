//! The random numbers of `torch.Generator("cpu").manual_seed(seed)`, so that a seed means the same
//! here and in PyTorch.
//!
//! The bits come from MT19937 (Matsumoto and Nishimura 1998). What PyTorch makes of them is fixed
//! by its source, not by a standard: `ATen/native/cpu/DistributionTemplates.h` for
//! [`Generator::randn`] and `ATen/core/DistributionsHelper.h` for [`Generator::randint`].

use std::f64::consts::PI;

use crate::{Error, Result};

/// Words of state of MT19937, `n` in the paper.
const STATE: usize = 624;
/// Distance of the recurrence, `m` in the paper.
const SHIFT: usize = 397;
/// Normals are made in blocks of this many; fewer than one block takes another path.
const BLOCK: usize = 16;
/// 2π, rounded before it meets the uniform: PyTorch's kernels work in f32 here, and a finer product
/// would be 2e-6 off.
const TAU_F32: f32 = std::f32::consts::TAU;
/// From this range on an integer takes two draws, so that the modulo skews it by less than 5 %.
const WIDE_RANGE: u64 = 1 << 28;

/// PyTorch's CPU generator: the same seed and the same calls give the same numbers.
///
/// State carries over between calls as it does there, down to the spare normal that an odd small
/// [`Generator::randn`] leaves for the next small one.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    state: [u32; STATE],
    /// The next word of `state` to hand out; [`STATE`] when all are used.
    next: usize,
    /// The second normal of a Box-Muller pair of which only the first was asked for.
    spare: Option<f64>,
}

impl Generator {
    /// `torch.Generator("cpu").manual_seed(seed)`: only the low 32 bits of `seed` count, as in
    /// PyTorch.
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = [0; STATE];
        let mut word = (seed & 0xffff_ffff) as u32;
        for (position, slot) in state.iter_mut().enumerate() {
            if position > 0 {
                word = 1_812_433_253_u32
                    .wrapping_mul(word ^ (word >> 30))
                    .wrapping_add(position as u32);
            }
            *slot = word;
        }
        Self {
            state,
            next: STATE,
            spare: None,
        }
    }

    /// `torch.randn(n)` in f32: `n` standard normals.
    ///
    /// From 16 on, uniforms `u` of 24 bits fill the whole buffer, and each block of 16 becomes 8
    /// pairs `(j, j + 8)` by Box-Muller: `sqrt(-2 ln(1 - u_j)) · (cos, sin)(2π u_{j+8})`. If `n` is
    /// no multiple of 16, the last 16 values are drawn afresh. Below 16, normals are made one by
    /// one from 53-bit uniforms in f64.
    ///
    /// # Numerics
    /// PyTorch's own last bit depends on its CPU's instruction set; this agrees with it to 1e-6.
    pub(crate) fn randn(&mut self, n: usize) -> Vec<f32> {
        if n < BLOCK {
            return (0..n).map(|_| self.normal() as f32).collect();
        }
        let mut values: Vec<f32> = (0..n).map(|_| self.uniform()).collect();
        values.chunks_exact_mut(BLOCK).for_each(box_muller);
        if !n.is_multiple_of(BLOCK) {
            let tail = &mut values[n - BLOCK..];
            tail.fill_with(|| self.uniform());
            box_muller(tail);
        }
        values
    }

    /// `torch.randint(low, high, (n,))`: `n` integers in `low..high`.
    ///
    /// # Errors
    /// [`Error::Value`] if the range is empty.
    pub(crate) fn randint(&mut self, low: i64, high: i64, n: usize) -> Result<Vec<i64>> {
        if high <= low {
            return Err(Error::value(
                "randint",
                format!("an upper bound above {low}"),
                high,
            ));
        }
        // The true difference lies in 1..2^64, so the wrapped one is exact as u64.
        let range = high.wrapping_sub(low) as u64;
        let draw = |_| {
            let bits = if range >= WIDE_RANGE {
                self.word64()
            } else {
                u64::from(self.word())
            };
            low.wrapping_add((bits % range) as i64)
        };
        Ok((0..n).map(draw).collect())
    }

    /// The next 32 bits.
    fn word(&mut self) -> u32 {
        if self.next == STATE {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// The next 64 bits, high half first.
    fn word64(&mut self) -> u64 {
        let high = u64::from(self.word());
        high << 32 | u64::from(self.word())
    }

    /// The recurrence of MT19937 over the whole state.
    fn refill(&mut self) {
        for i in 0..STATE {
            let mixed = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE] & 0x7fff_ffff);
            let twist = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + SHIFT) % STATE] ^ (mixed >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// A uniform of 24 bits in `[0, 1)`.
    fn uniform(&mut self) -> f32 {
        (self.word() & 0x00ff_ffff) as f32 / (1_u32 << 24) as f32
    }

    /// A uniform of 53 bits in `[0, 1)`.
    fn uniform64(&mut self) -> f64 {
        (self.word64() & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64
    }

    /// One standard normal; its pair is kept for the next call.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let theta = 2.0 * PI * self.uniform64();
        let radius = (-2.0 * (-self.uniform64()).ln_1p()).sqrt();
        self.spare = Some(radius * theta.sin());
        radius * theta.cos()
    }
}

/// Turns a block of 16 uniforms into 16 normals, in place.
fn box_muller(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        // `1 - u` lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - *a).ln()).sqrt();
        let theta = TAU_F32 * *b;
        (*a, *b) = (radius * theta.cos(), radius * theta.sin());
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::Golden;
    use super::*;

    /// PyTorch computes logarithm, sine and cosine in f32 with other approximations than the
    /// system's, each off by an ulp or two, on values up to 5.8. The worst seen is 4.8e-7.
    const TOLERANCE: f32 = 1e-6;

    #[track_caller]
    fn assert_near(name: &str, got: &[f32], want: &[f32]) {
        assert_eq!(got.len(), want.len(), "{name}: length");
        for (index, (got, want)) in got.iter().zip(want).enumerate() {
            assert!(
                (got - want).abs() <= TOLERANCE,
                "{name}[{index}]: {got}, torch has {want}"
            );
        }
    }

    #[test]
    fn normals_are_torchs() {
        let golden = Golden::noise();
        let mut cases = 0;
        for name in golden.names().filter(|name| name.starts_with("randn.")) {
            let mut fields = name.split('.').skip(1);
            let seed = fields.next().unwrap().parse().unwrap();
            let n: usize = fields.next().unwrap().parse().unwrap();
            let got = Generator::new(seed).randn(n);
            let want = golden.f32(name);
            let head = want.len() - want.len().min(40);
            assert_near(name, &got[..head], &want[..head]);
            assert_near(name, &got[n - (want.len() - head)..], &want[head..]);
            cases += 1;
        }
        assert_eq!(cases, 6 * 13);
    }

    #[test]
    fn integers_are_torchs() {
        let golden = Golden::noise();
        let mut cases = 0;
        for name in golden.names().filter(|name| name.starts_with("randint.")) {
            let fields: Vec<i64> = name
                .split('.')
                .skip(1)
                .map(|field| field.parse().unwrap())
                .collect();
            let want = golden.i64(name);
            let mut generator = Generator::new(fields[0] as u64);
            assert_eq!(
                generator.randint(fields[1], fields[2], want.len()).unwrap(),
                want,
                "{name}"
            );
            cases += 1;
        }
        assert_eq!(cases, 6 * 7);
    }

    /// The sequence of `make_sampling.py`: an odd small draw leaves a spare normal that block draws
    /// and integers pass by.
    #[test]
    fn state_carries_over_between_calls() {
        let golden = Golden::noise();
        for seed in [0, 42, 1 << 31] {
            let mut generator = Generator::new(seed);
            let mut integers = generator.randint(0, 1000, 2).unwrap();
            let mut normals = generator.randn(3);
            normals.extend(generator.randn(32));
            normals.extend(generator.randn(5));
            integers.extend(generator.randint(0, 1 << 40, 3).unwrap());
            normals.extend(generator.randn(1));
            normals.extend(generator.randn(2));
            normals.extend(generator.randn(33));
            integers.extend(generator.randint(-5, 5, 4).unwrap());
            normals.extend(generator.randn(1));
            assert_eq!(integers, golden.i64(&format!("mixed.{seed}.integers")));
            assert_near(
                "mixed",
                &normals,
                &golden.f32(&format!("mixed.{seed}.normals")),
            );
        }
    }

    #[test]
    fn only_the_low_half_of_a_seed_counts() {
        assert_eq!(
            Generator::new((1 << 40) + 7).randn(20),
            Generator::new(7).randn(20)
        );
    }

    #[test]
    fn empty_draws_and_ranges() {
        let mut generator = Generator::new(0);
        assert!(generator.randn(0).is_empty());
        assert!(generator.randint(0, 1, 0).unwrap().is_empty());
        assert!(generator.randint(3, 3, 1).is_err());
        assert!(generator.randint(i64::MIN, i64::MAX, 4).is_ok());
    }
}
