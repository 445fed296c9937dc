//! 16 rows of a block of 32 columns as one tile, and 32 numbers of the other factor, rounded to 8 bits.

use half::f16;

/// How many rows a tile has.
pub const ROWS: usize = 16;
/// How many columns.
pub const BLOCK: usize = 32;

/// A weight is d * q + m, or d * (q - 16) where there is no m.
///
/// `M` is 16 for Q4_1 and Q5_1, 0 for Q5_0. `H` is 8 for the types of five bits, 0 for Q4_1.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Tile<const M: usize, const H: usize> {
    /// For g in 0..4, of each row the columns 4g to 4g + 3 in the low halves, and 16 columns further in the high halves.
    pub quants: [[u8; 64]; 4],
    /// The fifth bits: for g in 0..4 those of the low halves of `quants[g]`, then likewise those of the high halves.
    pub fifth: [u64; H],
    pub d: [f16; ROWS],
    pub m: [f16; M],
}

impl<const M: usize, const H: usize> Tile<M, H> {
    const ZERO: Self = Self { quants: [[0; 64]; 4], fifth: [0; H], d: [f16::ZERO; ROWS], m: [f16::ZERO; M] };
    /// What ggml takes for a block: d, m, the fifth bits, and two numbers in each byte.
    const SIZE: usize = 2 + M / 8 + H / 2 + 16;

    /// Put the block of one row in its place.
    fn set(&mut self, row: usize, block: &[u8]) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
        self.d[row] = half(0);
        if M > 0 {
            self.m[row] = half(2);
        }
        let (head, quants) = block.split_at(Self::SIZE - 16);
        for (group, four) in self.quants.iter_mut().zip(quants.chunks_exact(4)) {
            group[4 * row..4 * row + 4].copy_from_slice(four);
        }
        if H > 0 {
            let bits = u32::from_le_bytes([head[head.len() - 4], head[head.len() - 3], head[head.len() - 2], head[head.len() - 1]]);
            for (group, fifth) in self.fifth.iter_mut().enumerate() {
                *fifth |= u64::from(bits >> (4 * group) & 15) << (4 * row);
            }
        }
    }

    /// The number of one row and column, without d and m.
    pub fn quant(&self, row: usize, column: usize) -> i32 {
        let (group, at) = (column % 16 / 4, 4 * row + column % 4);
        let byte = self.quants[group][at];
        let low = i32::from(if column < 16 { byte & 15 } else { byte >> 4 });
        let fifth = if H > 0 { (self.fifth[column / 4] >> at & 1) as i32 } else { 0 };
        low + 16 * fifth
    }

    pub fn dequantize(&self, row: usize, numbers: &mut [f32]) {
        let d = self.d[row].to_f32();
        for (column, number) in numbers.iter_mut().enumerate() {
            let q = self.quant(row, column);
            *number = if M > 0 { q as f32 * d + self.m[row].to_f32() } else { (q - 16) as f32 * d };
        }
    }
}

/// Turn 16 rows of blocks, or the fewer that are left, into tiles.
pub fn pack<const M: usize, const H: usize>(rows: &[u8], width: usize) -> Vec<Tile<M, H>> {
    let mut tiles = vec![Tile::<M, H>::ZERO; width];
    for (row, blocks) in rows.chunks_exact(width * Tile::<M, H>::SIZE).enumerate() {
        for (tile, block) in tiles.iter_mut().zip(blocks.chunks_exact(Tile::<M, H>::SIZE)) {
            tile.set(row, block);
        }
    }
    tiles
}

/// 32 numbers of the other factor, d * q, as ggml's Q8_1 has them.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Block {
    pub q: [i8; BLOCK],
    /// A float16's value.
    pub d: f32,
    /// d times the sum of q, a float16's value.
    pub s: f32,
    /// The sum of q.
    pub sum: i32,
}

/// Round to 8 bits as Candle's `BlockQ8_1::from_float` does.
#[inline(always)]
pub fn quantize(numbers: &[f32], blocks: &mut [Block]) {
    for (numbers, block) in numbers.chunks_exact(BLOCK).zip(blocks) {
        let largest = numbers.iter().fold(0f32, |most, x| most.max(x.abs()));
        let d = largest / 127.;
        let inverse = if d == 0. { 0. } else { 1. / d };
        for (q, x) in block.q.iter_mut().zip(numbers) {
            *q = (x * inverse).round() as i8;
        }
        block.sum = block.q.iter().map(|q| i32::from(*q)).sum();
        let d = f16::from_f32(d);
        block.d = d.to_f32();
        block.s = (f16::from_f32(block.sum as f32) * d).to_f32();
    }
}
