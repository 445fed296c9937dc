//! Products of matrices in the types for which Candle 0.11 has no fast code.
//!
//! Candle has scalar code alone for Q4_1, Q5_0 and Q5_1, on every processor. On x86 it multiplies Q4_0 and Q5_K one row at
//! a time, which takes six times as long as Q4_K, and the files of Phi-3-mini have a matrix of Q5_K in each layer.
//!
//! A matrix is kept in tiles of 16 rows by 32 columns, so that one instruction multiplies four columns of 16 rows by the
//! same four numbers. A tile takes what its blocks take in the file, of Q5_K a quarter more. The other factor is rounded
//! to 8 bits as Candle rounds it, so that only the order of the sums differs from Candle's own code. `QuantizedType` is how
//! Candle asks.

#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

use candle_core::quantized::{GgmlDType, QuantizedType};
use candle_core::{CpuStorage, Result, bail, utils::barrier_pool};
use half::f16;

use tiles::{BLOCK, Block, ROWS, Row, Scale, Tile};

/// How many rows of the other factor are multiplied while a tile is in the registers.
const TOGETHER: usize = 4;
/// How many of them a thread takes at once, so that their blocks stay in the nearest cache.
const GROUP: usize = 16;

/// The instructions that the products use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Level {
    /// Everything that this processor can do, the slowest first.
    pub fn all() -> Vec<Self> {
        let mut found = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                found.push(Self::Avx2);
                if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni") {
                    found.push(Self::Avx512Vnni);
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Self::Neon); // which every processor of this kind has
        found
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
        }
    }

    /// Round rows to 8 bits; `blocks` has one place for each 32 of `numbers`, and those of `together` have one scale.
    fn quantize(self, numbers: &[f32], blocks: &mut [Block], together: usize) {
        match (self, together) {
            // SAFETY: these levels are made only where the processor has AVX2, FMA and F16C.
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2 | Self::Avx512Vnni, BLOCK) => unsafe { x86::quantize(numbers, blocks) },
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2 | Self::Avx512Vnni, _) => unsafe { x86::quantize_256(numbers, blocks) },
            (_, BLOCK) => tiles::quantize(numbers, blocks),
            _ => tiles::quantize_256(numbers, blocks),
        }
    }

    /// Multiply 16 rows of the matrix by some rows of the other factor.
    fn products<S: Scale, const R: usize, const M: usize, const H: usize>(
        self, tiles: &[Tile<S, M, H>], rows: [&[Block]; R],
    ) -> [[f32; ROWS]; R] {
        assert!(rows.iter().all(|row| row.len() == tiles.len()));
        match self {
            Self::Scalar => scalar::products(tiles, rows),
            // SAFETY: this level is made only where the processor has AVX2, FMA and F16C; lengths are equal.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::products_avx2(tiles, rows) },
            // SAFETY: likewise AVX-512 BW and VNNI.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => unsafe { x86::products_avx512(tiles, rows) },
            // SAFETY: every processor of this kind has NEON.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { neon::products(tiles, rows) },
        }
    }
}

/// Return the blocks of a matrix as tiles, or None for a type or a shape that is left to Candle.
///
/// On ARM, Candle looks into the blocks of the types for which it has fast code, so these must stay as they are.
pub fn tiled(
    dtype: GgmlDType, bytes: &[u8], shape: (usize, usize), level: Level,
) -> Option<Box<dyn QuantizedType>> {
    use tiles::{blocks_of_32, blocks_of_256};
    if !shape.1.is_multiple_of(dtype.block_size()) || shape.1 == 0 || shape.0 <= 1 {
        return None;
    }
    Some(match dtype {
        GgmlDType::Q4_1 => Box::new(Tiled::<f16, ROWS, 0>::new(dtype, bytes, shape, level, blocks_of_32::<ROWS, 0>)),
        GgmlDType::Q5_0 => Box::new(Tiled::<f16, 0, 8>::new(dtype, bytes, shape, level, blocks_of_32::<0, 8>)),
        GgmlDType::Q5_1 => Box::new(Tiled::<f16, ROWS, 8>::new(dtype, bytes, shape, level, blocks_of_32::<ROWS, 8>)),
        GgmlDType::Q4_0 if cfg!(target_arch = "x86_64") => {
            Box::new(Tiled::<f16, 0, 0>::new(dtype, bytes, shape, level, blocks_of_32::<0, 0>))
        }
        GgmlDType::Q5K if cfg!(target_arch = "x86_64") => {
            Box::new(Tiled::<f32, ROWS, 8>::new(dtype, bytes, shape, level, blocks_of_256))
        }
        _ => return None,
    })
}

struct Tiled<S, const M: usize, const H: usize> {
    dtype: GgmlDType,
    /// Those of the first 16 rows, then those of the next; the last ones are filled up with zeros.
    tiles: Vec<Tile<S, M, H>>,
    rows: usize,
    /// How many tiles cover a row.
    width: usize,
    level: Level,
}

impl<S: Scale, const M: usize, const H: usize> Tiled<S, M, H> {
    fn new(
        dtype: GgmlDType, bytes: &[u8], (rows, columns): (usize, usize), level: Level, open: fn(&[u8]) -> Vec<Row<S>>,
    ) -> Self {
        let (width, size) = (columns / BLOCK, columns / dtype.block_size() * dtype.type_size());
        assert_eq!(bytes.len(), rows * size);
        let tiles = bytes.chunks(ROWS * size).flat_map(|rows| tiles::pack(rows, width, size, open)).collect();
        Self { dtype, tiles, rows, width, level }
    }

