//! The products in plain Rust: for processors without the instructions, and what the others are compared with.

use super::tiles::{BLOCK, Block, ROWS, Scale, Tile};

/// Multiply 16 rows of the matrix by `R` rows of the other factor.
pub fn products<S: Scale, const R: usize, const M: usize, const H: usize>(
    tiles: &[Tile<S, M, H>], rows: [&[Block]; R],
) -> [[f32; ROWS]; R] {
    rows.map(|row| std::array::from_fn(|number| tiles.iter().zip(row).map(|(tile, block)| one(tile, number, block)).sum()))
}

fn one<S: Scale, const M: usize, const H: usize>(tile: &Tile<S, M, H>, row: usize, block: &Block) -> f32 {
    let sum: i32 = (0..BLOCK).map(|column| tile.quant(row, column) * i32::from(block.q[column])).sum();
    let d = tile.d[row].to_f32();
    if M > 0 {
        return sum as f32 * d * block.d + tile.m[row].to_f32() * block.s;
    }
    (sum - Tile::<S, M, H>::MIDDLE * block.sum) as f32 * d * block.d
}
