//! The products with NEON.

use std::arch::aarch64::*;

use super::tiles::{Block, ROWS, Scale, Tile};

/// Multiply 16 rows of the matrix by `R` rows of the other factor, four rows of the matrix at a time.
///
/// # Safety
/// The processor has NEON.
#[target_feature(enable = "neon")]
pub unsafe fn products<S: Scale, const R: usize, const M: usize, const H: usize>(
    tiles: &[Tile<S, M, H>], rows: [&[Block]; R],
) -> [[f32; ROWS]; R] {
    let mut products = [[0f32; ROWS]; R];
    for (r, row) in rows.iter().enumerate() {
        let mut sums = [vdupq_n_f32(0.); 4];
        for (tile, block) in tiles.iter().zip(*row) {
            for (quarter, sum) in sums.iter_mut().enumerate() {
                *sum = unsafe { add_quarter(tile, quarter, block, *sum) };
            }
        }
        for (quarter, sum) in sums.into_iter().enumerate() {
            unsafe { vst1q_f32(products[r].as_mut_ptr().add(4 * quarter), sum) };
        }
    }
    products
}

/// Add the products of four rows of a tile with a block to `sum`.
///
/// Pairs of products are summed in 16 bits: four times 2 * 31 * 127 is 31,496, which they hold.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn add_quarter<S: Scale, const M: usize, const H: usize>(
    tile: &Tile<S, M, H>, quarter: usize, block: &Block, sum: float32x4_t,
) -> float32x4_t {
    let (mut low_sums, mut high_sums) = (vdupq_n_s16(0), vdupq_n_s16(0));
    for group in 0..4 {
        let packed = unsafe { vld1q_u8(tile.quants[group].as_ptr().add(16 * quarter)) };
        let mut low = vandq_u8(packed, vdupq_n_u8(15));
        let mut high = vshrq_n_u8::<4>(packed);
        if H > 0 {
            low = vorrq_u8(low, fifth((tile.fifth[group] >> (16 * quarter)) as u16));
            high = vorrq_u8(high, fifth((tile.fifth[4 + group] >> (16 * quarter)) as u16));
        }
        low_sums = vaddq_s16(low_sums, pairs(low, four(block, group)));
        high_sums = vaddq_s16(high_sums, pairs(high, four(block, 4 + group)));
    }
    let mut whole = vaddq_s32(vpaddlq_s16(low_sums), vpaddlq_s16(high_sums));
    if M == 0 {
        whole = vsubq_s32(whole, vdupq_n_s32(Tile::<S, M, H>::MIDDLE * block.sum));
    }
    let sum = vfmaq_n_f32(sum, vmulq_f32(vcvtq_f32_s32(whole), wide(&tile.d, quarter)), block.d);
    if M == 0 { sum } else { vfmaq_n_f32(sum, wide(&tile.m, quarter), block.s) }
}

/// The products of 16 bytes with the same four numbers, summed in pairs.
#[inline]
#[target_feature(enable = "neon")]
fn pairs(quants: uint8x16_t, numbers: int8x16_t) -> int16x8_t {
    let quants = vreinterpretq_s8_u8(quants);
    vpaddq_s16(vmull_s8(vget_low_s8(quants), vget_low_s8(numbers)), vmull_high_s8(quants, numbers))
}

/// 16 in each of 16 bytes whose bit is set.
#[inline]
#[target_feature(enable = "neon")]
fn fifth(bits: u16) -> uint8x16_t {
    let [low, high] = bits.to_le_bytes();
    let bytes = vcombine_u8(vdup_n_u8(low), vdup_n_u8(high));
    let bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    vandq_u8(vtstq_u8(bytes, bit), vdupq_n_u8(16))
}

/// Four numbers of a block, four times.
#[inline]
#[target_feature(enable = "neon")]
fn four(block: &Block, group: usize) -> int8x16_t {
    // SAFETY: the eight groups of four lie inside `q`.
    vreinterpretq_s8_s32(vdupq_n_s32(unsafe { block.q.as_ptr().add(4 * group).cast::<i32>().read_unaligned() }))
}

#[inline]
#[target_feature(enable = "neon")]
fn wide<S: Scale>(scales: &[S], quarter: usize) -> float32x4_t {
    let numbers: [f32; 4] = std::array::from_fn(|at| scales[4 * quarter + at].to_f32());
    // SAFETY: four numbers are read from an array of four.
    unsafe { vld1q_f32(numbers.as_ptr()) }
}
