"""Turns the blocks of a GGUF tensor into packed integers, scales and biases of MLX's affine form, or plain floats.

MLX's affine form holds a row of weights as unsigned integers in little-endian lanes of 32 bits; 32 neighbours share a
scale and a bias, and weight = scale * integer + bias. Seven of ggml's types are exactly that with other names for its
parts, so nothing is lost while scale and bias are float32; the others become floats. Formulas: `dequantize_row_*` in
ggml-quants.c. This is NumPy on memory-mapped bytes; it knows nothing of models, and nothing of MLX but that form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from phiplug.errors import ModelUnsupported
from phiplug.gguf import map_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from phiplug.gguf import TensorInfo

GROUP = 32  # weights that share a scale; affine groups are 32, 64 or 128, ggml's blocks or their parts 32 or 16
_SLAB = 2**14  # blocks converted at a time, which bounds the temporary arrays to a few dozen MB

Blocks: TypeAlias = "NDArray[Any]"  # Any: a structured array, whose fields _LAYOUTS names
Floats: TypeAlias = "NDArray[np.float32]"
Bytes: TypeAlias = "NDArray[Any]"  # Any: uint8, which NumPy's stubs lose in `uint8 & int`
Groups: TypeAlias = "tuple[Bytes, Floats, Floats]"  # lanes as bytes, scales, biases; the blocks are the first axis


@dataclass(frozen=True, slots=True)
class Packed:
    """A matrix in MLX's affine form, in groups of `GROUP`.

    Attributes:
        weight: uint32, shape (rows, columns * bits / 32).
        scales: float32, shape (rows, columns / GROUP).
        biases: likewise.
        bits: of one integer: 4, 5 or 8.
    """

    weight: NDArray[np.uint32]
    scales: Floats
    biases: Floats
    bits: int

    def reorder_rows(self, order: NDArray[np.intp]) -> Packed:
        """Return the same matrix with its rows in another order; packing is along rows, so nothing is unpacked."""
        return Packed(self.weight[order], self.scales[order], self.biases[order], self.bits)


_LAYOUTS: Mapping[str, Any] = {  # Any: what np.dtype takes; fields of one block, in order, all little-endian
    "Q4_0": [("d", "<f2"), ("low", "<u2", 8)],
    "Q4_1": [("d", "<f2"), ("m", "<f2"), ("low", "<u2", 8)],
    "Q5_0": [("d", "<f2"), ("high", "u1", 4), ("low", "u1", 16)],
    "Q5_1": [("d", "<f2"), ("m", "<f2"), ("high", "u1", 4), ("low", "u1", 16)],
    "Q8_0": [("d", "<f2"), ("q", "u1", 32)],
    "Q2_K": [("sub", "u1", 16), ("low", "u1", (2, 1, 32)), ("d", "<f2"), ("dmin", "<f2")],
    "Q3_K": [("high", "u1", (1, 32)), ("low", "u1", (2, 1, 32)), ("sub", "u1", 12), ("d", "<f2")],
    "Q4_K": [("d", "<f2"), ("dmin", "<f2"), ("sub", "u1", 12), ("low", "<u2", (4, 16))],
    "Q5_K": [("d", "<f2"), ("dmin", "<f2"), ("sub", "u1", 12), ("high", "u1", (1, 32)), ("low", "u1", (4, 32))],
    "Q6_K": [("low", "u1", (2, 2, 32)), ("high", "u1", (2, 1, 32)), ("sub", "i1", 16), ("d", "<f2")],
}


def convert(info: TensorInfo) -> Packed | NDArray[Any]:  # Any: float16 or float32, see below
    """Read one tensor and turn it into what MLX computes with.

    Returns:
        `Packed` for Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K and Q5_K; else the numbers in info.shape: float16 for F16,
        float32 for F32, BF16, Q2_K, Q3_K and Q6_K. All are exactly what the file says. The array may be a view of the
        file.

    Raises:
        ModelUnsupported: the type is none of these, or a packed tensor is not a matrix.
        ModelNotFound, ModelCorrupt: the file has changed since its header was read.
    """
    if info.type in _AFFINE and len(info.shape) == 2:
        return _pack(info)
    if info.type in _PLAIN:
        return _PLAIN[info.type](map_tensor(info)).reshape(info.shape)
    if info.type in _FLOATS:
        return _dequantize(info)
    kind = f"is no matrix, but {info.type}" if info.type in _AFFINE else f"is {info.type}"
    raise ModelUnsupported(
        f"{info.path.name}: {info.name} {kind}, which the MLX backend cannot turn into an MLX array",
        hint="use -b llama-cpp, or a file in Q4_0, Q4_K_M, Q5_K_M, Q6_K, Q8_0 or F16",
    )


def _pack(info: TensorInfo) -> Packed:
    bits, groups_of = _AFFINE[info.type]
    blocks = map_tensor(info).view(np.dtype(_LAYOUTS[info.type]))
    rows, columns = info.shape
    groups = rows * columns // GROUP
    lanes = np.empty((groups, GROUP * bits // 8), np.uint8)
    scales, biases = np.empty(groups, np.float32), np.empty(groups, np.float32)
    width = groups // max(len(blocks), 1)  # groups of one block
    for at in range(0, len(blocks), _SLAB):
        slab = groups_of(blocks[at : at + _SLAB])
        here = slice(at * width, (at + _SLAB) * width)
        lanes[here] = slab[0].reshape(-1, lanes.shape[1])
        scales[here], biases[here] = slab[1].ravel(), slab[2].ravel()
    return Packed(lanes.view("<u4").reshape(rows, -1), scales.reshape(rows, -1), biases.reshape(rows, -1), bits)


def _dequantize(info: TensorInfo) -> Floats:
    blocks = map_tensor(info).view(np.dtype(_LAYOUTS[info.type]))
    numbers = np.empty((len(blocks), 256), np.float32)
    for at in range(0, len(blocks), _SLAB):
        numbers[at : at + _SLAB] = _FLOATS[info.type](blocks[at : at + _SLAB]).reshape(-1, 256)
    return numbers.reshape(info.shape)


# From ggml's order of 4-bit integers to MLX's. A byte of ggml holds a weight of the first half of a run in its low
# nibble and one of the second half in its high nibble; MLX wants neighbours in one byte. Two bytes are handled at once.


def _neighbours(pairs: NDArray[np.uint16]) -> Bytes:
    """Two bytes as one uint16, shape (..., n) -> bytes of neighbours, shape (..., 2, n): the low nibbles, the high."""
    low = (pairs & 0xF) | (pairs >> 4 & 0xF0)
    high = (pairs >> 4 & 0xF) | (pairs >> 8 & 0xF0)
    return np.stack([low, high], axis=-2).astype(np.uint8)


def _nibbles(low: Bytes) -> Bytes:
    """Shape (..., n) -> (..., 2, n): the low nibbles, the high ones."""
    return np.stack([low & 0xF, low >> 4], axis=-2)


def _five_bits(numbers: Bytes) -> Bytes:
    """Integers below 32, shape (blocks, ..., 32) -> little-endian bits, shape (blocks * ..., 20)."""
    eights = numbers.reshape(-1, GROUP // 8, 8).astype(np.uint64)
    bits = np.zeros(eights.shape[:2], "<u8")
    for place in range(8):
        bits |= eights[..., place] << np.uint64(5 * place)
    return bits[..., None].view(np.uint8)[..., :5].reshape(-1, 20)


def _fifth_bits(high: Bytes) -> Bytes:
    """Four bytes of 32 fifth bits, shape (blocks, 4) -> 16 or 0, shape (blocks, 2, 16)."""
    return (np.unpackbits(high, axis=-1, bitorder="little") << 4).reshape(-1, 2, 16)


def _q4_0(blocks: Blocks) -> Groups:
    d = blocks["d"].astype(np.float32)
    return _neighbours(blocks["low"]), d, -8 * d


def _q4_1(blocks: Blocks) -> Groups:
    return _neighbours(blocks["low"]), blocks["d"].astype(np.float32), blocks["m"].astype(np.float32)


def _q5_0(blocks: Blocks) -> Groups:
    d = blocks["d"].astype(np.float32)
    return _five_bits(_nibbles(blocks["low"]) | _fifth_bits(blocks["high"])), d, -16 * d


def _q5_1(blocks: Blocks) -> Groups:
    lanes = _five_bits(_nibbles(blocks["low"]) | _fifth_bits(blocks["high"]))
    return lanes, blocks["d"].astype(np.float32), blocks["m"].astype(np.float32)


def _q8_0(blocks: Blocks) -> Groups:
    d = blocks["d"].astype(np.float32)
    return blocks["q"] ^ 0x80, d, -128 * d  # flipping the sign bit adds 128 to an int8


def _q4_k(blocks: Blocks) -> Groups:
    return _neighbours(blocks["low"]), *_scales_and_mins(blocks)


def _q5_k(blocks: Blocks) -> Groups:
    fifth = blocks["high"] >> np.arange(8, dtype=np.uint8)[:, None] & 1  # (blocks, 8, 32)
    numbers = _nibbles(blocks["low"]).reshape(-1, 8, 32) | fifth << 4
    return _five_bits(numbers), *_scales_and_mins(blocks)


def _scales_and_mins(blocks: Blocks) -> tuple[Floats, Floats]:
    """Twelve bytes hold eight scales and eight minima of 6 bits: get_scale_min_k4. Both float32, (blocks, 8)."""
    first, second, last = blocks["sub"][:, :4], blocks["sub"][:, 4:8], blocks["sub"][:, 8:]
    scale = np.concatenate([first & 63, (last & 0xF) | (first >> 6) << 4], axis=1)
    least = np.concatenate([second & 63, last >> 4 | (second >> 6) << 4], axis=1)
    d, dmin = (blocks[name].astype(np.float32)[:, None] for name in ("d", "dmin"))
    return d * scale, -dmin * least


def _q2_k(blocks: Blocks) -> Floats:
    quarters = _crumbs(blocks["low"])
    d, dmin = (blocks[name].astype(np.float32)[:, None] for name in ("d", "dmin"))
    scale, least = d * (blocks["sub"] & 0xF), dmin * (blocks["sub"] >> 4)
    weights: Floats = scale[..., None] * quarters - least[..., None]
    return weights


def _q3_k(blocks: Blocks) -> Floats:
    third = (blocks["high"] >> np.arange(8, dtype=np.uint8)[:, None] & 1).reshape(-1, 16, 16)
    numbers = (_crumbs(blocks["low"]) | third << 2).astype(np.float32) - 4
    low, high = blocks["sub"][:, None, :8], blocks["sub"][:, None, 8:]
    nibbles = (low >> np.array([[0], [4]], np.uint8) & 0xF).reshape(-1, 16)
    crumbs = (high >> np.array([[0], [2], [4], [6]], np.uint8) & 3).reshape(-1, 16)
    scale = (nibbles | crumbs << 4).astype(np.float32) - 32
    weights: Floats = (blocks["d"].astype(np.float32)[:, None] * scale)[..., None] * numbers
    return weights


def _q6_k(blocks: Blocks) -> Floats:
    low, shifts = blocks["low"], np.array([[0], [2], [4], [6]], np.uint8)
    nibbles = np.concatenate([low & 0xF, low >> 4], axis=2)  # (blocks, 2, 4, 32)
    numbers = (nibbles | (blocks["high"] >> shifts & 3) << 4).reshape(-1, 16, 16).astype(np.float32) - 32
    weights: Floats = (blocks["d"].astype(np.float32)[:, None] * blocks["sub"])[..., None] * numbers
    return weights


def _crumbs(low: Bytes) -> Bytes:
    """Four 2-bit integers in each byte, shape (blocks, 2, 1, 32) -> (blocks, 16, 16), in the order of the weights."""
    return (low >> np.array([[0], [2], [4], [6]], np.uint8) & 3).reshape(-1, 16, 16)


_AFFINE: Mapping[str, tuple[int, Callable[[Blocks], Groups]]] = {
    "Q4_0": (4, _q4_0),
    "Q4_1": (4, _q4_1),
    "Q5_0": (5, _q5_0),
    "Q5_1": (5, _q5_1),
    "Q8_0": (8, _q8_0),
    "Q4_K": (4, _q4_k),
    "Q5_K": (5, _q5_k),
}

_FLOATS: Mapping[str, Callable[[Blocks], Floats]] = {"Q2_K": _q2_k, "Q3_K": _q3_k, "Q6_K": _q6_k}

_PLAIN: Mapping[str, Callable[[Bytes], NDArray[Any]]] = {  # Any: float16 or float32
    "F32": lambda data: data.view("<f4"),
    "F16": lambda data: data.view("<f2"),
    "BF16": lambda data: (data.view("<u2").astype("<u4") << 16).view("<f4"),  # the upper half of a float32
}


def is_packed(kind: str) -> bool:
    """Whether a matrix of this ggml type becomes `Packed`."""
    return kind in _AFFINE
