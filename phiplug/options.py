"""The options that the methods of `phiplug.llm.LLM` share, and what becomes of them. It knows nothing of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from phiplug.errors import InvalidParameter
from phiplug.messages import ToolLike
from phiplug.text.prompt import PromptOptions
from phiplug.types import Constraint, LogitsProcessor, SamplingParams

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "repeat_last_n", "seed")


class StreamOptions(TypedDict, total=False):
    """What `LLM.stream` takes beside the prompt; it says what each means."""

    max_tokens: int
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repeat_penalty: float | None
    repeat_last_n: int | None
    seed: int | None
    stop: str | Sequence[str]
    raw: bool
    variables: Mapping[str, object]
    tools: Sequence[ToolLike]
    tool_choice: str
    parallel_tool_calls: bool
    logprobs: int | None
    constraint: Constraint | None
    logits_processors: LogitsProcessor | Sequence[LogitsProcessor]
    params: SamplingParams | None


def sampling_of(options: StreamOptions) -> SamplingParams:
    """Return the parameters, with those in their place that are given by name."""
    given: dict[str, Any] = {name: options.get(name) for name in _SAMPLING}  # Any: SamplingParams checks them
    params = options.get("params")
    if params is None:
        params = SamplingParams()
    if not isinstance(params, SamplingParams):
        raise InvalidParameter("params", f"{type(params).__name__} is no SamplingParams")
    return replace(params, **{name: value for name, value in given.items() if value is not None})


def prompt_options_of(options: StreamOptions) -> PromptOptions:
    """Return how the prompt becomes ids."""
    return PromptOptions(
        options.get("raw", False),
        variables=options.get("variables") or {},
        tools=options.get("tools", ()),
        tool_choice=options.get("tool_choice", "auto"),
        parallel_tool_calls=options.get("parallel_tool_calls", True),
    )
