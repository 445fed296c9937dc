"""The products that are ours are Candle's, with every set of instructions that this processor has."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

KINDS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q5_K")  # on ARM, the first and the last are Candle's own
SHAPES = [(16, 1), (48, 18), (35, 3), (2, 2)]  # rows, and blocks in a row


def kernels() -> list[str]:
    from phiplug_candle import _native

    return _native.kernels()


def multiply(kernel: str, kind: str, packed: np.ndarray, x: np.ndarray) -> np.ndarray:
    from phiplug_candle import _native

    shape = (packed.shape[0], x.shape[1])
    return _native.multiply(kernel, kind, shape, packed.reshape(-1), x).reshape(len(x), -1)


def random_blocks(kind: str, shape: tuple[int, int], rng: np.random.Generator, *, plain: bool) -> np.ndarray:
    """Random bits with sound scales; `plain` makes d 1 and m 0, so that a product is a sum of whole numbers."""
    blocks = rng.integers(0, 256, (*shape, bytes_of(kind)), dtype=np.uint8)
    halves = 1 if kind.endswith("_0") else 2
    scales = rng.uniform(-1, 1, (*blocks.shape[:2], halves)).astype(np.float16)
    if plain:
        scales[:] = np.array([1, 0][:halves], np.float16)
    blocks[..., : 2 * halves] = scales.view(np.uint8)
    return blocks.reshape(shape[0], -1)


def elements_of(kind: str) -> int:
    return gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]


def bytes_of(kind: str) -> int:
    return gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]


def weights(kind: str, packed: np.ndarray) -> np.ndarray:
    return gguf.dequantize(packed, gguf.GGMLQuantizationType[kind])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_whole_numbers_are_exact(kind: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    packed = random_blocks(kind, shape, rng, plain=True)
    x = rng.integers(-127, 128, (7, shape[1] * elements_of(kind))).astype(np.float32)
    x[:, :: elements_of(kind)] = 127  # the largest of a block, so that its numbers are rounded to themselves
    wanted = x.astype(np.float64) @ weights(kind, packed).T
    for kernel in kernels():
        assert np.array_equal(multiply(kernel, kind, packed, x), wanted), kernel


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kernel_agrees_with_candles_to_an_ulp_of_each_block(kind: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    packed = random_blocks(kind, shape, rng, plain=False)
    x = rng.standard_normal((7, shape[1] * elements_of(kind))).astype(np.float32)
    wanted = multiply("candle", kind, packed, x)
    terms = np.abs(x) @ np.abs(weights(kind, packed)).T  # no partial sum of a row exceeds its own
    allowed = 2 * terms * np.finfo(np.float32).eps * (x.shape[1] // 32)
    for kernel in kernels():
        assert (np.abs(multiply(kernel, kind, packed, x) - wanted) <= allowed).all(), kernel


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_sums_do_not_overflow(kind: str) -> None:
    packed = random_blocks(kind, (16, 2), np.random.default_rng(7), plain=True)
    head = 2 if kind.endswith("_0") else 4
    packed.reshape(16, 2, -1)[..., head:] = 255
    x = np.full((5, 2 * elements_of(kind)), -127, np.float32)
    wanted = x.astype(np.float64) @ weights(kind, packed).T
    for kernel in kernels():
        assert np.array_equal(multiply(kernel, kind, packed, x), wanted), kernel


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_same_whatever_is_multiplied_beside_it(kind: str) -> None:
    rng = np.random.default_rng(8)
    packed = random_blocks(kind, (48, 18), rng, plain=False)
    x = rng.standard_normal((39, 18 * elements_of(kind))).astype(np.float32)
    for kernel in kernels()[:-1]:
        together = multiply(kernel, kind, packed, x)
        alone = np.concatenate([multiply(kernel, kind, packed, x[row : row + 1]) for row in range(len(x))])
        assert np.array_equal(together, alone), kernel
