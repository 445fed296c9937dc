//! What Python sees: weights that are put one by one, and a model with the verbs of phiplug's contract.
//!
//! Python has read and checked the header. Here the lengths are checked again before bytes become blocks, and errors
//! and panics of Candle's become a `RuntimeError` of one line.

mod attention;
mod cache;
mod kernels;
mod threads;
mod transformer;
mod weights;

use std::{collections::HashMap, sync::{Mutex, PoisonError}};

use numpy::{IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods, ndarray::Array2};
use pyo3::{exceptions::{PyIndexError, PyRuntimeError}, prelude::*};

use cache::Cache;
use threads::{guarded, interruptible, start};
use transformer::{Sizes, Step, Transformer};
use weights::Weights;

/// The first line of an error, as Python's.
fn failed(error: impl std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(error.to_string().lines().next().unwrap_or_default().to_owned())
}

#[pyclass]
struct Model(Mutex<(Transformer, Vec<Cache>)>);

impl Model {
    /// Work on the slots of one or two numbers.
    fn with_caches<T>(&self, slots: &[usize], work: impl FnOnce(&mut [Cache]) -> PyResult<T>) -> PyResult<T> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.iter().find(|slot| **slot >= inner.1.len()) {
            return Err(PyIndexError::new_err(format!("there is no slot {slot}")));
        }
        work(&mut inner.1)
    }
}

#[pymethods]
impl Model {
    /// `cos` and `sin` are of shape (context, rotated / 2).
    #[new]
    fn new(
        weights: &Weights, sizes: Sizes, cos: PyReadonlyArray2<'_, f32>, sin: PyReadonlyArray2<'_, f32>, slots: usize,
    ) -> PyResult<Self> {
        let context = cos.shape()[0];
        let rotation = (weights.table(&cos)?, weights.table(&sin)?);
        let caches = guarded(|| (0..slots).map(|_| Cache::new(&sizes, context, &weights.device)).collect());
        let caches = caches.map_err(failed)?;
        let transformer = guarded(|| Transformer::take(weights, sizes, rotation)).map_err(failed)?;
        Ok(Self(Mutex::new((transformer, caches))))
    }

    /// [(slot, tokens, rows)] -> the rows of all steps, float32, (rows, vocabulary), read-only.
    fn forward<'py>(&self, py: Python<'py>, steps: Vec<(usize, Vec<u32>, usize)>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let steps: Vec<Step> = steps.into_iter().map(|(slot, tokens, rows)| Step { slot, tokens, rows }).collect();
        let rows = steps.iter().map(|step| step.rows).sum();
        let (logits, vocabulary) = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (transformer, caches) = &mut *inner;
            let found = interruptible(py, |stop| transformer.forward(&steps, caches, stop))?;
            (found, transformer.vocabulary())
        };
        let array = Array2::from_shape_vec((rows, vocabulary), logits).map_err(failed)?.into_pyarray(py);
        array.readwrite().make_nonwriteable();
        Ok(array)
    }

    /// Keep at most the first `length` tokens of a slot, and return how many there are.
    fn rewind(&self, slot: usize, length: usize) -> PyResult<usize> {
        self.with_caches(&[slot], |caches| Ok(caches[slot].truncate(length)))
    }

    /// Make `target` hold the first `length` tokens of `source`, and return how many there are.
    fn copy(&self, source: usize, target: usize, length: usize) -> PyResult<usize> {
        self.with_caches(&[source, target], |caches| {
            let kept = length.min(caches[source].length);
            if let Ok([from, to]) = caches.get_disjoint_mut([source, target]) {
                guarded(|| to.copy_from(from, kept)).map_err(failed)?;
            }
            Ok(caches[target].truncate(kept))
        })
    }
}

/// What this build can do.
#[pyfunction]
fn about() -> HashMap<&'static str, bool> {
    HashMap::from([
        ("cuda", candle_core::utils::cuda_is_available()),
        ("metal", candle_core::utils::metal_is_available()),
        ("accelerate", candle_core::utils::has_accelerate()),
        ("mkl", candle_core::utils::has_mkl()),
    ])
}

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::{Model, about, start, weights::{Weights, kernels, multiply}};
}
