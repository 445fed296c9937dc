"""When a row of llama.cpp does not depend on what else is in its pass, bit for bit; docs/decisions/bits.md has numbers.

ggml splits attention over the cells where one row of one stream is computed, and tiles it from 64 rows on, but both
only where keys and values are of one type. So with float16 keys and bfloat16 values every row goes through one kernel.
The products with the weights must not depend on the number of rows either, which holds for types without special
kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from phiplug.gguf import Header
    from phiplug.spi import RowIndependence

BF16 = 30  # GGML_TYPE_BF16 in ggml.h
FLASH_ATTENTION = 1  # LLAMA_FLASH_ATTN_TYPE_ENABLED in llama.h

_PLAIN = frozenset({"Q4_1", "Q5_1"})  # neither repacked nor in llamafile's sgemm
_EMBEDDINGS = ("token_embd.weight", "output.weight")
_EMBEDDING_TYPES = _PLAIN | {"Q8_0"}


class Bits(NamedTuple):
    """What the rows of a context depend on; see `ModelInfo`."""

    equal_passes: int
    row_independence: RowIndependence

    @property
    def context(self) -> dict[str, int]:
        """The fields of llama_context_params that make it so."""
        return {"type_v": BF16, "flash_attn_type": FLASH_ATTENTION} if self.row_independence == "all" else {}


def bits_of(header: Header, *, on_cpu: bool, chunk: int) -> Bits:
    """Return what can be declared of a file's rows."""
    plain = on_cpu and all(
        tensor.type in (_EMBEDDING_TYPES if name in _EMBEDDINGS else _PLAIN)
        for name, tensor in header.tensors.items()
        if len(tensor.shape) > 1
    )
    return Bits(chunk, "all") if plain else Bits(1, "none")
