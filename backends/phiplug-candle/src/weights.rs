//! Packed bytes of a GGUF file, checked, as Candle's tensors under the names that the transformer asks for.

use std::{collections::HashMap, sync::Mutex};

use candle_core::{Device, Error, Module, Result, Tensor};
use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor, ggml_file::qtensor_from_ggml};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{failed, kernels::{Level, tiled}, threads::guarded};

/// Tensors on their device, taken one by one while the transformer is built. A name may hold several: matrices of
/// different types that are multiplied by the same vector.
#[pyclass]
pub struct Weights {
    pub device: Device,
    tensors: Mutex<HashMap<String, Vec<QTensor>>>,
}

#[pymethods]
impl Weights {
    #[new]
    fn new(device: &str) -> PyResult<Self> {
        Ok(Self { device: guarded(|| open(device)).map_err(failed)?, tensors: Mutex::default() })
    }

    /// Copy blocks, in ggml's layout, to the device. A vector has one row.
    fn put(
        &self, py: Python<'_>, name: &str, kind: &str, shape: (usize, usize), bytes: PyReadonlyArray1<'_, u8>,
    ) -> PyResult<()> {
        let dtype = dtype(kind).ok_or_else(|| PyValueError::new_err(format!("Candle has no type {kind}")))?;
        let bytes = bytes.as_slice()?;
        if size(dtype, shape) != Some(bytes.len()) {
            return Err(PyValueError::new_err(format!("{name}: {} bytes are no {shape:?} of {kind}", bytes.len())));
        }
        let made = py.detach(|| guarded(|| tensor(dtype, bytes, shape, &self.device))).map_err(failed)?;
        self.tensors.lock().map_err(failed)?.entry(name.to_owned()).or_default().push(made);
        Ok(())
    }
}

impl Weights {
    pub fn take(&self, name: &str) -> Option<Vec<QTensor>> {
        self.tensors.lock().ok()?.remove(name)
    }

    pub fn one(&self, name: &str) -> Result<QTensor> {
        let found = self.take(name).and_then(|mut tensors| tensors.pop());
        found.ok_or_else(|| Error::Msg(format!("{name} was not put")))
    }

    pub fn plain(&self, name: &str) -> Result<Tensor> {
        self.one(name)?.dequantize(&self.device)
    }

    pub fn plain_if_there(&self, name: &str) -> Result<Option<Tensor>> {
        self.take(name).and_then(|mut tensors| tensors.pop()).map(|one| one.dequantize(&self.device)).transpose()
    }

    pub fn matrix(&self, name: &str) -> Result<Matrix> {
        let tensors = self.take(name).ok_or_else(|| Error::Msg(format!("{name} was not put")))?;
        Ok(Matrix { parts: tensors.into_iter().map(QMatMul::from_qtensor).collect::<Result<_>>()? })
    }

    pub fn table(&self, numbers: &PyReadonlyArray2<'_, f32>) -> PyResult<Tensor> {
        let (rows, columns) = (numbers.shape()[0], numbers.shape()[1]);
        Tensor::from_slice(numbers.as_slice()?, (rows, columns), &self.device).map_err(failed)
    }
}

/// A matrix whose rows may be packed in several types.
pub struct Matrix {
    pub parts: Vec<QMatMul>,
}

impl Matrix {
    /// (T, columns) -> (T, rows), float32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let [one] = self.parts.as_slice() {
            return one.forward(x);
        }
        Tensor::cat(&self.parts.iter().map(|part| part.forward(x)).collect::<Result<Vec<_>>>()?, 1)
    }
}

fn dtype(name: &str) -> Option<GgmlDType> {
    use GgmlDType as T;
    Some(match name {
        "F32" => T::F32, "F16" => T::F16, "BF16" => T::BF16,
        "Q4_0" => T::Q4_0, "Q4_1" => T::Q4_1, "Q5_0" => T::Q5_0, "Q5_1" => T::Q5_1, "Q8_0" => T::Q8_0,
        "Q2_K" => T::Q2K, "Q3_K" => T::Q3K, "Q4_K" => T::Q4K, "Q5_K" => T::Q5K, "Q6_K" => T::Q6K,
        _ => return None,
    })
}

/// The bytes that such a matrix takes, or None if its rows are not whole blocks.
fn size(dtype: GgmlDType, (rows, columns): (usize, usize)) -> Option<usize> {
    let whole = columns.is_multiple_of(dtype.block_size());
    whole.then(|| (columns / dtype.block_size()).checked_mul(rows)?.checked_mul(dtype.type_size())).flatten()
}

fn tensor(dtype: GgmlDType, bytes: &[u8], (rows, columns): (usize, usize), device: &Device) -> Result<QTensor> {
    let level = Level::all().pop().unwrap_or(Level::Scalar);
    if let Some(tiles) = device.is_cpu().then(|| tiled(dtype, bytes, (rows, columns), level)).flatten() {
        return QTensor::new(QStorage::Cpu(tiles), (rows, columns));
    }
    candle(dtype, bytes, (rows, columns), device)
}

/// Keep the blocks as Candle does.
fn candle(dtype: GgmlDType, bytes: &[u8], (rows, columns): (usize, usize), device: &Device) -> Result<QTensor> {
    let shape = if rows == 1 { vec![columns] } else { vec![rows, columns] };
    if bytes.as_ptr().align_offset(align_of::<f32>()) == 0 {
        return qtensor_from_ggml(dtype, bytes, shape, device);
    }
    qtensor_from_ggml(dtype, &bytes.to_vec(), shape, device) // the allocator aligns
}

fn open(device: &str) -> Result<Device> {
    let (kind, number) = device.split_once(':').unwrap_or((device, "0"));
    let number = number.parse().map_err(Error::wrap)?;
    match kind {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Device::new_cuda(number),
        "metal" => Device::new_metal(number),
        _ => Err(Error::Msg(format!("there is no device {device:?}"))),
    }
}

/// The sets of instructions for which this processor has kernels of ours, and "candle" for Candle's own code.
#[pyfunction]
pub fn kernels() -> Vec<&'static str> {
    Level::all().into_iter().map(Level::name).chain(["candle"]).collect()
}

/// Multiply a packed matrix by rows of numbers with one of `kernels`, for the tests that compare them; the rows of the
/// product, one after the other.
#[pyfunction]
pub fn multiply<'py>(
    py: Python<'py>, kernel: &str, kind: &str, shape: (usize, usize), bytes: PyReadonlyArray1<'_, u8>,
    numbers: PyReadonlyArray2<'_, f32>,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let dtype = dtype(kind).ok_or_else(|| PyValueError::new_err(format!("Candle has no type {kind}")))?;
    let (packed, x) = (bytes.as_slice()?, numbers.as_slice()?);
    let product = guarded(|| {
        let level = Level::all().into_iter().find(|level| level.name() == kernel);
        let matrix = match level.and_then(|level| tiled(dtype, packed, shape, level)) {
            Some(tiles) => QTensor::new(QStorage::Cpu(tiles), shape)?,
            None => candle(dtype, packed, shape, &Device::Cpu)?,
        };
        let x = Tensor::from_slice(x, (x.len() / shape.1, shape.1), &Device::Cpu)?;
        QMatMul::from_qtensor(matrix)?.forward(&x)?.flatten_all()?.to_vec1()
    });
    Ok(product.map_err(failed)?.into_pyarray(py))
}
