"""Renders messages into the text of a prompt, by the chat template that the model brings.

HF transformers' renderer is the reference for what a template means; `phiplug.text.sandbox` holds to it, within bounds.
This file finds a template among a model's files, gives it the messages, and finds out which of them it ignored. It
knows nothing of tokens: whether the text begins with a BOS is the tokenizer's affair.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from phiplug.errors import InvalidParameter, ModelCorrupt, TemplateFailed
from phiplug.folder import read_json
from phiplug.gguf import read_header
from phiplug.spi import ModelFiles
from phiplug.text.reasoning import reasoning_of
from phiplug.text.sandbox import Sandbox
from phiplug.text.tools.formats import format_of
from phiplug.text.tools.turns import as_turn
from phiplug.types import Message, ToolFormat

_OURS = frozenset({"messages", "add_generation_prompt"})
_SET_HERE = _OURS | {"tools"}
_GGUF_KEY = "tokenizer.chat_template"


class ChatTemplate:
    """A chat template, compiled when it is first used: a broken one harms nobody who does not use it.

    Args:
        source: what the template's author wrote in Jinja, at most `phiplug.text.sandbox.MAX_SOURCE` characters.
        clock: what `strftime_now` in a template reads.
        tool_formats: forms of calls that may be looked for beside those of `phiplug.text.tools`.

    Attributes:
        source: as it was given.
        reasoning: how the model shows its reasoning, or None where the template shows no known form.
        tool_format: how the model calls tools, likewise.
    """

    def __init__(
        self,
        source: str,
        *,
        clock: Callable[[], datetime] = datetime.now,
        tool_formats: Sequence[ToolFormat] = (),
    ) -> None:
        self.source = source
        self.reasoning = reasoning_of(source)
        self.tool_format = format_of(source, tool_formats)
        self._sandbox = Sandbox(source, clock=clock)

    def render(
        self,
        messages: Sequence[Message],
        *,
        special_tokens: Mapping[str, str],
        add_generation_prompt: bool = True,
        extra: Mapping[str, object] | None = None,
    ) -> str:
        """Return the prompt for `messages`.

        Args:
            messages: the conversation so far.
            special_tokens: the texts of bos_token, eos_token, ... as `Tokenizer.special_tokens` has them.
            add_generation_prompt: end with what introduces the assistant's next turn.
            extra: more variables for the template, of plain JSON types, such as tools.

        Raises:
            TemplateFailed: the template is invalid, refuses the messages, or goes beyond what the sandbox allows.
            InvalidParameter: `extra` names a variable that is set here.
        """
        taken = sorted(_OURS & set(extra or ()))
        if taken:
            raise InvalidParameter("extra", f"{taken[0]} is set by phiplug itself")
        context: dict[str, object] = {"tools": None, "documents": None, **special_tokens, **(extra or {})}
        context["add_generation_prompt"] = add_generation_prompt
        try:
            return self._sandbox.render({**context, "messages": list(map(as_turn, messages))})
        except TemplateFailed:
            if not any(message.tool_calls for message in messages):
                raise
            # DeepSeek's and functionary's templates join the arguments to a text, which an object is not.
            as_text = [message.as_dict() for message in messages]
            with contextlib.suppress(TemplateFailed):
                return self._sandbox.render({**context, "messages": as_text})
            raise

    def dropped(self, messages: Sequence[Message], rendered: str) -> list[Message]:
        """Return the messages whose content is not in the prompt that was rendered from them.

        Phi-3-mini's template ignores system messages, for instance. Whitespace at both ends does not count, nor does
        reasoning up to `</think>`, which templates leave out of earlier turns on purpose. The longest contents are
        looked for first and each finds its own place, so that a short one is not found within another.
        """
        lost: list[int] = []
        by_length = sorted(range(len(messages)), key=lambda index: (len(messages[index].content), index), reverse=True)
        for index in by_length:
            form = next((form for form in _forms(messages[index].content) if form in rendered), None)
            if form is None:
                lost.append(index)
            elif form:
                rendered = rendered.replace(form, "\0", 1)
        return [messages[index] for index in sorted(lost)]

    def variables(self) -> list[str]:
        """Return the names that the template reads from outside, sorted; raises `TemplateFailed` if it is invalid."""
        return self._sandbox.variables()

    def check_variables(self, given: Iterable[str]) -> None:
        """Refuse variables that a user gives and the template would ignore.

        Raises:
            InvalidParameter: phiplug sets it itself, or the template does not read it.
            TemplateFailed: the template is invalid.
        """
        for name in given:
            if name in _SET_HERE:
                raise InvalidParameter("variables", f"{name} is set by phiplug itself")
            if name not in (known := self.variables()):
                others = ", ".join(each for each in known if each not in _SET_HERE)
                hint = f"it reads {others}" if others else "it reads none"
                raise InvalidParameter("variables", f"the chat template does not read {name!r}", hint=hint)


def find_template(files: ModelFiles) -> str | None:
    """Return the source of the chat template that a model's files carry, or None; there is no default one.

    In a GGUF it is metadata; in a folder the file chat_template.jinja, or else an entry of tokenizer_config.json, which
    may hold several by name: then it is the one named "default".

    Raises:
        ModelCorrupt: the file that should hold the template cannot be read as what it is.
        TemplateFailed: there are several templates and none is named "default".
    """
    if files.format == "gguf":
        return _text_or_none(files.path, read_header(files.path).metadata.get(_GGUF_KEY))
    if files.format == "folder":
        return _of_folder(files.path)
    return None


def _forms(content: str) -> list[str]:
    """How a content may look in a prompt: as it is, without its reasoning, or within JSON."""
    bare = content.strip()
    return [bare, bare.rpartition("</think>")[2].strip(), json.dumps(bare, ensure_ascii=False)[1:-1]]


def _of_folder(folder: Path) -> str | None:
    jinja, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if jinja.is_file():
        return _read(jinja)
    if not config.is_file():
        return None
    template = read_json(config).get("chat_template")
    return _text_or_none(config, _default_of(config, template) if isinstance(template, list) else template)


def _default_of(path: Path, named: list[Any]) -> Any:  # Any: what JSON holds
    """Of [{"name": ..., "template": ...}, ...] the template named "default"."""
    templates = {str(entry.get("name")): entry.get("template") for entry in named if isinstance(entry, dict)}
    if "default" not in templates:
        names = ", ".join(sorted(templates)) or "none"
        raise TemplateFailed(
            f'{path} holds several chat templates ({names}), but none is named "default"',
            hint="give one with `chat_template`",
        )
    return templates["default"]


def _text_or_none(path: Path, template: Any) -> str | None:  # Any: what JSON or GGUF metadata holds
    if template is None or isinstance(template, str):
        return template
    raise ModelCorrupt(f"the chat template in {path} is {type(template).__name__}, not text")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows' editors put a byte order mark first
    except (OSError, UnicodeDecodeError) as error:
        raise ModelCorrupt(f"{path} cannot be read as UTF-8 text: {error}") from None
