//! Scaled dot-product attention over heads, its score matrix in blocks of query rows.

use candle_core::{D, DType, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::wide;
use crate::Result;
use crate::nn::parameters::{AttentionGrad, AttentionInput, InputGrads};

/// Largest number of scores held at a time: 16 Mi of f32 are 64 MiB. At 512 × 512 the whole matrix of the
/// outermost self-attention would be 1 GiB for a batch of 2.
const MAX_SCORES: usize = 16 << 20;

pub(in crate::nn) fn forward(input: AttentionInput) -> Result<Tensor> {
    let AttentionInput { q, k, v, heads } = input;
    let v = split(v, heads)?;
    let blocks = each_block(q, k, heads, |p| Ok(p.to_dtype(v.dtype())?.matmul(&v)?))?;
    join(&Tensor::cat(&blocks, 1)?, heads)
}

pub(in crate::nn) fn map(q: &Tensor, k: &Tensor, heads: usize) -> Result<Tensor> {
    let blocks = each_block(q, k, heads, |p| {
        let p = wide(p)?;
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

pub(in crate::nn) fn backward(input: AttentionInput, grad: AttentionGrad) -> Result<InputGrads> {
    let AttentionInput { q, k, v, heads } = input;
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
        let p = wide(&probabilities(&qb, &kt, scale)?)?; // [b·heads, len, t]
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

/// softmax(q·kᵀ/√d), `[b·heads, n, t]`.
///
/// Scores of f16 stay in f16, as PyTorch's plain attention has them, since each pass over them costs: their sums and
/// those of the softmax are f32 inside. The 8 bits of bf16 are too few for exponents.
fn probabilities(q: &Tensor, kt: &Tensor, scale: f64) -> Result<Tensor> {
    let scores = (q * scale)?.matmul(kt)?;
    Ok(match scores.dtype() {
        DType::F16 => softmax_last_dim(&scores)?,
        _ => softmax_last_dim(&wide(&scores)?)?,
    })
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
