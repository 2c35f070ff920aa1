//! Scaled dot-product attention over heads.

use candle_core::{D, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::attention_kernel;
use super::dispatch::{has_kernels, wide};
use crate::Result;

/// Largest number of scores held at a time: 16 Mi of f32 are 64 MiB. At 512 × 512 the whole matrix of the
/// outermost self-attention would be 1 GiB for a batch of 2.
const MAX_SCORES: usize = 16 << 20;

/// `softmax(Q·Kᵀ/√d)·V` for each head: Vaswani et al. 2017, eq. 1.
///
/// # Shapes
/// - `q`: `[b, n, heads·d]`
/// - `k`, `v`: `[b, t, heads·d]`
/// - returns `[b, n, heads·d]`
///
/// # Numerics
/// Query rows are taken in blocks, so that the score matrix is never whole; rows are independent of each other.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    if has_kernels(q) {
        return attention_kernel::forward(q, k, v, heads);
    }
    attention_generic(q, k, v, heads)
}

fn attention_generic(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let v = split(v, heads)?;
    let blocks = each_block(q, k, heads, |p| Ok(p.to_dtype(v.dtype())?.matmul(&v)?))?;
    join(&Tensor::cat(&blocks, 1)?, heads)
}

/// What [`attention`] looks at: the probabilities softmax(Q·Kᵀ/√d), averaged over the heads, `[b, n, t]`.
pub fn attention_map(q: &Tensor, k: &Tensor, heads: usize) -> Result<Tensor> {
    let blocks = each_block(q, k, heads, |p| {
        let (bh, n, t) = p.dims3()?;
        Ok(p.reshape((bh / heads, heads, n, t))?.mean(1)?)
    })?;
    Ok(Tensor::cat(&blocks, 1)?)
}

/// What `f` makes of the probabilities `[b·heads, len, t]` of each block of query rows, in order.
fn each_block(
    q: &Tensor,
    k: &Tensor,
    heads: usize,
    f: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let (q, k) = (split(q, heads)?, split(k, heads)?);
    let kt = k.transpose(1, 2)?; // [b·heads, d, t]
    let scale = scale(&q)?;
    query_blocks(&q, &k)?
        .map(|(from, len)| f(&probabilities(&q.narrow(1, from, len)?, &kt, scale)?))
        .collect()
}

/// What the loss says of an attention, or of a layer with attentions inside: at least one of the two.
#[derive(Debug, Clone, Copy)]
pub struct AttentionGrad<'a> {
    /// ∂L/∂output, `[b, n, heads·d]` for an attention; `None` where the loss does not depend on the output.
    pub output: Option<&'a Tensor>,
    /// ∂L/∂(mean of P over the heads), `[b, n, t]`, of a loss on [`attention_map`].
    pub map: Option<&'a Tensor>,
}

/// ∂L/∂q, ∂L/∂k and ∂L/∂v of [`attention`], from its inputs; the probabilities P are computed again.
///
/// With O = P·V, P = softmax(S), S = Q·Kᵀ/√d and M = mean of P over the heads:
/// ∂V = Pᵀ·∂O, ∂P = ∂O·Vᵀ + ∂M/heads, ∂S = P∘(∂P − rowsum(∂P∘P)), ∂Q = ∂S·K/√d, ∂K = ∂Sᵀ·Q/√d.
///
/// # Shapes
/// As in [`attention`].
pub fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    grad: AttentionGrad,
) -> Result<(Tensor, Tensor, Tensor)> {
    match grad {
        AttentionGrad {
            output: Some(grad),
            map: None,
        } if has_kernels(q) => attention_kernel::backward(q, k, v, heads, grad),
        grad => attention_backward_generic(q, k, v, heads, grad),
    }
}

