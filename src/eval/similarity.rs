//! How near embeddings are.

/// The weight w of CLIPScore: Hessel et al. 2021, section 3.
const CLIP_SCORE_WEIGHT: f64 = 2.5;

/// The cosine of the angle between two vectors of one length; 0 where one has none.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths == 0.0 {
        0.0
    } else {
        dot(a, b) / lengths // NaN of what is not a number
    }
}

/// For each of `drawn` the mean of its cosines with all of `real`: their mean is the mean over all pairs, CLIP-I.
pub(crate) fn mean_cosines(drawn: &[Vec<f32>], real: &[Vec<f32>]) -> Vec<f64> {
    let mean = |one: &Vec<f32>| {
        real.iter().map(|other| cosine(one, other)).sum::<f64>() / real.len().max(1) as f64
    };
    drawn.iter().map(mean).collect()
}

/// CLIPScore of a picture and a text whose embeddings have this cosine.
pub(crate) fn clip_score(cosine: f64) -> f64 {
    CLIP_SCORE_WEIGHT * cosine.max(0.0)
}

/// The cosine of `one` and `own`, less the mean of its cosines with `others`; 0 where there are none.
pub(crate) fn margin<'a>(
    one: &[f32],
    own: &[f32],
    others: impl Iterator<Item = &'a Vec<f32>>,
) -> f64 {
    let others: Vec<f64> = others.map(|other| cosine(one, other)).collect();
    match others.len() {
        0 => 0.0,
        n => cosine(one, own) - others.iter().sum::<f64>() / n as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_do_not_depend_on_length() {
        assert!((cosine(&[3.0, 4.0], &[6.0, 8.0]) - 1.0).abs() < 1e-12);
        assert!((cosine(&[1.0, 0.0], &[1.0, 1.0]) - 0.5f64.sqrt()).abs() < 1e-7);
        assert!(cosine(&[0.0, 0.0], &[1.0, 1.0]).abs() < 1e-12);
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(cosine(&[odd, 0.0], &[1.0, 1.0]).is_nan());
            assert!(cosine(&[1.0, 1.0], &[1.0, odd]).is_nan());
        }
    }

    #[test]
    fn every_pair_counts() {
        let real = [vec![1.0, 0.0], vec![0.0, 1.0]];
        let got = mean_cosines(&[vec![1.0, 0.0], vec![-1.0, 0.0]], &real);
        assert!((got[0] - 0.5).abs() < 1e-12 && (got[1] + 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_margin_is_over_the_mean_of_the_others() {
        let (x, y) = (vec![1.0, 0.0], vec![0.0, 1.0]);
        let got = margin(&x, &x, [x.clone(), y.clone()].iter());
        assert!((got - 0.5).abs() < 1e-12, "{got}");
        assert!((margin(&y, &x, [y.clone()].iter()) + 1.0).abs() < 1e-12);
        assert!(margin(&x, &x, [].iter()).abs() < 1e-12);
    }

    #[test]
    fn a_clip_score_is_never_negative() {
        assert!((clip_score(0.3) - 0.75).abs() < 1e-12);
        assert!(clip_score(-0.3).abs() < 1e-12);
    }
}
