//! The keys and values of one sequence, allocated for the whole context at once and shortened by forgetting.

use candle_core::{DType, Device, Result, Tensor};

use crate::transformer::Sizes;

pub struct Cache {
    /// For each layer, the rotated keys and the values, each of shape (1, context, groups, head).
    layers: Vec<(Tensor, Tensor)>,
    /// How many tokens the cache holds. The numbers beyond have no meaning.
    pub length: usize,
}

impl Cache {
    /// Allocate zeros. On the CPU the system hands out a page when it is first written.
    pub fn new(sizes: &Sizes, context: usize, device: &Device) -> Result<Self> {
        let empty = || Tensor::zeros((1, context, sizes.groups, sizes.head), DType::F32, device);
        let layers = (0..sizes.layers).map(|_| Ok((empty()?, empty()?))).collect::<Result<_>>()?;
        Ok(Self { layers, length: 0 })
    }

    /// Write the keys and values of some tokens behind `length` in one layer, and return everything up to them.
    /// `length` stays: the caller moves it when all layers have been written.
    pub fn extend(&self, layer: usize, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let (k, v) = &self.layers[layer];
        let end = self.length + keys.dim(1)?;
        k.slice_set(keys, 1, self.length)?;
        v.slice_set(values, 1, self.length)?;
        Ok((k.narrow(1, 0, end)?, v.narrow(1, 0, end)?))
    }

    /// Keep at most the first `length` tokens, and return how many there are.
    pub fn truncate(&mut self, length: usize) -> usize {
        self.length = self.length.min(length);
        self.length
    }

    /// Hold the first `length` tokens of another cache and nothing else.
    pub fn copy_from(&mut self, other: &Self, length: usize) -> Result<()> {
        self.length = 0;
        if length > 0 {
            for ((k, v), (from_k, from_v)) in self.layers.iter().zip(&other.layers) {
                k.slice_set(&from_k.narrow(1, 0, length)?, 1, 0)?;
                v.slice_set(&from_v.narrow(1, 0, length)?, 1, 0)?;
            }
        }
        self.length = length;
        Ok(())
    }
}
