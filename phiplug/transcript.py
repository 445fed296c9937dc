"""A conversation in a file: messages and how they are answered <-> JSON.

The messages are in the form that OpenAI's interface has made common, so that other programs can read them, and files
that hold nothing else can be read here. It knows nothing of models: whether a template takes the messages shows when
they are next sent.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from phiplug import checks, userfiles
from phiplug.errors import InvalidParameter, UnsupportedParameter
from phiplug.types import Message, SamplingParams


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How each turn of a conversation is answered.

    Attributes:
        sampling: how tokens are drawn.
        max_tokens: at most so many tokens an answer.
        stop: strings that end an answer and are not part of it.
        strict_content: refuse control tokens in a message.
        variables: what the chat template is given beside the messages; see `PromptOptions`.
    """

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    strict_content: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)  # Any: what JSON holds

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_tokens", checks.integer("max_tokens", self.max_tokens, low=1))
        object.__setattr__(self, "stop", checks.stops(self.stop))
        checks.flag("strict_content", self.strict_content)
        if not isinstance(self.variables, Mapping):
            raise InvalidParameter("variables", f'{self.variables!r} is not of the form {{"name": value}}')

    def values(self) -> dict[str, Any]:  # Any: what JSON holds
        """Return every setting by its name, as JSON has it."""
        sampling = {each.name: getattr(self.sampling, each.name) for each in fields(SamplingParams)}
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "sampling"}
        return sampling | own | {"logit_bias": biases_as_json(sampling["logit_bias"])}

    def changed(self, values: Mapping[str, Any]) -> AnswerOptions:  # Any: what JSON holds
        """Return these options with some values, as JSON has them, in the place of others.

        Raises:
            InvalidParameter: there is no such setting, or the value is of the wrong kind or out of range.
        """
        for name in values:
            if name not in SETTINGS:
                near = difflib.get_close_matches(name, SETTINGS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SETTINGS)}"
                raise InvalidParameter(name, "there is no such setting", hint=hint)
        typed = dict(values)
        if "logit_bias" in typed:
            typed["logit_bias"] = _biases("logit_bias", typed["logit_bias"])
        own = {name: typed.pop(name) for name in _OWN & typed.keys()}
        return replace(self, sampling=replace(self.sampling, **typed), **own)


_OWN = frozenset({"max_tokens", "stop", "strict_content", "variables"})
SETTINGS = (*(each.name for each in fields(SamplingParams)), *sorted(_OWN))
"""The names that `AnswerOptions.changed` takes."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a file of a conversation says.

    Attributes:
        messages: the conversation; a system message, if there is one, comes first.
        options: setting -> value, as JSON has them; empty where the file has none.
        model: the reference of the model that answered, for people to read.
        backend: what computed it, likewise.
    """

    messages: tuple[Message, ...]
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: `AnswerOptions.changed` checks them
    model: str = ""
    backend: str = ""

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all; it replaces nothing but a conversation.

        Raises:
            InvalidParameter: the file cannot be written, or is there and no conversation.
        """
        if os.path.lexists(userfiles.expanded(path)):
            _refuse_to_replace(path)
        content = {
            "model": self.model,
            "backend": self.backend,
            "messages": [message.as_dict() for message in self.messages],
            "options": dict(self.options),
        }
        userfiles.write_text("file", path, json.dumps(content, ensure_ascii=False, indent=1))


def read_transcript(path: Path) -> Transcript:
    """Read the file of a conversation.

    Raises:
        InvalidParameter: it cannot be read, or is no conversation.
    """
    try:
        content = json.loads(userfiles.read_text("file", path))
    except (ValueError, RecursionError):
        raise InvalidParameter("file", f"{path} is not JSON") from None
    entries = content.get("messages") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not isinstance(content.get("options", {}), dict):
        raise InvalidParameter("file", f"{path} is JSON, but no conversation", hint="it has no list of messages")
    messages = tuple(_message(path, entry) for entry in entries)
    if any(message.role == "system" for message in messages[1:]):
        raise InvalidParameter("file", f"{path} has a system message that is not the first one")
    options = content.get("options", {})
    return Transcript(messages, options, str(content.get("model", "")), str(content.get("backend", "")))


def _message(path: Path, entry: Any) -> Message:  # Any: what JSON holds
    try:
        return Message.of(entry)
    except UnsupportedParameter:  # other programs keep more than this one reads
        return Message(entry["role"], entry["content"])
    except InvalidParameter as error:
        raise InvalidParameter("file", f"{path} has a message that is none: {error.message}") from None


def _refuse_to_replace(path: Path) -> None:
    try:
        read_transcript(path)
    except InvalidParameter:
        raise InvalidParameter("file", f"{path} is there, and is no conversation", hint="choose another name") from None


def biases_as_json(biases: Mapping[int, float]) -> dict[str, float | str]:
    """Return biases as JSON can hold them: it has no infinity, so "-inf" stands for a token that is forbidden."""
    return {str(token): "-inf" if bias == -math.inf else bias for token, bias in biases.items()}


def _biases(name: str, value: Any) -> dict[int, float]:  # Any: what JSON holds
    try:
        return {int(token): -math.inf if bias == "-inf" else bias for token, bias in value.items()}
    except (AttributeError, ValueError):
        raise InvalidParameter(name, f'{value!r} is not of the form {{"42": -1.5}}') from None
