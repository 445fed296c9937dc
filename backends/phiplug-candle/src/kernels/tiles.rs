//! 16 rows of a block of 32 columns as one tile, and 32 numbers of the other factor, rounded to 8 bits.

use half::f16;

/// How many rows a tile has.
pub const ROWS: usize = 16;
/// How many columns.
pub const BLOCK: usize = 32;

/// What d and m are stored as: float16 as in the file, or float32 where the file has products of two numbers.
pub trait Scale: Copy + Send + Sync {
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))] // NEON's kernel asks for each scale
    const HALF: bool;
    const ZERO: Self;
    fn to_f32(self) -> f32;
}

impl Scale for f16 {
    const HALF: bool = true;
    const ZERO: Self = Self::ZERO;
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
}

impl Scale for f32 {
    const HALF: bool = false;
    const ZERO: Self = 0.;
    fn to_f32(self) -> f32 {
        self
    }
}

/// A weight is d * q + m, or d * (q - `MIDDLE`) where there is no m.
///
/// `M` is 16 for types with an m, else 0. `H` is 8 for the types of five bits, 0 for those of four.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Tile<S, const M: usize, const H: usize> {
    /// For g in 0..4, of each row the columns 4g to 4g + 3 in the low halves, and 16 columns further in the high halves.
    pub quants: [[u8; 64]; 4],
    /// The fifth bits: for g in 0..4 those of the low halves of `quants[g]`, then likewise those of the high halves.
    pub fifth: [u64; H],
    pub d: [S; ROWS],
    pub m: [S; M],
}

/// One row of one tile.
pub struct Row<S> {
    pub d: S,
    pub m: S,
    /// The low four bits of column i and, in the high half, of column i + 16.
    pub quants: [u8; 16],
    /// The fifth bit of each column.
    pub fifth: u32,
}

impl<S: Scale, const M: usize, const H: usize> Tile<S, M, H> {
    const ZERO: Self = Self { quants: [[0; 64]; 4], fifth: [0; H], d: [S::ZERO; ROWS], m: [S::ZERO; M] };
    /// The number that stands for 0 where there is no m.
    pub const MIDDLE: i32 = if H > 0 { 16 } else { 8 };

    fn set(&mut self, number: usize, row: &Row<S>) {
        self.d[number] = row.d;
        if M > 0 {
            self.m[number] = row.m;
        }
        for (group, four) in self.quants.iter_mut().zip(row.quants.chunks_exact(4)) {
            group[4 * number..4 * number + 4].copy_from_slice(four);
        }
        for (group, fifth) in self.fifth.iter_mut().enumerate() {
            *fifth |= u64::from(row.fifth >> (4 * group) & 15) << (4 * number);
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
            *number = if M > 0 { q as f32 * d + self.m[row].to_f32() } else { (q - Self::MIDDLE) as f32 * d };
        }
    }
}

/// Turn 16 rows of ggml's blocks, or the fewer that are left, into tiles. A row takes `size` bytes, which `open` takes
/// apart.
pub fn pack<S: Scale, const M: usize, const H: usize>(
    rows: &[u8], width: usize, size: usize, open: impl Fn(&[u8]) -> Vec<Row<S>>,
) -> Vec<Tile<S, M, H>> {
    let mut tiles = vec![Tile::<S, M, H>::ZERO; width];
    for (number, bytes) in rows.chunks_exact(size).enumerate() {
        for (tile, row) in tiles.iter_mut().zip(open(bytes)) {
            tile.set(number, &row);
        }
    }
    tiles
}

fn half(bytes: &[u8]) -> f16 {
    f16::from_le_bytes([bytes[0], bytes[1]])
}

/// Take apart blocks of Q4_0, Q4_1, Q5_0 or Q5_1: d, an m, the fifth bits, and two numbers in each byte.
pub fn blocks_of_32<const M: usize, const H: usize>(bytes: &[u8]) -> Vec<Row<f16>> {
    let one = |block: &[u8]| {
        let (head, quants) = block.split_at(block.len() - 16);
        let bits = head.last_chunk().map_or(0, |bits| u32::from_le_bytes(*bits));
        let m = if M > 0 { half(&head[2..]) } else { f16::ZERO };
        Row { d: half(head), m, quants: std::array::from_fn(|i| quants[i]), fifth: if H > 0 { bits } else { 0 } }
    };
    bytes.chunks_exact(2 + M / 8 + H / 2 + 16).map(one).collect()
}

/// Take apart blocks of Q5_K: d, dmin, eight scales and eight minima of six bits, the fifth bits, and the numbers, of
/// which each 32 bytes hold two times 32.
pub fn blocks_of_256(bytes: &[u8]) -> Vec<Row<f32>> {
    let one = |block: &[u8], part: usize| {
        let (d, dmin) = (half(block).to_f32(), half(&block[2..]).to_f32());
        let (scale, minimum) = scale_and_minimum(&block[4..16], part);
        let (fifth, quants) = (&block[16..48], &block[48 + part / 2 * 32..][..32]);
        let low = |i: usize| quants[i] >> (part % 2 * 4) & 15;
        Row {
            d: d * f32::from(scale),
            m: -dmin * f32::from(minimum),
            quants: std::array::from_fn(|i| low(i) | low(i + 16) << 4),
            fifth: (0..32).map(|i| u32::from(fifth[i] >> part & 1) << i).sum(),
        }
    };
    bytes.chunks_exact(176).flat_map(|block| (0..8).map(move |part| one(block, part))).collect()
}

/// Six bits each, as ggml's `get_scale_min_k4` finds them in 12 bytes.
fn scale_and_minimum(packed: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        return (packed[part] & 63, packed[part + 4] & 63);
    }
    let (high, both) = (|at: usize| packed[at] >> 6 << 4, packed[part + 4]);
    (both & 15 | high(part - 4), both >> 4 | high(part))
}

/// 32 numbers of the other factor, d * q, as ggml's Q8_1 has them.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Block {
    pub q: [i8; BLOCK],
    /// For blocks of 32, a float16's value.
    pub d: f32,
    /// d times the sum of q; for blocks of 32, likewise.
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

/// Round to 8 bits as Candle's `BlockQ8K::from_float` does, with one d for 256 numbers.
#[inline(always)]
pub fn quantize_256(numbers: &[f32], blocks: &mut [Block]) {
    for (numbers, blocks) in numbers.chunks_exact(256).zip(blocks.chunks_exact_mut(256 / BLOCK)) {
        let largest = numbers.iter().fold(0f32, |most, x| if x.abs() > most.abs() { *x } else { most });
        let (inverse, d) = if largest == 0. { (0., 0.) } else { (-127. / largest, 1. / (-127. / largest)) };
        for (numbers, block) in numbers.chunks_exact(BLOCK).zip(blocks) {
            for (q, x) in block.q.iter_mut().zip(numbers) {
                *q = (x * inverse).round().clamp(-128., 127.) as i8;
            }
            block.sum = block.q.iter().map(|q| i32::from(*q)).sum();
            (block.d, block.s) = (d, d * block.sum as f32);
        }
    }
}