/// Of maps too, which only attend-and-excite asks for.
fn attention_backward_generic(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    grad: AttentionGrad,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (qh, kh, vh) = (split(q, heads)?, split(k, heads)?, split(v, heads)?);
    let gh = grad.output.map(|g| split(g, heads)).transpose()?;
    let mh = grad.map.map(|m| share(m, heads)).transpose()?;
    let (kt, vt) = (kh.transpose(1, 2)?, vh.transpose(1, 2)?);
    let scale = scale(&qh)?;
    let mut dq = Vec::new();
    let mut dk: Option<Tensor> = None;
    let mut dv: Option<Tensor> = None;
    for (from, len) in query_blocks(&qh, &kh)? {
        let qb = qh.narrow(1, from, len)?;
        let p = probabilities(&qb, &kt, scale)?; // [b·heads, len, t]
        let mut dp: Option<Tensor> = None;
        if let Some(gh) = &gh {
            let gb = gh.narrow(1, from, len)?;
            dp = Some(wide(&gb.matmul(&vt)?)?);
            let pt = p.to_dtype(gb.dtype())?.transpose(1, 2)?;
            dv = Some(accumulate(dv, pt.matmul(&gb)?)?);
        }
        if let Some(mh) = &mh {
            dp = Some(accumulate(dp, mh.narrow(1, from, len)?)?);
        }
        let dp = or_zeros(dp, &p)?;
        let rowsum = (&dp * &p)?.sum_keepdim(D::Minus1)?;
        let ds = ((&p * dp.broadcast_sub(&rowsum)?)? * scale)?.to_dtype(qb.dtype())?;
        dq.push(ds.matmul(&kh)?);
        dk = Some(accumulate(dk, ds.transpose(1, 2)?.matmul(&qb)?)?);
    }
    Ok((
        join(&Tensor::cat(&dq, 1)?, heads)?,
        join(&or_zeros(dk, &kh)?, heads)?,
        join(&or_zeros(dv, &vh)?, heads)?,
    ))
}

fn or_zeros(grad: Option<Tensor>, like: &Tensor) -> Result<Tensor> {
    Ok(grad.map_or_else(|| like.zeros_like(), Ok)?)
}

/// What each head has of the gradient of a mean over heads: `[b, n, t]` to `[b·heads, n, t]`.
fn share(map: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, n, t) = map.dims3()?;
    Ok((map / heads as f64)?
        .unsqueeze(1)?
        .broadcast_as((b, heads, n, t))?
        .reshape((b * heads, n, t))?)
}

/// softmax(q·kᵀ/√d), `[b·heads, n, t]`, in f32 at least.
fn probabilities(q: &Tensor, kt: &Tensor, scale: f64) -> Result<Tensor> {
    Ok(softmax_last_dim(&(wide(&q.matmul(kt)?)? * scale)?)?)
}

/// 1/√d.
fn scale(qh: &Tensor) -> Result<f64> {
    Ok(1.0 / (qh.dim(2)? as f64).sqrt())
}

/// `(start, length)` of blocks of query rows whose scores stay within [`MAX_SCORES`].
fn query_blocks(qh: &Tensor, kh: &Tensor) -> Result<impl Iterator<Item = (usize, usize)> + use<>> {
    let (bh, n, _) = qh.dims3()?;
    let len = (MAX_SCORES / (bh * kh.dim(1)?).max(1)).clamp(1, n.max(1));
    Ok((0..n)
        .step_by(len)
        .map(move |from| (from, len.min(n - from))))
}

fn accumulate(sum: Option<Tensor>, term: Tensor) -> Result<Tensor> {
    Ok(match sum {
        Some(sum) => (sum + term)?,
        None => term,
    })
}

/// `[b, n, heads·d]` to `[b·heads, n, d]`.
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, n, c) = x.dims3()?;
    Ok(x.reshape((b, n, heads, c / heads))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape((b * heads, n, c / heads))?)
}

/// `[b·heads, n, d]` to `[b, n, heads·d]`.
fn join(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (bh, n, d) = x.dims3()?;
    Ok(x.reshape((bh / heads, heads, n, d))?
        .transpose(1, 2)?
        .reshape((bh / heads, n, heads * d))?)
}

#[cfg(test)]
mod tests {
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
            let (dq, dk, dv) = attention_backward(&q, &k, &v, 4, grad).unwrap();
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
            let error = worst(
                &attention(&q, &k, &v, heads).unwrap(),
                &attention_generic(&q, &k, &v, heads).unwrap(),
            );
            assert!(error < 2e-5, "{b} {n} {t} {heads} {d}: {error}");
            let grad = AttentionGrad {
                output: Some(&grad),
                map: None,
            };
            let got = attention_backward(&q, &k, &v, heads, grad).unwrap();
            let want = attention_backward_generic(&q, &k, &v, heads, grad).unwrap();
            for (got, want) in [(got.0, want.0), (got.1, want.1), (got.2, want.2)] {
                let error = worst(&got, &want);
                assert!(error < 2e-4, "{b} {n} {t} {heads} {d}: {error}");
            }
        }
    }

    #[test]
    fn keys_of_another_batch_are_refused() {
        let (q, k) = (random(&[2, 3, 4], 1), random(&[1, 3, 4], 2));
        assert!(attention(&q, &k, &k, 2).is_err());
    }
}
