"""What a request is refused for before anything is computed, in the words of the fields that ask for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from phiplug.errors import InvalidParameter, PromptTooLong
from phiplug.forms.problems import Refused, about

if TYPE_CHECKING:
    from collections.abc import Iterator

    from phiplug.spi import ModelInfo
    from phiplug.types import Request


def admit(info: ModelInfo, request: Request) -> None:
    """Refuse what a model with this `info` cannot compute before anything is queued.

    Raises:
        PromptTooLong: the context does not hold the prompt.
        Refused: an id is not of the vocabulary.
    """
    if len(request.prompt_ids) > info.context_length:
        raise PromptTooLong(len(request.prompt_ids), info.context_length)
    for name, ids in (("prompt", request.prompt_ids), ("logit_bias", request.sampling.logit_bias)):
        if (largest := max(ids, default=0)) >= info.vocab_size:
            message = f"{name}: {largest} is outside the vocabulary of {info.vocab_size} tokens"
            raise Refused(400, "invalid_value", message, param=name)


@contextlib.contextmanager
def naming_the_form(request: Request, field: str) -> Iterator[None]:
    """Have errors of the request's constraint name the field that asks for it."""
    try:
        yield
    except InvalidParameter as error:
        constraint = request.constraint
        if constraint is None or error.name != constraint.name:
            raise
        raise about(field, error) from None
