"""Shows what a chat template and a tokenizer make of a sample conversation, and what is wrong with that.

It computes nothing with a model: this is what the model would be given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiplug.errors import TemplateFailed
from phiplug.types import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phiplug.spi import Tokenizer
    from phiplug.text.template import ChatTemplate

SAMPLE = (
    Message("system", "You are a poet."),
    Message("user", "Write a line about ice."),
    Message("assistant", "The lake holds still and lets the children in."),
    Message("user", "And one about fire?"),
)


@dataclass(frozen=True, slots=True)
class Preview:
    """A conversation as the model would be given it.

    Attributes:
        roles: of the messages, in order.
        text: the prompt.
        ids: its tokens, exactly as `LLM.encode` gives them.
        warnings: what a user should know about it.
    """

    roles: tuple[str, ...]
    text: str
    ids: tuple[int, ...]
    warnings: tuple[str, ...]


def preview(template: ChatTemplate, tokenizer: Tokenizer, messages: Sequence[Message] = SAMPLE) -> Preview:
    """Render a conversation; a template that refuses its system message is shown without it, and a warning says so.

    Raises:
        TemplateFailed: the template is invalid, or refuses the rest too.
    """
    from phiplug.text.tokenizer import with_bos

    warnings = []
    try:
        text = template.render(messages, special_tokens=tokenizer.special_tokens)
    except TemplateFailed as error:
        if messages[0].role != "system":
            raise
        warnings.append(f"the template refuses a system message: {error.message}")
        messages = messages[1:]
        text = template.render(messages, special_tokens=tokenizer.special_tokens)
    warnings += [f"the template drops the {message.role} message" for message in template.dropped(messages, text)]
    ids = tokenizer.encode(text)
    warnings += _about_bos(ids, tokenizer)
    return Preview(
        roles=tuple(message.role for message in messages),
        text=text,
        ids=tuple(with_bos(ids, tokenizer)),
        warnings=tuple(warnings),
    )


def _about_bos(ids: Sequence[int], tokenizer: Tokenizer) -> list[str]:
    """Say where a beginning-of-sequence token comes twice, or would in a program that trusts the model's flag."""
    bos = tokenizer.bos_id
    if bos is None or bos not in ids[:1]:
        return []
    if list(ids[:2]) == [bos, bos]:
        fate = "one is dropped" if tokenizer.adds_bos else "both are kept"
        return [f"the template begins with two BOS tokens; {fate}"]
    if tokenizer.adds_bos:
        return ["the template writes a BOS and the model's flag asks for one; phiplug gives one, others may give two"]
    return []
