//! Scaled dot-product attention over heads.

use candle_core::Tensor;

use super::dispatch::backend_of;
use super::parameters::{AttentionGrad, AttentionInput, AttentionKept};
use super::tensor::{expect_shape, misfit};
use crate::Result;

/// `softmax(Q·Kᵀ/√d)·V` for each head: Vaswani et al. 2017, eq. 1.
///
/// # Shapes
/// - `q`: `[b, n, heads·d]`
/// - `k`, `v`: `[b, t, heads·d]`
/// - returns `[b, n, heads·d]`
///
/// # Numerics
/// Query rows are taken in blocks, so that the score matrix is never whole; rows are independent of each other.
///
/// # Errors
/// If the shapes do not fit.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    backend_of([q]).attention(input(q, k, v, heads)?)
}

/// [`attention`], and what its backward pass can use, where the backend has a use for it.
///
/// # Errors
/// As [`attention`].
pub(crate) fn attention_keeping(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
) -> Result<(Tensor, Option<AttentionKept>)> {
    backend_of([q]).attention_keeping(input(q, k, v, heads)?)
}

/// What [`attention`] looks at: the probabilities softmax(Q·Kᵀ/√d), averaged over the heads, `[b, n, t]`.
///
/// # Errors
/// If the shapes do not fit.
pub(crate) fn attention_map(q: &Tensor, k: &Tensor, heads: usize) -> Result<Tensor> {
    input(q, k, k, heads)?;
    backend_of([q]).attention_map(q, k, heads)
}

/// ∂L/∂q, ∂L/∂k and ∂L/∂v of [`attention`], from its inputs, and what was kept of them; the probabilities P are
/// computed again.
///
/// With O = P·V, P = softmax(S), S = Q·Kᵀ/√d and M = mean of P over the heads:
/// ∂V = Pᵀ·∂O, ∂P = ∂O·Vᵀ + ∂M/heads, ∂S = P∘(∂P − rowsum(∂P∘P)), ∂Q = ∂S·K/√d, ∂K = ∂Sᵀ·Q/√d.
/// Without ∂M, rowsum(∂P∘P) = rowsum(∂O∘O).
///
/// # Shapes
/// As in [`attention`].
///
/// # Errors
/// If the shapes do not fit.
pub(crate) fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    kept: Option<&AttentionKept>,
    grad: AttentionGrad,
) -> Result<(Tensor, Tensor, Tensor)> {
    let input = input(q, k, v, heads)?;
    if let Some(output) = grad.output {
        expect_shape("a gradient", output, q.dims())?;
    }
    if let Some(map) = grad.map {
        let (b, n, _) = q.dims3()?;
        expect_shape("a gradient of the map", map, &[b, n, k.dim(1)?])?;
    }
    backend_of([q]).attention_backward(input, kept, grad)
}

/// The inputs of an attention, if they fit together.
fn input<'a>(
    q: &'a Tensor,
    k: &'a Tensor,
    v: &'a Tensor,
    heads: usize,
) -> Result<AttentionInput<'a>> {
    let (b, _, c) = q.dims3()?;
    let t = k.dim(1)?;
    expect_shape("keys", k, &[b, t, c])?;
    expect_shape("values", v, &[b, t, c])?;
    if heads == 0 || t == 0 || c == 0 || c % heads != 0 {
        let expected = format!("a key, and a width that {heads} heads divide");
        return Err(misfit(&expected, k));
    }
    Ok(AttentionInput { q, k, v, heads })
}

#[cfg(test)]
mod tests {
    use super::super::dispatch::by_candle;
    use super::super::testing::{random, worst};
    use super::*;

    fn dot(a: &Tensor, b: &Tensor) -> f64 {
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let pairs = values(a).into_iter().zip(values(b));
        pairs.map(|(a, b)| f64::from(a) * f64::from(b)).sum()
    }

    #[test]
    fn maps_are_mean_probabilities() {
        let map = attention_map(&random(&[2, 6, 8], 1), &random(&[2, 5, 8], 2), 4).unwrap();
        assert_eq!(map.dims(), [2, 6, 5]);
        for sum in map
            .sum(2)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
        {
            assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        }
        // With V the unit matrix in every head, the output holds the probabilities themselves.
        let unit = Tensor::eye(5, candle_core::DType::F32, map.device()).unwrap();
        let unit = Tensor::cat(&[&unit, &unit], 1)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let (q, k) = (random(&[1, 6, 10], 4), random(&[1, 5, 10], 5));
        let (p, map) = (
            attention(&q, &k, &unit, 2).unwrap(),
            attention_map(&q, &k, 2).unwrap(),
        );
        let halves = (p.narrow(2, 0, 5).unwrap() + p.narrow(2, 5, 5).unwrap()).unwrap();
        let error = ((halves / 2.0).unwrap() - map).unwrap();
        assert!(dot(&error, &error) < 1e-12);
    }