    fn quantize(&self, lhs: &[f32]) -> Vec<Block> {
        let (together, mut blocks) = (self.dtype.block_size(), vec![Block::default(); lhs.len() / BLOCK]);
        if blocks.len() <= GROUP * self.width {
            self.level.quantize(lhs, &mut blocks, together);
            return blocks;
        }
        let place = Shared(blocks.as_mut_ptr());
        barrier_pool().execute_chunked(lhs.len() / together, |range| {
            let (start, end) = (range.start * together, range.end * together);
            // SAFETY: the pool hands out ranges that do not overlap, all of them inside `blocks`.
            let part = unsafe { std::slice::from_raw_parts_mut(place.at(start / BLOCK), (end - start) / BLOCK) };
            self.level.quantize(&lhs[start..end], part, together);
        });
        blocks
    }

    /// Multiply 16 rows of the matrix, those of one row of tiles, by rows `lhs` of the other factor.
    fn multiply(&self, tile: usize, lhs: Range<usize>, blocks: &[Block], mut put: impl FnMut(usize, &[f32; ROWS])) {
        let tiles = &self.tiles[tile * self.width..(tile + 1) * self.width];
        let row = |number: usize| &blocks[number * self.width..(number + 1) * self.width];
        let together = lhs.start + lhs.len() / TOGETHER * TOGETHER;
        for first in (lhs.start..together).step_by(TOGETHER) {
            let found = self.level.products::<S, TOGETHER, M, H>(tiles, std::array::from_fn(|r| row(first + r)));
            found.iter().enumerate().for_each(|(r, products)| put(first + r, products));
        }
        for number in together..lhs.end {
            put(number, &self.level.products::<S, 1, M, H>(tiles, [row(number)])[0]);
        }
    }

    fn row(&self, number: usize, numbers: &mut [f32]) {
        let tiles = &self.tiles[number / ROWS * self.width..][..self.width];
        for (tile, numbers) in tiles.iter().zip(numbers.chunks_exact_mut(BLOCK)) {
            tile.dequantize(number % ROWS, numbers);
        }
    }
}

impl<S: Scale, const M: usize, const H: usize> QuantizedType for Tiled<S, M, H> {
    fn dtype(&self) -> GgmlDType {
        self.dtype
    }

    fn matmul_t(&self, (m, k, n): (usize, usize, usize), lhs: &[f32], dst: &mut [f32]) -> Result<()> {
        if (k, n) != (self.width * BLOCK, self.rows) || lhs.len() != m * k || dst.len() < m * n {
            bail!("a product of ({m}, {k}) and ({n}, {k}) has other shapes");
        }
        let (blocks, tiles) = (self.quantize(lhs), n.div_ceil(ROWS));
        let place = Shared(dst.as_mut_ptr());
        barrier_pool().execute_chunked(m.div_ceil(GROUP) * tiles, |range| {
            for item in range {
                let (group, tile) = (item / tiles, item % tiles);
                let (lhs, count) = (group * GROUP..m.min((group + 1) * GROUP), ROWS.min(n - tile * ROWS));
                self.multiply(tile, lhs, &blocks, |row, products| {
                    // SAFETY: each item writes its own 16 columns of its own rows, all of them inside `dst`.
                    let out = unsafe { std::slice::from_raw_parts_mut(place.at(row * n + tile * ROWS), count) };
                    out.copy_from_slice(&products[..count]);
                });
            }
        });
        Ok(())
    }

    fn matmul_t_f16(&self, mkn: (usize, usize, usize), lhs: &[f16], dst: &mut [f16]) -> Result<()> {
        let (lhs, mut wide): (Vec<f32>, _) = (lhs.iter().map(|x| x.to_f32()).collect(), vec![0.; dst.len()]);
        self.matmul_t(mkn, &lhs, &mut wide)?;
        dst.iter_mut().zip(wide).for_each(|(narrow, wide)| *narrow = f16::from_f32(wide));
        Ok(())
    }

    fn embedding(&self, ids: &[u32], rows: usize, hidden: usize) -> Result<CpuStorage> {
        if (rows, hidden) != (self.rows, self.width * BLOCK) || ids.iter().any(|id| *id as usize >= rows) {
            bail!("an id is outside of the {rows} rows");
        }
        let mut numbers = vec![0f32; ids.len() * hidden];
        ids.iter().zip(numbers.chunks_exact_mut(hidden)).for_each(|(id, row)| self.row(*id as usize, row));
        Ok(CpuStorage::F32(numbers))
    }

    fn dequantize(&self, _elements: usize) -> Result<CpuStorage> {
        let mut numbers = vec![0f32; self.rows * self.width * BLOCK];
        numbers.chunks_exact_mut(self.width * BLOCK).enumerate().for_each(|(number, row)| self.row(number, row));
        Ok(CpuStorage::F32(numbers))
    }

    fn storage_size_in_bytes(&self) -> usize {
        size_of_val(self.tiles.as_slice())
    }

    fn as_ptr(&self) -> *const u8 {
        self.tiles.as_ptr().cast()
    }

    fn block_size(&self) -> usize {
        self.dtype.block_size()
    }

    fn from_float(&mut self, _numbers: &[f32]) {
        unimplemented!("tiles are made from a file");
    }

    fn from_float_imatrix(&mut self, _numbers: &[f32], _importance: &[f32], _width: usize) {
        unimplemented!("tiles are made from a file");
    }

    fn size(&self) -> usize {
        self.storage_size_in_bytes()
    }
}

/// A place that several threads write to, each at other elements.
struct Shared<T>(*mut T);

// SAFETY: whoever writes sees to it that no two threads write to the same element.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    /// `index` is inside the allocation.
    unsafe fn at(&self, index: usize) -> *mut T {
        unsafe { self.0.add(index) }
    }
}
