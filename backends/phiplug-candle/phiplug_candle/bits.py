"""Says whether the rows of a file depend on what else is in their pass, bit for bit.

The numbers are in docs/decisions/candle.md.

Candle's attention computes each row by itself, and so do its products with quantized weights: whole numbers are summed
within a block, and blocks in one order. Two kinds of weights are exceptions. Candle multiplies floating-point ones with
kernels that depend on the number of rows, and Q6_K with one kernel for a row and another for several.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from phiplug.gguf import Header
    from phiplug.spi import RowIndependence

STEADY = frozenset({"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K"})
MEASURED = ("x86_64", "AMD64")
"""Processors on which it was measured; on ARM, Candle has other kernels for one row than for four."""


class Bits(NamedTuple):
    """What the rows depend on; see `ModelInfo`."""

    equal_passes: int
    row_independence: RowIndependence


def bits_of(header: Header, *, device: str, chunk: int) -> Bits:
    """Return what can be declared of a file's rows."""
    matrices = {tensor.type for tensor in header.tensors.values() if len(tensor.shape) > 1}
    steady = device == "cpu" and platform.machine() in MEASURED and matrices <= STEADY
    return Bits(chunk, "all") if steady else Bits(1, "none")
