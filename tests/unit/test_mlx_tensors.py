"""Every type of tensor becomes exactly the numbers that ggml's own dequantizer gives."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phiplug.errors import ModelUnsupported
from phiplug.gguf import TensorInfo
from phiplug.gguf.quantization import BLOCK_OF

pytestmark = pytest.mark.usefixtures("mlx", "llama_cpp")

PACKED = {"Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8, "Q4_K": 4, "Q5_K": 5}  # type -> bits
FLOATS = ["Q2_K", "Q3_K", "Q6_K"]
SCALES = {  # where in a block the float16 numbers are, in bytes; all else may be any bits
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}  # fmt: skip
ROWS, COLUMNS = 7, 1024


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    folder = importlib.util.find_spec("llama_cpp").submodule_search_locations[0]
    library = next(path for path in sorted((Path(folder) / "lib").glob("*ggml-base*")) if path.suffix != ".0")
    return ctypes.CDLL(str(library), mode=ctypes.RTLD_LOCAL)  # globally, its symbols would clash with MLX's


def blocks(kind: str, seed: int, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """Random blocks of a type: any bits, and scales of all signs and sizes, zero and subnormal ones among them."""
    rng = np.random.default_rng(seed)
    block = BLOCK_OF[kind]
    raw = rng.integers(0, 256, (rows * columns // block.elements, block.bytes), dtype=np.uint8)
    for at in SCALES[kind]:
        scales = (rng.normal(size=len(raw)) * 10.0 ** rng.integers(-7, 2, len(raw))).astype("<f2")
        raw[:, at : at + 2] = scales[:, None].view(np.uint8)
    return raw


def stored(path: Path, kind: str, raw: np.ndarray, shape: tuple[int, ...] = (ROWS, COLUMNS)) -> TensorInfo:
    path.write_bytes(b"\0" * 96 + raw.tobytes())
    return TensorInfo("blk.0.some.weight", shape, kind, path, 96, raw.nbytes)


def reference(ggml: ctypes.CDLL, kind: str, raw: np.ndarray) -> np.ndarray:
    """What ggml's dequantize_row_* makes of the blocks, float32."""
    numbers = np.empty(len(raw) * BLOCK_OF[kind].elements, np.float32)
    name = kind if kind.endswith("_K") else kind.lower()
    routine = getattr(ggml, f"dequantize_row_{name.replace('Q', 'q')}")
    routine.argtypes, routine.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    routine(np.ascontiguousarray(raw).ctypes.data, numbers.ctypes.data, numbers.size)
    return numbers.reshape(ROWS, -1)


def unpacked(packed: object) -> np.ndarray:
    """What MLX makes of the packed form."""
    import mlx.core as mx

    parts = [mx.array(getattr(packed, part)) for part in ("weight", "scales", "biases")]
    with mx.stream(mx.cpu):
        return np.array(mx.dequantize(*parts, group_size=32, bits=packed.bits))


@pytest.mark.parametrize("kind", PACKED)
def test_a_packed_type_is_what_ggml_dequantizes_to_the_last_bit(kind: str, ggml: ctypes.CDLL, tmp_path: Path) -> None:
    from phiplug_mlx.tensors import Packed, convert

    raw = blocks(kind, seed=1)
    packed = convert(stored(tmp_path / "tensor", kind, raw))
    assert isinstance(packed, Packed)
    assert packed.bits == PACKED[kind]
    assert packed.weight.shape == (ROWS, COLUMNS * packed.bits // 32)
    np.testing.assert_array_equal(unpacked(packed), reference(ggml, kind, raw))


@pytest.mark.parametrize("kind", FLOATS)
def test_a_type_without_packed_form_is_what_ggml_dequantizes(kind: str, ggml: ctypes.CDLL, tmp_path: Path) -> None:
    from phiplug_mlx.tensors import convert

    raw = blocks(kind, seed=2)
    numbers = convert(stored(tmp_path / "tensor", kind, raw))
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers, reference(ggml, kind, raw))


