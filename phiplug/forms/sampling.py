"""The fields that say how tokens are drawn, and the request that they make. Defaults are those of OpenAI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiplug.dialects import RULES
from phiplug.forms.constraints import demand_of
from phiplug.forms.fields import (
    Given,
    Table,
    accepted,
    biases,
    flag,
    honoured,
    integer,
    mapping,
    nested,
    number,
    stops,
    text,
)
from phiplug.markup import NO_MARKUP, Markup
from phiplug.parameters import MAX_SEED
from phiplug.types import Request, SamplingParams

if TYPE_CHECKING:
    from phiplug.forms.fields import Field
    from phiplug.spi import ModelInfo

MODEL = (
    honoured("model", "a name of /v1/models; the first one if it is left out", text),
    honoured("backend", "ours: one of the model's backends; its first one if it is left out", text),
)
OURS = (
    honoured("top_k", "ours: an integer from 0; 0 is off", integer(0)),
    honoured("min_p", "ours: 0 to 1; 0 is off", number(0, 1)),
    honoured("repeat_penalty", "ours: above 0, at most 10; 1 is off", number(1e-6, 10)),
    honoured("repeat_last_n", "ours: an integer from -1; 0 is off, -1 is everything", integer(-1)),
    honoured("sampling_dialect", f"ours: {', '.join(RULES)}", text),
    honoured("ignore_eos", "ours: true goes on past the model's stop tokens", flag),
)


def drawing(highest_temperature: int = 2) -> tuple[Field, ...]:
    """Return the fields that OpenAI's and Anthropic's interfaces share."""
    return (
        honoured("temperature", f"0 to {highest_temperature}; 0 is greedy", number(0, highest_temperature)),
        honoured("top_p", "0 to 1", number(0, 1)),
    )


OPENAI = (
    *drawing(),
    honoured("stop", "a text, or at most 16", stops),
    honoured("seed", "an integer from 0; the same seed gives the same text", integer(0, MAX_SEED - 1)),
    honoured("logit_bias", "-100 to 100 by token id", biases),
    honoured("frequency_penalty", "-2 to 2", number(-2, 2)),
    honoured("presence_penalty", "-2 to 2", number(-2, 2)),
    honoured("n", "1 to 128 answers", integer(1, 128)),
    *OURS,
)
TRAVELLING = (
    honoured("user", "a text; nothing is done with it", text),
    honoured("metadata", "an object; nothing is done with it", mapping),
    honoured("safety_identifier", "a text; nothing is done with it", text),
    honoured("prompt_cache_key", "a text; equal beginnings of prompts are found without it", text),
)
STREAM = honoured("stream", "true sends the answer as it comes", flag)
STREAM_OPTIONS = honoured(
    "stream_options",
    "`include_usage`, and `include_obfuscation` false",
    nested(Table(honoured("include_usage", "", flag), accepted("include_obfuscation", False))),
)
_NAMES = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "seed",
    "logit_bias",
    "frequency_penalty",
    "presence_penalty",
)


def sampling_of(given: Given) -> SamplingParams:
    """Return the parameters of a request; what it leaves out is as OpenAI has it: the model's own probabilities."""
    asked = {"temperature": 1.0, "top_p": 1.0, "repeat_penalty": 1.0, **given.pick(*_NAMES)}
    return SamplingParams(**asked, dialect=given.get("sampling_dialect", "phiplug"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request is to bring, beside how it is drawn.

    Attributes:
        max_tokens: at most so many tokens; None for as many as the context holds.
        logprobs: as in `Request`.
        score_from: as in `Request`.
        templated: as in `Request`.
        markup: as in `Request`.
    """

    max_tokens: int | None = None
    logprobs: int | None = None
    score_from: int | None = None
    templated: bool = False
    markup: Markup = NO_MARKUP


def request_of(given: Given, ids: tuple[int, ...], info: ModelInfo, wanted: Wanted) -> Request:
    """Make the engine's request from the fields of a client's, for a model with this `info`.

    Raises:
        InvalidParameter: the fields do not go together.
    """
    sampling = sampling_of(given)
    return Request(
        prompt_ids=ids,
        sampling=sampling.seeded(),
        max_tokens=info.context_length if wanted.max_tokens is None else wanted.max_tokens,
        stop=given.get("stop", ()),
        ignore_stop_ids=given.get("ignore_eos", False),
        repeatable=sampling.repeats,
        logprobs=wanted.logprobs,
        score_from=wanted.score_from,
        templated=wanted.templated,
        markup=wanted.markup,
        constraint=demand_of(given).constraint,
    )
