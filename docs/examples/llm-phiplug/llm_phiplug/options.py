"""The options of `llm -o NAME VALUE`: phiplug's own names, checked by phiplug when they are used."""

from __future__ import annotations

from typing import Any

import llm
from pydantic import Field

from phiplug.types import SamplingParams

_LOADING = ("backend", "device", "ctx_size", "threads", "gpu_layers", "offline")
_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "repeat_last_n", "frequency_penalty"),
    *("presence_penalty", "seed", "dialect"),
)


class PhiplugOptions(llm.Options):
    """What a user may set; what is not set is phiplug's default."""

    temperature: float | None = Field(None, description="Divides the logits; 0 takes the likeliest token")
    top_p: float | None = Field(None, description="Mass of the likeliest tokens that may be drawn")
    top_k: int | None = Field(None, description="How many of the likeliest tokens may be drawn; 0 is all")
    min_p: float | None = Field(None, description="Least probability, relative to the largest")
    repeat_penalty: float | None = Field(None, description="Against repetition; 1 is off")
    repeat_last_n: int | None = Field(None, description="How many of the last tokens it looks at")
    frequency_penalty: float | None = Field(None, description="Subtracted once per occurrence")
    presence_penalty: float | None = Field(None, description="Subtracted once for each token that occurred")
    seed: int | None = Field(None, description="The same seed gives the same text; random if not given")
    dialect: str | None = Field(None, description="Another program's sampling rules: candle, llama.cpp, mlx-lm, hf")
    max_tokens: int | None = Field(None, description="At most so many tokens, 512 if not given")
    stop: str | None = Field(None, description="Text that ends the answer and is not part of it")
    logprobs: int | None = Field(
        None, description="Log-probabilities, of so many of the likeliest too; see llm logs --json"
    )
    model: str | None = Field(None, description="A file, an alias or hf:owner/repo, where the model's id is phiplug")
    backend: str | None = Field(None, description="llama-cpp, mlx, candle, ...; phiplug chooses if not given")
    device: str | None = Field(None, description="Where the backend computes")
    ctx_size: int | None = Field(None, description="Tokens of context")
    threads: int | None = Field(None, description="Threads of the engine; with a seed, a fixed number repeats")
    gpu_layers: int | None = Field(None, description="How many layers a GPU holds")
    offline: bool | None = Field(None, description="Never ask the network")


def loading(options: PhiplugOptions) -> dict[str, Any]:  # Any: `phiplug.load` checks them
    """Return what `phiplug.load` takes beside the model."""
    return _given(options, _LOADING)


def sampling(options: PhiplugOptions) -> SamplingParams:
    """Return how tokens are drawn.

    Raises:
        InvalidParameter: a value is out of range.
    """
    return SamplingParams(**_given(options, _SAMPLING))


def _given(options: PhiplugOptions, names: tuple[str, ...]) -> dict[str, Any]:  # Any: as above
    return {name: value for name in names if (value := getattr(options, name)) is not None}
