"""From a prompt to the ids that a model is given: template, beginning of sequence, control tokens in a user's text.

The rules are those of docs/sampling.md. It knows nothing of engines.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from phiplug import checks
from phiplug.errors import InvalidParameter, PhiplugWarning, TemplateFailed, UnsupportedParameter
from phiplug.markup import NO_MARKUP, Markup, ToolUse
from phiplug.messages import ToolLike, tools_of
from phiplug.text.reasoning import begins_inside
from phiplug.text.tools.formats import unknown_format
from phiplug.text.tools.turns import answered, tool_variables
from phiplug.types import Message, MessageLike, Tool

if TYPE_CHECKING:
    from phiplug.spi import Tokenizer
    from phiplug.text.template import ChatTemplate


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """How a prompt becomes ids.

    Attributes:
        raw: the text is the prompt; no chat template.
        strict_content: refuse control tokens in a message, rather than warn and parse them as the reference does.
        variables: what the chat template is given beside the messages, of plain JSON types, such as
            {"enable_thinking": False}; each must be one that it reads.
        tools: what the answer may call.
        tool_choice: "auto" leaves it to the model, "required" makes the answer a call, the name of a tool makes it a
            call of that one, "none" shows the model no tools.
        parallel_tool_calls: the answer may have several calls.
        prefill: how the answer begins; what is generated goes on after it, and does not repeat it.
    """

    raw: bool = False
    strict_content: bool = False
    variables: Mapping[str, object] = field(default_factory=dict)
    tools: Sequence[ToolLike] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    prefill: str = ""

    def __post_init__(self) -> None:
        tools = tools_of(self.tools)
        object.__setattr__(self, "tools", tools)
        checks.flag("parallel_tool_calls", self.parallel_tool_calls)
        if self.raw and tools:
            raise InvalidParameter("tools", "a raw prompt has no template that could show them")
        if checks.text("prefill", self.prefill):
            if self.raw:
                raise InvalidParameter("prefill", "a raw prompt may end with it")
            if self.tool_choice not in ("auto", "none"):
                raise InvalidParameter("prefill", f"the answer is to begin with a call ({self.tool_choice})")
        names = [tool.name for tool in tools]
        if self.tool_choice not in ("auto", "none", *(("required", *names) if tools else ())):
            known = ", ".join(("auto", "none", "required", *names)) if tools else "auto or none, without tools"
            raise InvalidParameter("tool_choice", f"{self.tool_choice!r:.80} is not {known}")

    @property
    def shown_tools(self) -> tuple[Tool, ...]:
        """The tools that the model is shown."""
        return () if self.tool_choice == "none" else cast("tuple[Tool, ...]", self.tools)  # checked above


class PromptEncoder:
    """Renders and encodes prompts for one model, named `reference` in errors.

    Attributes:
        template: the chat template, or None.
    """

    def __init__(self, template: ChatTemplate | None, tokenizer: Tokenizer, reference: str) -> None:
        self.template = template
        self._tokenizer = tokenizer
        self._reference = reference

    def prepare(self, prompt: str | Sequence[MessageLike], options: PromptOptions) -> tuple[list[int], Markup]:
        """Turn a prompt into ids, and say what the answer may hold beside its text; errors are those of `encode`."""
        text = self.render(prompt, options)
        return self._ids(text), self._markup(text, options)

    def encode(self, prompt: str | Sequence[MessageLike], options: PromptOptions) -> list[int]:
        """Turn a prompt into the ids that the model is given.

        Raises:
            InvalidParameter: the prompt is empty, or no text, or has control tokens where they are refused; or the
                template does not read one of the variables.
            TemplateFailed: the model has no chat template, or it refused the messages.
        """
        return self.prepare(prompt, options)[0]

    def render(self, prompt: str | Sequence[MessageLike], options: PromptOptions) -> str:
        """Turn a prompt into the text that is tokenized; errors are those of `encode`."""
        if isinstance(prompt, str):
            checks.text("prompt", prompt)
        if not prompt:
            raise InvalidParameter("prompt", "is empty")
        if options.raw:
            if not isinstance(prompt, str):
                raise InvalidParameter("raw", "takes one text, and this is a conversation")
            if options.variables:
                raise InvalidParameter("variables", "a raw prompt has no template")
            return prompt
        messages = (Message("user", prompt),) if isinstance(prompt, str) else _messages(prompt)
        self._check_control_tokens(messages, strict=options.strict_content)
        if options.prefill:
            self._check_control_tokens([Message("assistant", options.prefill)], strict=options.strict_content)
        return self._templated(answered(messages), options) + options.prefill

    def split(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Encode a text and what may follow it; spaces at the end of the context go over to the continuation.

        So does lm-evaluation-harness: a tokenizer spells " Paris" as one token, so "the " and "Paris" would be ids that
        no text has.
        """
        checks.text("prompt", context)
        checks.text("continuations", continuation)
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        before = self._ids(context)
        whole = self._ids(context + continuation)
        return whole[: len(before)], whole[len(before) :]

    def _ids(self, text: str) -> list[int]:
        from phiplug.text.tokenizer import with_bos  # brings the tokenizers library, which loads beside the weights

        return with_bos(self._tokenizer.encode(text), self._tokenizer)

    def _templated(self, messages: Sequence[Message], options: PromptOptions) -> str:
        if self.template is None:
            raise TemplateFailed(
                f"{self._reference} brings no chat template", hint="give one with `chat_template`, or use `raw`"
            )
        self.template.check_variables(options.variables)
        tools = options.shown_tools
        extra = {**options.variables, **(tool_variables(tools, self.template.variables()) if tools else {})}
        text = self.template.render(messages, special_tokens=self._tokenizer.special_tokens, extra=extra)
        hidden = next((tool.name for tool in tools if tool.name not in text), None)
        if hidden is not None:
            raise UnsupportedParameter("tools", f"the chat template of {self._reference} does not show {hidden}")
        for message in self.template.dropped(messages, text):
            _warn(f"the chat template of {self._reference} drops the {message.role} message")
        return text

    def _markup(self, rendered: str, options: PromptOptions) -> Markup:
        """Say what the answer may hold beside its text.

        Raises:
            UnsupportedParameter: the template shows no known form of calls.
        """
        if options.raw or self.template is None:
            return NO_MARKUP
        reasoning, tools = self.template.reasoning, None
        if options.shown_tools:
            if self.template.tool_format is None:
                raise unknown_format(self.template.source)
            named = [tool for tool in options.shown_tools if options.tool_choice in ("auto", "required", tool.name)]
            required = options.tool_choice != "auto"
            tools = ToolUse(self.template.tool_format, tuple(named), required, options.parallel_tool_calls)
        inside = reasoning is not None and begins_inside(reasoning, rendered)
        return Markup(reasoning, inside, tools)

    def _check_control_tokens(self, messages: Sequence[Message], *, strict: bool) -> None:
        for message in messages:
            found = self._tokenizer.control_tokens_in(message.content)
            if found and strict:
                raise InvalidParameter("content", f"the {message.role} message holds the control token {found[0]!r}")
            if found:
                _warn(f"the {message.role} message holds the control token {found[0]!r}; `strict_content` refuses it")


def _messages(prompt: object) -> tuple[Message, ...]:
    if isinstance(prompt, Sequence) and not isinstance(prompt, str | bytes):
        return tuple(map(Message.of, prompt))
    hint = "put one message into a list" if isinstance(prompt, Message | Mapping) else None
    raise InvalidParameter("prompt", f"{type(prompt).__name__} is neither a text nor a list of messages", hint=hint)


def _warn(text: str) -> None:
    warnings.warn(text, PhiplugWarning, stacklevel=2)
