"""Reads from a GGUF how positions are rotated, as llama.cpp understands the same metadata and tensors.

It serves engines that rotate by their own code. It knows no engine, and which layers rotate is the engine's to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf.header import Header, TensorInfo
from phiplug.gguf.hyperparameters import LONGEST, OTHERS, real, trained_context, whole
from phiplug.gguf.reader import map_tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOR_ALL = "rope_freqs.weight"
FOR_SHORT, FOR_LONG = "rope_factors_short.weight", "rope_factors_long.weight"
ROTARY_TENSORS = frozenset({FOR_ALL, FOR_SHORT, FOR_LONG})
"""Tensors that are no weights: factors for any context (Llama 3), or for short and for long ones (Phi-3)."""

DEFAULT_BASE = 10_000.0


@dataclass(frozen=True, slots=True)
class Rotation:
    """How positions turn into angles: position * scale / (factor * base ** (2i / dims)) for the i-th pair.

    Attributes:
        dims: how many numbers of a head are rotated, the first ones.
        base: of the frequencies.
        scale: of the positions: 1 / 8 for a context stretched 8 times.
        factors: one for each of the dims / 2 pairs, or none.
        magnitude: what the rotated numbers are multiplied by; 1 but for LongRoPE.
    """

    dims: int
    base: float
    scale: float = 1.0
    factors: tuple[float, ...] = ()
    magnitude: float = 1.0

    def frequencies(self) -> NDArray[np.float64]:
        """Return the radians that each pair turns by from one position to the next: float64, (dims / 2,)."""
        import numpy as np

        periods = np.array(self.factors or 1.0) * self.base ** (np.arange(0, self.dims, 2) / self.dims)
        frequencies: NDArray[np.float64] = self.scale / periods
        return frequencies


def rotation_of(header: Header, head: int, context: int) -> Rotation:
    """Read how positions are rotated.

    Args:
        header: of the GGUF.
        head: how many numbers a head of keys has.
        context: how many tokens a sequence may have. It decides between Phi-3's two sets of factors once, as in
            llama.cpp; Hugging Face goes by the length that a sequence has.

    Raises:
        ModelUnsupported: by a rule that is not known here, such as YaRN.
        ModelCorrupt: by numbers that are missing or out of range.
    """
    kind = header.hyperparameter("rope.scaling.type") or "linear"  # what llama.cpp takes if a file says nothing
    if kind not in ("none", "linear", "longrope"):
        raise ModelUnsupported(f"{header.path.name} rotates positions by {kind!r}", hint=OTHERS)
    dims = rotated_numbers(header, head)
    return Rotation(
        dims=dims,
        base=real(header, "rope.freq_base", DEFAULT_BASE),
        scale=1.0 if kind == "none" else 1.0 / _stretch(header),
        factors=_factors(header, dims // 2, context),
        magnitude=real(header, "rope.scaling.attn_factor", 1.0),
    )


def rotated_numbers(header: Header, head: int) -> int:
    """Return how many of the `head` numbers of a head are rotated; raises ModelCorrupt if that cannot be."""
    dims = whole(header, "rope.dimension_count", head)
    if dims % 2 or dims > head:
        raise ModelCorrupt(f"{header.path.name} is damaged: {dims} of the {head} numbers of a head are rotated")
    return dims


def _stretch(header: Header) -> float:
    """Read how many times longer the context is; llama.cpp writes 0 for none, and old files have the older key."""
    key = "rope.scale_linear" if header.hyperparameter("rope.scaling.factor") is None else "rope.scaling.factor"
    return 1.0 if header.hyperparameter(key) == 0 else real(header, key, 1.0)


def _factors(header: Header, pairs: int, context: int) -> tuple[float, ...]:
    """Read how many times slower than usual each pair turns."""
    if not ROTARY_TENSORS & header.tensors.keys():
        return ()
    name = FOR_ALL
    if name not in header.tensors:
        original = whole(header, "rope.scaling.original_context_length", trained_context(header), largest=LONGEST)
        name = FOR_SHORT if context <= original else FOR_LONG
    if name not in header.tensors:
        raise ModelCorrupt(f"{header.path.name} lacks {name}", hint="download it again")
    return _positive(header.tensors[name], pairs)


def _positive(info: TensorInfo, pairs: int) -> tuple[float, ...]:
    import numpy as np

    file = info.path.name
    if info.type != "F32" or info.shape != (pairs,):
        raise ModelCorrupt(f"{file} is damaged: {info.name} is {info.shape} of {info.type}, not ({pairs},) of F32")
    factors = np.asarray(map_tensor(info)).view("<f4")
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise ModelCorrupt(f"{file} is damaged: {info.name} holds a number that is not positive")
    return tuple(factors.astype(float).tolist())