    /// Of the loss ⟨O, g⟩ + ⟨M, m⟩, and of each term alone, along a random direction.
    #[test]
    fn gradients_equal_finite_differences() {
        let (q, k, v) = (
            random(&[2, 6, 8], 1),
            random(&[2, 5, 8], 2),
            random(&[2, 5, 8], 3),
        );
        let (g, m) = (
            random(&[2, 6, 8], 4),
            (random(&[2, 6, 5], 5) * 5.0).unwrap(),
        );
        for (output, map) in [(Some(&g), Some(&m)), (Some(&g), None), (None, Some(&m))] {
            let loss = |q: &Tensor, k: &Tensor, v: &Tensor| {
                let o = attention(q, k, v, 4).unwrap();
                let p = attention_map(q, k, 4).unwrap();
                output.map_or(0.0, |g| dot(&o, g)) + map.map_or(0.0, |m| dot(&p, m))
            };
            let grad = AttentionGrad { output, map };
            let (dq, dk, dv) = attention_backward(&q, &k, &v, 4, None, grad).unwrap();
            let (step, along) = (1e-2, |like: &Tensor, seed| random(like.dims(), seed));
            let (rq, rk, rv) = (along(&q, 6), along(&k, 7), along(&v, 8));
            let at = |e: f64| {
                let moved = |x: &Tensor, r: &Tensor| (x + (r * e).unwrap()).unwrap();
                loss(&moved(&q, &rq), &moved(&k, &rk), &moved(&v, &rv))
            };
            let want = (at(step) - at(-step)) / (2.0 * step);
            let got = dot(&dq, &rq) + dot(&dk, &rk) + dot(&dv, &rv);
            assert!(
                (got - want).abs() < 2e-3 * want.abs().max(1.0),
                "{got} {want}"
            );
        }
    }

    /// The kernels against what other devices run: blocks that are full, partial and one too many, scores far apart,
    /// any width of a head.
    #[test]
    fn kernels_equal_the_generic_path() {
        for (b, n, t, heads, d) in [
            (1, 1, 1, 1, 1),
            (2, 129, 77, 3, 5),
            (3, 65, 513, 2, 40),
            (1, 300, 1100, 1, 64),
            (2, 16, 4, 8, 33),
        ] {
            let q = (random(&[b, n, heads * d], 1) * 3.0).unwrap();
            let k = (random(&[b, t, heads * d], 2) * 3.0).unwrap();
            let v = random(&[b, t, heads * d], 3);
            let grad = random(&[b, n, heads * d], 4);
            let run = || attention(&q, &k, &v, heads).unwrap();
            let error = worst(&run(), &by_candle(run));
            assert!(error < 2e-5, "{b} {n} {t} {heads} {d}: {error}");
            let grad = AttentionGrad {
                output: Some(&grad),
                map: None,
            };
            let run = || attention_backward(&q, &k, &v, heads, None, grad).unwrap();
            let (got, want) = (run(), by_candle(run));
            // What is kept is the same to the last bit, and what comes of it.
            let (y, kept) = attention_keeping(&q, &k, &v, heads).unwrap();
            assert_eq!(worst(&y, &attention(&q, &k, &v, heads).unwrap()), 0.0);
            let of_kept = attention_backward(&q, &k, &v, heads, kept.as_ref(), grad).unwrap();
            assert!(kept.is_some());
            for (a, b) in [
                (&got.0, of_kept.0),
                (&got.1, of_kept.1),
                (&got.2, of_kept.2),
            ] {
                assert_eq!(worst(a, &b), 0.0);
            }
            for (got, want) in [(got.0, want.0), (got.1, want.1), (got.2, want.2)] {
                let error = worst(&got, &want);
                assert!(error < 2e-4, "{b} {n} {t} {heads} {d}: {error}");
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let like = |shape: [usize; 3]| random(&shape, 1);
        for (name, q, k, v, heads) in [
            ("keys of another batch", [2, 3, 4], [1, 3, 4], [1, 3, 4], 2),
            (
                "values of another batch",
                [2, 3, 4],
                [2, 3, 4],
                [1, 3, 4],
                2,
            ),
            ("values of other tokens", [2, 3, 4], [2, 3, 4], [2, 5, 4], 2),
            ("keys of another width", [2, 3, 4], [2, 3, 6], [2, 3, 6], 2),
            ("no token", [2, 3, 4], [2, 0, 4], [2, 0, 4], 2),
            ("no head", [2, 3, 4], [2, 3, 4], [2, 3, 4], 0),
            (
                "heads that do not divide",
                [2, 3, 4],
                [2, 3, 4],
                [2, 3, 4],
                3,
            ),
        ] {
            let (q, k, v) = (like(q), like(k), like(v));
            assert!(attention(&q, &k, &v, heads).is_err(), "{name}");
            let grad = AttentionGrad {
                output: Some(&q),
                map: None,
            };
            let gradients = attention_backward(&q, &k, &v, heads, None, grad);
            assert!(gradients.is_err(), "{name}, backward");
            if !name.starts_with("values") {
                assert!(attention_map(&q, &k, heads).is_err(), "{name}, map");
            }
        }
        let (x, other) = (like([2, 3, 4]), like([2, 3, 6]));
        for (output, map) in [(Some(&other), None), (None, Some(&x)), (Some(&x), Some(&x))] {
            let grad = AttentionGrad { output, map };
            assert!(attention_backward(&x, &x, &x, 2, None, grad).is_err());
        }
    }
}
