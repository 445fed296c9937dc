"""Unpacks the bytes of a tensor into float32, for the types that GGUF files of today are made of.

A quantized tensor is a row of blocks; each holds some 32 or 256 small whole numbers q and what turns them back:
d * q + m, or in the types with a K, d * scale * q - dmin * min for each 32 of them. Layouts: the structs of ggml's
ggml-common.h. This file knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from phiplug.errors import ModelUnsupported
from phiplug.gguf import TensorInfo, map_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Bytes: TypeAlias = NDArray[np.uint8]
    Blocks: TypeAlias = NDArray[np.void]  # a structured array, one element for a block

SLAB = 2**20  # numbers that are unpacked at a time, so that what lies between bytes and floats stays in the cache


def dequantize(info: TensorInfo) -> Floats:
    """Read one tensor.

    Returns:
        float32, of shape `info.shape`, C-contiguous, and no longer tied to the file.

    Raises:
        ModelUnsupported: it is of a type that is not known here.
        ModelNotFound, ModelCorrupt: the file has gone or become shorter since its header was read.
    """
    if info.type not in LAYOUTS:
        raise ModelUnsupported(
            f"{info.path.name}: {info.name} is {info.type}, and the numpy backend reads {', '.join(LAYOUTS)}",
            hint="use -b llama-cpp",
        )
    layout, unpack = LAYOUTS[info.type]
    blocks = np.asarray(map_tensor(info)).view(layout)
    numbers = np.empty(info.elements, np.float32)
    if blocks.size:
        of_block = numbers.size // blocks.size
        for start in range(0, blocks.size, SLAB // of_block):
            slab = unpack(blocks[start : start + SLAB // of_block])
            numbers[start * of_block : start * of_block + slab.size] = slab.reshape(-1)
    return numbers.reshape(info.shape)


def _plain(numbers: NDArray[Any]) -> NDArray[Any]:  # Any: float32 or float16, which float32 holds exactly
    return numbers


def _bf16(halves: NDArray[np.uint16]) -> Floats:
    """The upper half of a float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _q8_0(blocks: Blocks) -> Floats:
    numbers: Floats = _float(blocks["d"]) * blocks["q"]
    return numbers


def _q4_0(blocks: Blocks) -> Floats:
    return _float(blocks["d"]) * (_nibbles(blocks["q"], 1) - np.float32(8))


def _q4_1(blocks: Blocks) -> Floats:
    return _float(blocks["d"]) * _nibbles(blocks["q"], 1) + _float(blocks["m"])


def _q5_0(blocks: Blocks) -> Floats:
    return _float(blocks["d"]) * (_five_bits(blocks) - np.float32(16))


def _q5_1(blocks: Blocks) -> Floats:
    return _float(blocks["d"]) * _five_bits(blocks) + _float(blocks["m"])


def _q4_k(blocks: Blocks) -> Floats:
    return _k_scaled(blocks, _nibbles(blocks["q"], 4).reshape(-1, 8, 32))


def _q5_k(blocks: Blocks) -> Floats:
    bits: Bytes = blocks["high"][:, None, :] >> np.arange(8, dtype=np.uint8)[:, None]  # bit i is of the i-th 32
    fifth = bits & np.uint8(1)
    return _k_scaled(blocks, _nibbles(blocks["q"], 4).reshape(-1, 8, 32) | fifth << np.uint8(4))


def _q6_k(blocks: Blocks) -> Floats:
    """Two halves of 128 numbers; a byte of `high` holds two bits for each of four numbers that are 32 apart."""
    high = blocks["high"].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    q = _nibbles(blocks["q"], 2).reshape(-1, 2, 4, 32) | high << 4
    scales: Floats = _float(blocks["d"]) * blocks["scales"]
    return scales[:, :, None] * (q.reshape(-1, 16, 16) - np.float32(32))


def _float(half: NDArray[np.float16]) -> Floats:
    """Widen one number for each block, as a column."""
    return half.astype(np.float32)[:, None]


def _nibbles(packed: Bytes, runs: int) -> Bytes:
    """Unpack 4-bit numbers: in each of the block's `runs` the low halves of all its bytes come first, then the high."""
    packed = packed.reshape(len(packed), runs, 1, -1)
    return np.concatenate([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)


def _five_bits(blocks: Blocks) -> Bytes:
    fifth = blocks["high"][:, None] >> np.arange(32, dtype=np.uint32) & 1
    return _nibbles(blocks["q"], 1) | fifth.astype(np.uint8) << np.uint8(4)


def _k_scaled(blocks: Blocks, q: Bytes) -> Floats:
    """Scale q of shape (n, 8, 32) by eight 6-bit scales and minima, which share twelve bytes."""
    low, middle, high = (blocks["scales"][:, at : at + 4] for at in (0, 4, 8))
    scales = np.concatenate([low & 63, high & 15 | low >> 6 << 4], axis=1)
    minima = np.concatenate([middle & 63, high >> 4 | middle >> 6 << 4], axis=1)
    numbers: Floats = (_float(blocks["d"]) * scales)[:, :, None] * q - (_float(blocks["dmin"]) * minima)[:, :, None]
    return numbers


def _struct(*fields: tuple[str, str, int]) -> np.dtype[np.void]:
    """A packed C struct; a field of one element is a number and not an array."""
    return np.dtype([(name, kind) if count == 1 else (name, kind, (count,)) for name, kind, count in fields])


_D, _M, _DMIN = ("d", "<f2", 1), ("m", "<f2", 1), ("dmin", "<f2", 1)

LAYOUTS: Mapping[str, tuple[np.dtype[Any], Callable[[Any], NDArray[Any]]]] = {  # Any: each takes its own dtype
    "F32": (np.dtype("<f4"), _plain),
    "F16": (np.dtype("<f2"), _plain),
    "BF16": (np.dtype("<u2"), _bf16),
    "Q4_0": (_struct(_D, ("q", "u1", 16)), _q4_0),
    "Q4_1": (_struct(_D, _M, ("q", "u1", 16)), _q4_1),
    "Q5_0": (_struct(_D, ("high", "<u4", 1), ("q", "u1", 16)), _q5_0),
    "Q5_1": (_struct(_D, _M, ("high", "<u4", 1), ("q", "u1", 16)), _q5_1),
    "Q8_0": (_struct(_D, ("q", "i1", 32)), _q8_0),
    "Q4_K": (_struct(_D, _DMIN, ("scales", "u1", 12), ("q", "u1", 128)), _q4_k),
    "Q5_K": (_struct(_D, _DMIN, ("scales", "u1", 12), ("high", "u1", 32), ("q", "u1", 128)), _q5_k),
    "Q6_K": (_struct(("q", "u1", 128), ("high", "u1", 64), ("scales", "i1", 16), _D), _q6_k),
}
"""A type -> the layout of one block (one number, where there are none), and what unpacks an array of them."""
