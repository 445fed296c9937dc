"""A loaded model: what it says of itself, the passes that it is asked for, and what it can do beyond the minimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from phiplug.errors import InvalidParameter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from phiplug.spi.draw import Draw

    Logits: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens that one pass appends to one sequence.

    Attributes:
        slot: which sequence, in [0, ModelInfo.slots).
        tokens: what is appended, at least one id, each in [0, ModelInfo.vocab_size).
        rows: logits are wanted for the last `rows` of the tokens; 0 for an inner chunk of a prefill.
    """

    slot: int
    tokens: Sequence[int]
    rows: int = 1

    def __post_init__(self) -> None:
        if not self.tokens:
            raise InvalidParameter("tokens", "a step appends at least one token")
        if not 0 <= self.rows <= len(self.tokens):
            raise InvalidParameter("rows", f"{self.rows} rows are wanted of {len(self.tokens)} tokens")


class Pass(Protocol):
    """A forward pass that was asked for: it may run already, or begin when it is read.

    It takes effect exactly once: when its logits are read, or at the next `forward`, `rewind` or `copy` on the model,
    whichever is first. `close` drops it. Each of these may raise what the pass raises.
    """

    def logits(self) -> Logits:
        """Wait for the pass and return its rows, in the order of the steps.

        Returns:
            float32 (sum of rows, vocab_size), read-only, the same when read twice; valid until the next pass is asked
            for, or where that is a guess which goes on from this one, until the pass after the guess.

        Raises:
            BackendFailed: the engine reported a failure; the length of each slot is then what `rewind` returns.
            OutOfMemory: the engine could not get the memory that it needs.
            KeyboardInterrupt: the user interrupted the pass; the slots are as after a failure.
        """
        ...


RowIndependence = Literal["none", "decode", "all"]
Feature = Literal["copy", "autotune", "meter", "guess"]
"""What a model can do beyond the minimum: share a prefix, choose its threads by measuring, count its memory, go on from
tokens that it has drawn itself."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a loaded model says about itself.

    Attributes:
        vocab_size: the width of a row of logits.
        context_length: how many tokens one slot holds.
        slots: how many sequences it keeps apart.
        device: where it computes: "cpu", "metal", "cuda:0", ...
        quantization: what the weights are, as the engine holds them: "Q4_1", "affine 4-bit g32, float32 scales", ...
        version: of the engine.
        chunk: prompts are prefilled in pieces of this many tokens; equal chunks give bit-equal logits.
        threads: how many threads the next pass uses, or None where that is not the backend's to say.
        logits_precision: what the logits were rounded to before they became float32, where that is less.
        equal_passes: passes that give a sequence 1 to this many tokens are interchangeable: however a text is cut into
            them, its logits are bit for bit the same. 1 promises that of decoding alone.
        row_independence: which rows are bit for bit the same whatever else is in their pass. "none": a neighbour may
            change a row. "decode": no row of a pass that gives each sequence one token depends on the others, nor on
            whether there are others. "all": nor do the rows of prompts, whatever their lengths.
        features: what the model can do beyond the minimum; a feature without its methods is refused.
        cache_bytes: what the key-value cache takes when all slots are full, or None where the backend does not say.
        metadata: anything else that a user of `run --json` or `bench` should see: build flags, dtypes, ...
    """

    vocab_size: int
    context_length: int
    slots: int
    device: str
    quantization: str
    version: str
    chunk: int = 512
    threads: int | None = None
    logits_precision: Literal["float32", "float16", "bfloat16"] = "float32"
    equal_passes: int = 1
    row_independence: RowIndependence = "none"
    features: frozenset[Feature] = frozenset()
    cache_bytes: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class Model(Protocol):
    """A model that an engine has loaded, with `info.slots` sequences, all empty at first.

    The core calls it from one thread at a time.
    """

    @property
    def info(self) -> ModelInfo:
        """What this model is; only `threads` may change, and only in `autotune`."""
        ...

    def forward(self, steps: Sequence[Step]) -> Pass:
        """Ask for a pass that appends each step's tokens to its slot; each slot at most once.

        May start the work, or leave it to the Pass. The core sees to it that no slot exceeds `info.context_length`.
        """
        ...

    def rewind(self, slot: int, length: int) -> int:
        """Keep at most the first `length` tokens of `slot`; return how many were kept (0 where it cannot)."""
        ...

    def copy(self, source: int, target: int, length: int) -> int:
        """Make `target` hold the first `length` tokens of `source`; return how many it holds (0 without "copy")."""
        ...

    def close(self) -> None:
        """Give back memory and files. May be called twice; nothing else is called afterwards."""
        ...


class Autotunes(Protocol):
    """The methods of the feature "autotune": the model chooses its number of threads, or the like, by measuring.

    Logits may depend on that choice, so the core says when it may change.
    """

    def autotune(self) -> None:
        """Called when no sequence is in flight and the next request has no seed: choose anew, or leave it."""
        ...

    def forget(self) -> None:
        """Forget earlier measurements, so that `autotune` measures again; a benchmark calls this before its rounds."""
        ...


class Metered(Protocol):
    """The method of the feature "meter": the engine counts what it allocates on its device."""

    def peak_memory(self) -> int:
        """Return the most that was allocated at once since the process began, in bytes."""
        ...


class Guess(Pass, Protocol):
    """A pass whose tokens the device has drawn itself."""

    def tokens(self) -> Sequence[int]:
        """Wait for the drawn ids, and not for the pass that they are fed to.

        It raises what the pass that they were drawn from raises, or drawing them.

        Returns:
            An id for each `Draw` that was given, in their order; the same when read twice.
        """
        ...


class Guesses(Protocol):
    """The method of the feature "guess": the next pass is asked for before the host knows its tokens.

    The device draws them by the same rule as the host, so that it need not wait for the host. The host draws as always
    and compares: a guess that is right is the next pass; one that is wrong is undone by `rewind`.
    """

    def guess(self, asked: Pass, draws: Sequence[Draw | None]) -> Guess | None:
        """Ask for the pass that appends to each slot of `asked` the token that the last row of its step leads to.

        It neither settles nor invalidates `asked`, whose rows stay valid until the pass after the guess is asked for.
        Whatever else touches the model (`forward`, `rewind`, `copy`) settles both, in their order, and a failure of
        `asked` fails the guess. Of the guess, one row for each `Draw` is returned; the logits are those of a `forward`
        with the same tokens, bit for bit.

        Args:
            asked: what the last `forward` or `guess` returned; it may have been read.
            draws: how the token is drawn from the last row of each step of `asked`, in their order; None where that
                sequence does not go on, or where the step has no row. One at least is a `Draw`.

        Returns:
            None where a slot could not give the token back: then nothing was asked for.
        """
        ...
