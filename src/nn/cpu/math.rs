//! Functions of the reals that the compiler can vectorise, which those of libm it cannot.

use pulp::Arch;

/// The widest vector instructions that this machine has. Under Miri, which cannot ask it, none.
pub(super) fn instructions() -> Arch {
    if cfg!(miri) {
        Arch::Scalar
    } else {
        Arch::new()
    }
}

/// Runs `f` compiled for these [`instructions`], if it and the closures in it are marked `#[inline(always)]`: what is
/// not inlined here is compiled for the oldest machine, several times slower.
#[inline(always)]
pub(super) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    instructions().dispatch(f)
}

/// 2ˣ, within 2e-7 of itself, for −126 ≤ x ≤ 127; beyond, the value at the nearer end. NaN stays NaN.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    // Adding 1.5·2²³ leaves no bits for a fraction: x rounded, in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -126.0 { -126.0 } else { x };
    let x = if x > 127.0 { 127.0 } else { x };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND); // −0.5..=0.5
    // Minimax in relative error, 2e-9.
    let p = 1.535_336e-4_f32.mul_add(r, 1.339_887_4e-3);
    let p = p.mul_add(r, 9.618_437e-3);
    let p = p.mul_add(r, 5.550_332_4e-2);
    let p = p.mul_add(r, 2.402_264_8e-1);
    let p = p.mul_add(r, 6.931_472e-1);
    let p = p.mul_add(r, 1.0);
    let power = shifted.to_bits().wrapping_add(127) << 23;
    p * f32::from_bits(power)
}

/// eˣ, within 2e-7·(1 + |x|) of itself, for −87 ≤ x ≤ 88; beyond, the value at the nearer end of what [`exp2`] takes.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    exp2(x * std::f32::consts::LOG2_E)
}

/// σ(x) = 1/(1 + e⁻ˣ), within 2e-7.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The normal distribution Φ(x) = (1 + erf(x/√2))/2, within 1e-7; for |x| > 7 the value at 7.
///
/// Φ(−t) = e^−M(t) for t ≥ 0, where M has no zero and no sign to lose: minimax of degree 8, weighted with the error of
/// t·Φ(−t) in the end, 1.6e-8.
#[inline(always)]
pub(super) fn normal_cdf(x: f32) -> f32 {
    let t = x.abs();
    let t = if t > 7.0 { 7.0 } else { t };
    let m = 1.618_463e-6_f32.mul_add(t, -2.338_526_8e-5);
    let m = m.mul_add(t, 1.118_003_4e-4);
    let m = m.mul_add(t, 1.328_788_2e-4);
    let m = m.mul_add(t, -4.939_966_4e-3);
    let m = m.mul_add(t, 3.641_352_4e-2);
    let m = m.mul_add(t, 3.182_92e-1);
    let m = m.mul_add(t, 7.978_859e-1);
    let tail = 0.5 * exp(-m * t);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// The normal density φ(x) = e^(−x²/2)/√(2π), within 1e-7.
#[inline(always)]
pub(super) fn normal_pdf(x: f32) -> f32 {
    0.398_942_3 * exp(-0.5 * x * x)
}

/// Σ x, within 16 lanes and then across them.
#[inline(always)]
pub(super) fn sum(x: &[f32]) -> f32 {
    fold(x, 0.0, |a, b| a + b)
}

/// Σ f(x, y).
#[inline(always)]
pub(super) fn sum_of(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (runs, others) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest = runs.remainder().iter().zip(others.remainder());
    let rest: f32 = rest.map(|(&x, &y)| f(x, y)).sum();
    for (x, y) in runs.zip(others) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f(x, y);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Σ f(x, y) of very many, in f32 by blocks and in f64 across them.
#[inline(always)]
pub(super) fn sum_in_f64(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f64 {
    const BLOCK: usize = 64 * LANES;
    let blocks = x.chunks(BLOCK).zip(y.chunks(BLOCK));
    blocks.map(|(x, y)| f64::from(sum_of(x, y, &f))).sum()
}

/// Two registers of AVX-512.
const LANES: usize = 32;

#[inline(always)]
fn fold(x: &[f32], start: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let runs = x.chunks_exact(LANES);
    let rest = runs.remainder().iter().fold(start, |a, &b| f(a, b));
    for run in runs {
        for (lane, &v) in lanes.iter_mut().zip(run) {
            *lane = f(*lane, v);
        }
    }
    lanes.iter().fold(rest, |a, &b| f(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(from: f32, to: f32, error: impl Fn(f32) -> f64) -> f64 {
        let at = |i: u32| from + (to - from) * (i as f32 / 1e5);
        (0..=100_000).map(|i| error(at(i))).fold(0.0, f64::max)
    }

    /// Φ by its series around 0 and by its continued fraction far from it.
    fn cdf(x: f64) -> f64 {
        let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let t = x.abs();
        let tail = if t < 3.0 {
            let (mut term, mut sum) = (t, t);
            for k in 1..200 {
                term *= t * t / f64::from(2 * k + 1);
                sum += term;
            }
            0.5 - density * sum
        } else {
            density / (1..200).rev().fold(t, |f, k| t + f64::from(k) / f)
        };
        if x < 0.0 { tail } else { 1.0 - tail }
    }

    #[test]
    fn errors_against_f64_are_as_stated() {
        let relative = |got: f32, want: f64| (f64::from(got) / want - 1.0).abs();
        let absolute = |got: f32, want: f64| (f64::from(got) - want).abs();
        let exp2_error = worst(-126.0, 127.0, |x| relative(exp2(x), f64::from(x).exp2()));
        assert!(exp2_error < 2e-7, "{exp2_error:e}");
        let exp_error = worst(-87.0, 88.0, |x| {
            relative(exp(x), f64::from(x).exp()) / (1.0 + f64::from(x.abs()))
        });
        assert!(exp_error < 2e-7, "{exp_error:e}");
        let of = |x: f32| 1.0 / (1.0 + (-f64::from(x)).exp());
        let sigmoid_error = worst(-100.0, 100.0, |x| absolute(sigmoid(x), of(x)));
        assert!(sigmoid_error < 2e-7, "{sigmoid_error:e}");
        let cdf_error = worst(-12.0, 12.0, |x| absolute(normal_cdf(x), cdf(f64::from(x))));
        assert!(cdf_error < 1e-7, "{cdf_error:e}");
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let pdf_error = worst(-12.0, 12.0, |x| {
            absolute(normal_pdf(x), density(f64::from(x)))
        });
        assert!(pdf_error < 1e-7, "{pdf_error:e}");
    }

    #[test]
    fn ends_and_nan_are_kept() {
        assert!(exp2(f32::NAN).is_nan() && normal_cdf(f32::NAN).is_nan());
        assert_eq!(exp2(-1e9), exp2(-126.0));
        assert_eq!(exp2(1e9), exp2(127.0));
        assert_eq!((exp2(0.0), exp2(5.0), normal_cdf(0.0)), (1.0, 32.0, 0.5));
    }

    #[test]
    fn folds_take_all_elements() {
        for n in [0usize, 1, 31, 32, 33, 100] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            let want: f32 = x.iter().sum();
            assert!((sum(&x) - want).abs() < 1e-3);
            let squares = sum_of(&x, &x, |x, y| x * y);
            assert!((squares - x.iter().map(|v| v * v).sum::<f32>()).abs() < 0.1);
        }
    }
}
