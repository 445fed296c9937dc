//! Attention: rotated queries and everything a sequence's cache holds -> what each head gathers.

use candle_core::{Device, Result, Tensor};
use candle_nn::{attention::{AttnMask, flash_attn}, ops};

/// Let each of the last T tokens look at itself and at all tokens before it: softmax(Q K^T / sqrt(D)) V.
///
/// q is (1, T, heads, D), k and v are (1, L, groups, D). Returns (T, heads * D).
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (_, count, heads, head) = q.dims4()?;
    let scale = 1.0 / (head as f32).sqrt();
    let mixed = if q.device().is_cpu() {
        let mask = AttnMask::causal_with_offset(k.dim(1)? - count);
        flash_attn::<f32>(q, k, v, scale, mask, None, None)?
    } else {
        plain(q, k, v, scale)?
    };
    mixed.transpose(1, 2)?.reshape((count, heads * head))
}

/// The same from matrix products, for devices without a kernel of Candle's. Returns (1, heads, T, D).
fn plain(q: &Tensor, k: &Tensor, v: &Tensor, scale: f32) -> Result<Tensor> {
    let repeat = q.dim(2)? / k.dim(2)?;
    let [q, k, v] = [q, k, v].map(|x| x.transpose(1, 2));
    let (q, k, v) = (q?.contiguous()?, repeat_groups(&k?, repeat)?, repeat_groups(&v?, repeat)?);
    let (count, length) = (q.dim(2)?, k.dim(2)?);
    let mut scores = (q.matmul(&k.t()?)? * f64::from(scale))?;
    if count > 1 {
        scores = scores.broadcast_add(&causal_mask(count, length, q.device())?)?;
    }
    ops::softmax_last_dim(&scores)?.matmul(&v)
}

/// Repeat each group of (1, groups, length, head) for the heads that share it.
fn repeat_groups(x: &Tensor, repeat: usize) -> Result<Tensor> {
    let (one, groups, length, head) = x.dims4()?;
    x.unsqueeze(2)?.expand((one, groups, repeat, length, head))?.reshape((one, groups * repeat, length, head))
}

/// 0 where the i-th of `count` new tokens may look, and -infinity at the tokens after it; shape (count, length).
fn causal_mask(count: usize, length: usize, device: &Device) -> Result<Tensor> {
    let before = length - count;
    let row = |i: usize| (0..length).map(move |j| if j > before + i { f32::NEG_INFINITY } else { 0. });
    Tensor::from_vec((0..count).flat_map(row).collect::<Vec<_>>(), (count, length), device)
}
