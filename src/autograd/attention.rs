//! Scaled dot-product attention over heads.

use candle_core::{D, Tensor};
use candle_nn::ops::softmax_last_dim;

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
    let (qh, kh, vh) = (split(q, heads)?, split(k, heads)?, split(v, heads)?);
    let kt = kh.transpose(1, 2)?; // [b·heads, d, t]
    let scale = scale(&qh)?;
    let blocks = query_blocks(&qh, &kh)?
        .map(|(from, len)| Ok(probabilities(&qh.narrow(1, from, len)?, &kt, scale)?.matmul(&vh)?))
        .collect::<Result<Vec<_>>>()?;
    join(&Tensor::cat(&blocks, 1)?, heads)
}

/// ∂L/∂q, ∂L/∂k and ∂L/∂v of [`attention`], from its inputs; the probabilities P are computed again.
///
/// With O = P·V and P = softmax(S), S = Q·Kᵀ/√d:
/// ∂V = Pᵀ·∂O, ∂P = ∂O·Vᵀ, ∂S = P∘(∂P − rowsum(∂P∘P)), ∂Q = ∂S·K/√d, ∂K = ∂Sᵀ·Q/√d.
///
/// # Shapes
/// As in [`attention`]; `grad` is `[b, n, heads·d]`.
pub fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
    grad: &Tensor,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (qh, kh, vh) = (split(q, heads)?, split(k, heads)?, split(v, heads)?);
    let gh = split(grad, heads)?;
    let (kt, vt) = (kh.transpose(1, 2)?, vh.transpose(1, 2)?);
    let scale = scale(&qh)?;
    let mut dq = Vec::new();
    let mut dk: Option<Tensor> = None;
    let mut dv: Option<Tensor> = None;
    for (from, len) in query_blocks(&qh, &kh)? {
        let (qb, gb) = (qh.narrow(1, from, len)?, gh.narrow(1, from, len)?);
        let p = probabilities(&qb, &kt, scale)?; // [b·heads, len, t]
        let dp = gb.matmul(&vt)?;
        let rowsum = (&dp * &p)?.sum_keepdim(D::Minus1)?;
        let ds = ((&p * dp.broadcast_sub(&rowsum)?)? * scale)?;
        dq.push(ds.matmul(&kh)?);
        dk = Some(accumulate(dk, ds.transpose(1, 2)?.matmul(&qb)?)?);
        dv = Some(accumulate(dv, p.transpose(1, 2)?.matmul(&gb)?)?);
    }
    let or_zeros = |g: Option<Tensor>, like: &Tensor| g.map_or_else(|| like.zeros_like(), Ok);
    Ok((
        join(&Tensor::cat(&dq, 1)?, heads)?,
        join(&or_zeros(dk, &kh)?, heads)?,
        join(&or_zeros(dv, &vh)?, heads)?,
    ))
}

/// softmax(q·kᵀ/√d), `[b·heads, n, t]`.
fn probabilities(q: &Tensor, kt: &Tensor, scale: f64) -> Result<Tensor> {
    Ok(softmax_last_dim(&(q.matmul(kt)? * scale)?)?)
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
