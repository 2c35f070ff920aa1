//! From the ends of a noise schedule to its `ᾱ_t`, in the precision of PyTorch.

use std::f64::consts::PI;

/// The shape of the betas between the two ends that a file gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BetaSchedule {
    /// Linear.
    Linear,
    /// Linear in the square root.
    ScaledLinear,
    /// Given by `ᾱ` (Nichol and Dhariwal 2021, eq. 17); the ends do not count.
    Cosine,
}

/// `β_t`, the share of variance that step `t` of training replaces by noise.
pub(super) fn betas(schedule: BetaSchedule, (start, end): (f64, f64), steps: usize) -> Vec<f32> {
    match schedule {
        BetaSchedule::Linear => linspace_f32(start as f32, end as f32, steps),
        BetaSchedule::ScaledLinear => {
            let roots = linspace_f32(start.sqrt() as f32, end.sqrt() as f32, steps);
            roots.into_iter().map(|root| root * root).collect()
        }
        BetaSchedule::Cosine => {
            let alpha_bar = |i: usize| {
                ((i as f64 / steps as f64 + 0.008) / 1.008 * PI / 2.0)
                    .cos()
                    .powi(2)
            };
            (0..steps)
                .map(|i| (1.0 - alpha_bar(i + 1) / alpha_bar(i)).min(0.999) as f32)
                .collect()
        }
    }
}

/// `ᾱ_t = Π_{s≤t} (1 - β_s)`; `torch.cumprod` keeps the product in f64 and rounds what it hands
/// out.
pub(super) fn alphas_cumprod(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0;
    betas
        .iter()
        .map(|beta| {
            product *= f64::from(1.0 - beta);
            product as f32
        })
        .collect()
}

/// Betas with the same `ᾱ_0` and a last `ᾱ` of 0 (Lin et al. 2023, algorithm 1).
pub(super) fn zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = alphas_cumprod(betas).into_iter().map(f32::sqrt).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else {
        return Vec::new();
    };
    let scale = first / (first - last);
    let mut previous = 1.0;
    roots
        .into_iter()
        .map(|root| {
            let shifted = (root - last) * scale;
            let alpha_bar = shifted * shifted;
            let beta = 1.0 - alpha_bar / previous;
            previous = alpha_bar;
            beta
        })
        .collect()
}

/// `torch.linspace` in f32, which runs from both ends to the middle and rounds once per value.
fn linspace_f32(start: f32, end: f32, n: usize) -> Vec<f32> {
    if n < 2 {
        return vec![start; n];
    }
    let step = (end - start) / (n - 1) as f32;
    let value = |i: usize| {
        if i < n / 2 {
            step.mul_add(i as f32, start)
        } else {
            (-step).mul_add((n - 1 - i) as f32, end)
        }
    };
    (0..n).map(value).collect()
}
