"""How a backend is found, asked whether it works, and told to load a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

from phiplug.errors import InvalidParameter

if TYPE_CHECKING:
    from phiplug.spi.model import Model


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


LookaheadMode: TypeAlias = Literal["auto", "on", "off"]
"""Whether a device that can guess does: "auto" where a measurement at load says that it pays."""


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
        lookahead: whether to ask a model that has the feature "guess" for guesses; the core sees to it.
    """

    device: str | None = None
    ctx_size: int | None = None
    slots: int = 1
    threads: int | None = None
    gpu_layers: int | None = None
    exact_scales: bool = False
    verbose: bool = False
    cache: Cache | None = None
    lookahead: LookaheadMode = "auto"

    def __post_init__(self) -> None:
        if self.lookahead not in get_args(LookaheadMode):
            raise InvalidParameter("lookahead", f"{self.lookahead!r} is none of {', '.join(get_args(LookaheadMode))}")
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