@pytest.mark.parametrize("kind", [*PACKED, *FLOATS])
def test_the_reference_routines_of_the_gguf_package_agree(kind: str, ggml: ctypes.CDLL) -> None:
    raw = blocks(kind, seed=3)
    theirs = gguf.dequantize(raw.reshape(ROWS, -1), gguf.GGMLQuantizationType[kind])
    np.testing.assert_array_equal(theirs, reference(ggml, kind, raw))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_floats_are_taken_as_they_are(kind: str, tmp_path: Path) -> None:
    from phiplug_mlx.tensors import convert

    rng = np.random.default_rng(4)
    raw = rng.integers(0, 2**16, ROWS * COLUMNS * (2 if kind == "F32" else 1), dtype=np.uint16)
    raw &= 0xBFFF  # no infinities and no NaN in any of the three
    numbers = convert(stored(tmp_path / "tensor", kind, raw))
    theirs = gguf.dequantize(raw.view(np.uint8).reshape(ROWS, -1), gguf.GGMLQuantizationType[kind])
    np.testing.assert_array_equal(numbers.astype(np.float32), theirs)


@pytest.mark.parametrize("kind", PACKED)
def test_float16_scales_are_one_rounding_away(kind: str, tmp_path: Path) -> None:
    from dataclasses import replace

    from phiplug_mlx.tensors import convert

    packed = convert(stored(tmp_path / "tensor", kind, blocks(kind, seed=5)))
    exact, largest = unpacked(packed), 2**packed.bits - 1
    halves = {part: getattr(packed, part).astype(np.float16).astype(np.float32) for part in ("scales", "biases")}
    assert all(np.isfinite(half).all() for half in halves.values())
    rounding = np.spacing(halves["scales"].astype(np.float16)).astype(np.float32) / 2 * largest
    rounding = np.abs(rounding) + np.abs(np.spacing(halves["biases"].astype(np.float16)).astype(np.float32)) / 2
    gap = np.abs(unpacked(replace(packed, **halves)) - exact).reshape(ROWS, -1, 32)
    assert (gap <= rounding[..., None] * 1.0001).all()
    if kind not in ("Q4_K", "Q5_K"):  # whose scales are products; these are float16 numbers times a power of two
        assert not gap.any()


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(sorted(PACKED)))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reordering_packed_rows_reorders_the_numbers(seed: int, kind: str, tmp_path: Path) -> None:
    from phiplug_mlx.tensors import convert

    order = np.random.default_rng(seed).permutation(ROWS)
    packed = convert(stored(tmp_path / "tensor", kind, blocks(kind, seed, columns=256), (ROWS, 256)))
    np.testing.assert_array_equal(unpacked(packed.reorder_rows(order)), unpacked(packed)[order])


def test_a_tensor_of_many_slabs_is_put_together_again(
    ggml: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from phiplug_mlx import tensors

    monkeypatch.setattr(tensors, "_SLAB", 5)  # which divides no number of blocks here
    for kind in ("Q4_1", "Q5_K", "Q6_K"):
        raw = blocks(kind, seed=6)
        found = tensors.convert(stored(tmp_path / "tensor", kind, raw))
        numbers = unpacked(found) if isinstance(found, tensors.Packed) else found
        np.testing.assert_array_equal(numbers, reference(ggml, kind, raw))


@pytest.mark.parametrize("kind", ["IQ4_XS", "MXFP4", "TQ1_0", "type 99"])
def test_any_other_type_is_refused_by_the_names_of_tensor_and_type(kind: str, tmp_path: Path) -> None:
    from phiplug_mlx.tensors import convert

    with pytest.raises(ModelUnsupported, match=rf"blk\.0\.some\.weight is {kind}, which"):
        convert(TensorInfo("blk.0.some.weight", (4, 256), kind, tmp_path / "model.gguf", 0, 0))


def test_a_quantized_vector_is_refused(tmp_path: Path) -> None:
    from phiplug_mlx.tensors import convert

    with pytest.raises(ModelUnsupported, match="is no matrix, but Q8_0"):
        convert(stored(tmp_path / "tensor", "Q8_0", blocks("Q8_0", 7, 1, 64), (64,)))
