"""Packed bytes become the numbers that gguf's own reference makes of them."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from phiplug_numpy.blocks import LAYOUTS, dequantize

from phiplug.errors import ModelUnsupported
from phiplug.gguf import TensorInfo

ROWS, COLUMNS = 6, 512


def tensor(kind: str, folder: Path) -> TensorInfo:
    """Write a tensor of random bytes, in which no half-precision number is infinite or none."""
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = np.random.default_rng(3).integers(256, size=(ROWS * COLUMNS // elements, size), dtype=np.uint8)
    blocks &= 0xBF  # the second byte of a half, and of a float: the exponent's highest bit is 0
    path = folder / f"{kind}.bin"
    path.write_bytes(bytes(32) + blocks.tobytes())
    return TensorInfo("some.weight", (ROWS, COLUMNS), kind, path, 32, blocks.size)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_tensor_becomes_the_numbers_of_the_reference(kind: str, tmp_path: Path) -> None:
    info = tensor(kind, tmp_path)
    packed = np.frombuffer(info.path.read_bytes()[32:], np.uint8).reshape(ROWS, -1)
    expected = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])
    got = dequantize(info)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert got.flags.writeable, "the numbers are not the file's own bytes"
    np.testing.assert_array_equal(got, expected.reshape(ROWS, COLUMNS))


def test_a_long_tensor_is_unpacked_slab_by_slab_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tensor("Q4_1", tmp_path)
    whole = dequantize(info)
    monkeypatch.setattr("phiplug_numpy.blocks.SLAB", 5 * 32)  # no divisor of the 96 blocks
    np.testing.assert_array_equal(dequantize(info), whole)


def test_a_tensor_of_no_numbers_is_empty(tmp_path: Path) -> None:
    info = TensorInfo("some.weight", (0, 32), "Q4_1", tmp_path / "nothing", 0, 0)
    assert dequantize(info).shape == (0, 32)


@pytest.mark.parametrize("kind", ["IQ4_NL", "MXFP4", "type 99"])
def test_a_type_that_is_not_known_is_named(kind: str, tmp_path: Path) -> None:
    info = TensorInfo("blk.0.attn_q.weight", (1, 32), kind, tmp_path / "model.gguf", 0, 18)
    with pytest.raises(ModelUnsupported, match=rf"model\.gguf: blk\.0\.attn_q\.weight is {kind}"):
        dequantize(info)
