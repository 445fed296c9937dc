"""The backend contract: what a plugin gives to phiplug, and what it may rely on.

A backend turns token ids into logits and nothing more. A plugin registers a `Backend`, which is cheap and imports no
engine; `Backend.load` returns a `Model`, whose one verb is `forward`; `rewind` and `copy` move the boundary of what its
key-value cache holds. The prompt, the tokens, the sampling and the text belong to the core.

Write a plugin against this file, `phiplug.types`, `errors`, `checks`, `deferred` and, for files, `gguf` and `folder`:
the rest is the core's and changes without notice. `phiplug.testing.BackendContract` tests what this file asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import pluggy

from phiplug.errors import InvalidParameter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Logits: TypeAlias = NDArray[np.float32]

API_VERSION = 2
"""The version of this contract. A change that breaks plugins of the version before raises it; see docs/plugins.md."""

OLDEST_API = 2
"""The oldest version of the contract that this core still accepts."""

hookimpl = pluggy.HookimplMarker("phiplug")
"""Marks a plugin's implementation of a hook in `phiplug.plugins.hookspecs`."""


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
            float32 (sum of rows, vocab_size), read-only, valid until the next `forward`; the same when read twice.

        Raises:
            BackendFailed: the engine reported a failure; the length of each slot is then what `rewind` returns.
            OutOfMemory: the engine could not get the memory that it needs.
            KeyboardInterrupt: the user interrupted the pass; the slots are as after a failure.
        """
        ...


RowIndependence = Literal["none", "decode", "all"]
Feature = Literal["copy", "autotune", "meter"]
"""What a model can do beyond the minimum: share a prefix, choose its threads by measuring, count its memory."""


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


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a backend can work here.

    Attributes:
        available: its engine is installed and works.
        reason: why not, in a few words; empty when available.
        install: the command that would make it available.
        devices: what it could compute on, the preferred one first: ("metal", "cpu").
        versions: of the engine and what belongs to it.
    """

    available: bool
    reason: str = ""
    install: str = ""
    devices: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's files, found.

    Attributes:
        reference: what the user wrote.
        path: the GGUF file (the first one of a split), or the folder.
        format: "gguf", "folder" (config.json beside safetensors), or a word that a plugin made up for its own.
    """

    reference: str
    path: Path
    format: str


class Cache(Protocol):
    """Remembers measurements between processes; one that is lost is taken again."""

    def get(self, key: str) -> Any:  # Any: what JSON holds
        """Return what was remembered under `key`, or None."""
        ...

    def set(self, key: str, value: Any) -> None:  # Any: what JSON holds
        """Remember a JSON value under `key`."""
        ...


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a model; a backend raises `UnsupportedParameter` for what it cannot honour.

    Attributes:
        device: one of the probe's devices, or None for its first.
        ctx_size: how many tokens a slot holds, or None for the backend's choice.
        slots: how many sequences are kept apart.
        threads: a fixed number of threads, or None for the backend's choice.
        gpu_layers: how many layers go to the GPU; None or -1 for all.
        exact_scales: keep quantization scales in float32 where the device would use float16.
        verbose: let the engine's own log through to stderr.
        cache: where to remember what was measured, or None.
    """

    device: str | None = None
    ctx_size: int | None = None
    slots: int = 1
    threads: int | None = None
    gpu_layers: int | None = None
    exact_scales: bool = False
    verbose: bool = False
    cache: Cache | None = None

    def __post_init__(self) -> None:
        for name, low in (("ctx_size", 1), ("slots", 1), ("threads", 1), ("gpu_layers", -1)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < low):
                raise InvalidParameter(name, f"{value!r} is not an integer of at least {low}")


@dataclass(frozen=True, slots=True)
class Backend:
    """What a plugin registers. Making one is cheap: no engine is imported before `load`.

    Attributes:
        name: what `--backend` takes: lower case, digits and hyphens.
        summary: one line for `phiplug backends`.
        probe: looks whether the engine works here; never raises, and is quick.
        accepts: whether these files are of a kind that it can load.
        load: loads them; raises `ModelError`, `BackendUnavailable` or `OutOfMemory`.
        default_model: the reference that `run -b NAME` and `plugins check NAME` use when none is given.
        api: the version of the contract that the plugin was written for, as a literal: 2.
    """

    name: str
    summary: str
    probe: Callable[[], Probe]
    accepts: Callable[[ModelFiles], bool]
    load: Callable[[ModelFiles, LoadOptions], Model]
    default_model: str | None = None
    api: int = field(kw_only=True)


TokenKind = Literal["text", "control", "byte", "unused"]


class Tokenizer(Protocol):
    """Text to ids and back to bytes, the same for every backend."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The id that begins a sequence, or None."""
        ...

    @property
    def adds_bos(self) -> bool:
        """Whether the model's own flag asks for `bos_id` at the beginning."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer; never part of its text."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """The texts of bos_token, eos_token, unk_token and pad_token, where there are such, for the chat template."""
        ...

    def encode(self, text: str, *, parse_special: bool = True) -> list[int]:
        """Return the ids of `text`, without adding any; `parse_special` turns control tokens' texts into their ids."""
        ...

    def control_tokens_in(self, text: str) -> list[str]:
        """Return the texts of the control tokens that `encode` would find in `text`, in order."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that `token` stands for; b"" for a control token."""
        ...
