"""The backend contract: what a plugin gives to phiplug, and what it may rely on.

A backend turns token ids into logits and nothing more. A plugin registers a `Backend`, which is cheap and imports no
engine; `Backend.load` returns a `Model`, whose one verb is `forward`; `rewind` and `copy` move the boundary of what its
key-value cache holds. The prompt, the tokens, the sampling and the text belong to the core.

Write a plugin against this package, `phiplug.types`, `errors`, `checks`, `deferred` and, for files, `gguf` and
`folder`: the rest is the core's and changes without notice. `phiplug.testing.BackendContract` tests what it asks for.
In reading order: `model` (a loaded model and its passes), `loading` (a backend and how it loads), `tokenizer`, and
`draw`, for a device that guesses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from phiplug.spi.draw import Draw
from phiplug.spi.loading import Backend, Cache, LoadOptions, LookaheadMode, ModelFiles, Probe
from phiplug.spi.model import (
    Autotunes,
    Feature,
    Guess,
    Guesses,
    Metered,
    Model,
    ModelInfo,
    Pass,
    RowIndependence,
    Step,
)
from phiplug.spi.tokenizer import Tokenizer, TokenKind

if TYPE_CHECKING:
    from phiplug.spi.model import Logits as Logits

API_VERSION = 2
"""The version of this contract. A change that breaks plugins of the version before raises it; see docs/plugins.md."""

OLDEST_API = 2
"""The oldest version of the contract that this core still accepts."""

hookimpl = pluggy.HookimplMarker("phiplug")
"""Marks a plugin's implementation of a hook in `phiplug.plugins.hookspecs`."""

__all__ = [
    "API_VERSION",
    "OLDEST_API",
    "Autotunes",
    "Backend",
    "Cache",
    "Draw",
    "Feature",
    "Guess",
    "Guesses",
    "LoadOptions",
    "LookaheadMode",
    "Metered",
    "Model",
    "ModelFiles",
    "ModelInfo",
    "Pass",
    "Probe",
    "RowIndependence",
    "Step",
    "TokenKind",
    "Tokenizer",
    "hookimpl",
]
