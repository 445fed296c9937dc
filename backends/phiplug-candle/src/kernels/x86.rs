//! The products with AVX2 and with AVX-512 VNNI.

use std::arch::x86_64::*;

use super::tiles::{self, BLOCK, Block, ROWS, Scale, Tile};

/// `tiles::quantize`, compiled for AVX2.
///
/// # Safety
/// The processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn quantize(numbers: &[f32], blocks: &mut [Block]) {
    tiles::quantize(numbers, blocks);
}

/// `tiles::quantize_256`, compiled for AVX2.
///
/// # Safety
/// The processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn quantize_256(numbers: &[f32], blocks: &mut [Block]) {
    tiles::quantize_256(numbers, blocks);
}

/// Multiply 16 rows of the matrix by `R` rows of the other factor.
///
/// # Safety
/// The processor has AVX-512 F, BW and VNNI, and each row has as many blocks as there are tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma,f16c")]
pub unsafe fn products_avx512<S: Scale, const R: usize, const M: usize, const H: usize>(
    tiles: &[Tile<S, M, H>], rows: [&[Block]; R],
) -> [[f32; ROWS]; R] {
    let (nibbles, sixteen) = (_mm512_set1_epi8(15), _mm512_set1_epi8(16));
    let mut sums = [_mm512_setzero_ps(); R];
    for (at, tile) in tiles.iter().enumerate() {
        let blocks: [&Block; R] = std::array::from_fn(|r| unsafe { rows[r].get_unchecked(at) });
        let mut low_sums = blocks.map(|block| _mm512_set1_epi32(if M > 0 { 0 } else { -Tile::<S, M, H>::MIDDLE * block.sum }));
        let mut high_sums = [_mm512_setzero_si512(); R];
        for group in 0..4 {
            let packed = unsafe { _mm512_loadu_si512(tile.quants[group].as_ptr().cast()) };
            let mut low = _mm512_and_si512(packed, nibbles);
            let mut high = _mm512_and_si512(_mm512_srli_epi16::<4>(packed), nibbles);
            if H > 0 {
                low = _mm512_mask_add_epi8(low, tile.fifth[group], low, sixteen);
                high = _mm512_mask_add_epi8(high, tile.fifth[4 + group], high, sixteen);
            }
            for r in 0..R {
                low_sums[r] = _mm512_dpbusd_epi32(low_sums[r], low, _mm512_set1_epi32(four(blocks[r], group)));
                high_sums[r] = _mm512_dpbusd_epi32(high_sums[r], high, _mm512_set1_epi32(four(blocks[r], 4 + group)));
            }
        }
        let d = unsafe { scales_of_16(&tile.d) };
        for r in 0..R {
            let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(low_sums[r], high_sums[r]));
            sums[r] = _mm512_fmadd_ps(_mm512_mul_ps(sum, d), _mm512_set1_ps(blocks[r].d), sums[r]);
            if M > 0 {
                let m = unsafe { scales_of_16(&tile.m) };
                sums[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(blocks[r].s), sums[r]);
            }
        }
    }
    sums.map(|sum| {
        let mut products = [0f32; ROWS];
        unsafe { _mm512_storeu_ps(products.as_mut_ptr(), sum) };
        products
    })
}

/// Multiply 16 rows of the matrix by `R` rows of the other factor, eight rows of the matrix at a time.
///
/// # Safety
/// The processor has AVX2, FMA and F16C, and each row has as many blocks as there are tiles.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn products_avx2<S: Scale, const R: usize, const M: usize, const H: usize>(
    tiles: &[Tile<S, M, H>], rows: [&[Block]; R],
) -> [[f32; ROWS]; R] {
    let mut products = [[0f32; ROWS]; R];
    for half in 0..2 {
        for (r, row) in rows.iter().enumerate() {
            let mut sum = _mm256_setzero_ps();
            for (tile, block) in tiles.iter().zip(*row) {
                sum = unsafe { add_half(tile, half, block, sum) };
            }
            unsafe { _mm256_storeu_ps(products[r].as_mut_ptr().add(8 * half), sum) };
        }
    }
    products
}

/// Add the products of eight rows of a tile with a block to `sum`.
///
/// Pairs of products are summed in 16 bits: four times 2 * 31 * 127 is 31,496, which they hold.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_half<S: Scale, const M: usize, const H: usize>(tile: &Tile<S, M, H>, half: usize, block: &Block, sum: __m256) -> __m256 {
    let nibbles = _mm256_set1_epi8(15);
    let (mut low_sums, mut high_sums) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for group in 0..4 {
        let packed = unsafe { _mm256_loadu_si256(tile.quants[group].as_ptr().add(32 * half).cast()) };
        let mut low = _mm256_and_si256(packed, nibbles);
        let mut high = _mm256_and_si256(_mm256_srli_epi16::<4>(packed), nibbles);
        if H > 0 {
            low = _mm256_or_si256(low, fifth((tile.fifth[group] >> (32 * half)) as i32));
            high = _mm256_or_si256(high, fifth((tile.fifth[4 + group] >> (32 * half)) as i32));
        }
        let (first, second) = (_mm256_set1_epi32(four(block, group)), _mm256_set1_epi32(four(block, 4 + group)));
        low_sums = _mm256_add_epi16(low_sums, _mm256_maddubs_epi16(low, first));
        high_sums = _mm256_add_epi16(high_sums, _mm256_maddubs_epi16(high, second));
    }
    let ones = _mm256_set1_epi16(1);
    let mut whole = _mm256_add_epi32(_mm256_madd_epi16(low_sums, ones), _mm256_madd_epi16(high_sums, ones));
    if M == 0 {
        whole = _mm256_sub_epi32(whole, _mm256_set1_epi32(Tile::<S, M, H>::MIDDLE * block.sum));
    }
    let d = unsafe { scales_of_8(&tile.d, half) };
    let sum = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(whole), d), _mm256_set1_ps(block.d), sum);
    if M == 0 {
        return sum;
    }
    let m = unsafe { scales_of_8(&tile.m, half) };
    _mm256_fmadd_ps(m, _mm256_set1_ps(block.s), sum)
}

/// The scales of 16 rows.
#[inline]
#[target_feature(enable = "avx512f,avx2,f16c")]
unsafe fn scales_of_16<S: Scale>(scales: &[S]) -> __m512 {
    let at = scales.as_ptr();
    unsafe { if S::HALF { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) } else { _mm512_loadu_ps(at.cast()) } }
}

/// The scales of the first or the second 8 rows.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scales_of_8<S: Scale>(scales: &[S], half: usize) -> __m256 {
    let at = unsafe { scales.as_ptr().add(8 * half) };
    unsafe { if S::HALF { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) } else { _mm256_loadu_ps(at.cast()) } }
}

/// 16 in each of 32 bytes whose bit is set.
#[inline]
#[target_feature(enable = "avx2")]
fn fifth(bits: i32) -> __m256i {
    let spread = _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
    _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit), _mm256_set1_epi8(16))
}

/// Four numbers of a block as the bytes of one.
#[inline(always)]
fn four(block: &Block, group: usize) -> i32 {
    debug_assert!(4 * group + 4 <= BLOCK);
    // SAFETY: the eight groups of four lie inside `q`.
    unsafe { block.q.as_ptr().add(4 * group).cast::<i32>().read_unaligned() }
}
