//! What the noise in a noisy picture is expected to be, where the picture is one of a few.

/// E\[z | x\] for x = signal·z + sigma·e, where z is any of `pictures` with even chance and e is unit normal noise: the
/// mean of the pictures, each weighted with the likelihood of x, which is ∝ exp(−|x − signal·zᵢ|²/2σ²) by Bayes' rule.
///
/// A loss against noise has a gradient Jᵀ·(prediction − e) whose J and prediction depend on x alone. Putting E\[e |
/// x\], or E\[v | x\], in the place of e or v leaves the mean of the gradient as it is, and takes away what of its
/// variance comes from which picture it was: all of it where there is much noise, none where there is little (Rao 1945,
/// Blackwell 1947).
///
/// # Panics
/// If there are no pictures, or one has not as many values as x.
pub(super) fn expected_picture(
    x: &[f32],
    pictures: &[Vec<f32>],
    (signal, sigma): (f32, f32),
) -> Vec<f32> {
    let distance = |z: &Vec<f32>| -> f64 {
        assert_eq!(z.len(), x.len());
        let part = |(x, z): (&f32, &f32)| f64::from(x - signal * z).powi(2);
        x.iter().zip(z).map(part).sum()
    };
    let distances: Vec<f64> = pictures.iter().map(distance).collect();
    let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
    let spread = 2.0 * f64::from(sigma).powi(2);
    let weights: Vec<f64> = distances
        .iter()
        .map(|distance| ((nearest - distance) / spread).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    let mean = |i: usize| {
        let sum: f64 = weights
            .iter()
            .zip(pictures)
            .map(|(weight, z)| weight * f64::from(z[i]))
            .sum();
        (sum / total) as f32
    };
    (0..x.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of many noisy pictures near x, the mean of those that they were made of.
    #[test]
    fn it_is_the_mean_of_what_it_may_have_been() {
        let (pictures, levels) = ([vec![-1.0], vec![0.5], vec![2.0]], (0.6f32, 0.8f32));
        let noise = crate::sampling::Generator::new(7).randn(300_000);
        for x in [-1.5f32, 0.0, 1.2] {
            let (mut sum, mut count) = (0.0, 0.0);
            for (i, e) in noise.iter().enumerate() {
                let z = pictures[i % 3][0];
                if (levels.0 * z + levels.1 * e - x).abs() < 0.05 {
                    sum += f64::from(z);
                    count += 1.0;
                }
            }
            let got = f64::from(expected_picture(&[x], &pictures, levels)[0]);
            assert!(
                (got - sum / count).abs() < 0.05,
                "{x}: {got} {}",
                sum / count
            );
        }
    }

    #[test]
    fn little_noise_leaves_no_doubt() {
        let pictures = [vec![1.0, 2.0], vec![-3.0, 0.25]];
        let x = [-2.9, 0.3];
        assert_eq!(expected_picture(&x, &pictures, (1.0, 0.01)), pictures[1]);
    }
}
