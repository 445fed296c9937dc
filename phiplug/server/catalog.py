"""The models that are served: by name, each with its tokenizer, its chat template and its engines."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phiplug.errors import TemplateFailed
from phiplug.forms.problems import Refused
from phiplug.text.prompt import PromptOptions

if TYPE_CHECKING:
    from phiplug.markup import Markup
    from phiplug.server.ports import EnginePort
    from phiplug.spi import Tokenizer
    from phiplug.text.prompt import PromptEncoder
    from phiplug.text.template import ChatTemplate
    from phiplug.types import Message

_DEFAULT = PromptOptions()
LONG_PROMPT = 4000
"""Characters from which on a prompt is rendered and encoded in another thread, so that streams go on meanwhile."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model.

    Attributes:
        name: what clients call it.
        prompts: renders and encodes.
        tokenizer: the same on every backend.
        template: the chat template, or None.
        engines: by the names of their backends, the default one first.
        created: when it was loaded, in seconds of Unix time.
    """

    name: str
    prompts: PromptEncoder
    tokenizer: Tokenizer
    template: ChatTemplate | None
    engines: Mapping[str, EnginePort]
    created: int = 0

    def engine(self, backend: str | None) -> EnginePort:
        """Return the engine on a backend, or the default one.

        Raises:
            Refused: the model is not served on that backend.
        """
        if backend is None:
            return next(iter(self.engines.values()))
        if backend not in self.engines:
            message = f"backend: {self.name} is served on {', '.join(self.engines)}, and not on {backend[:100]!r}"
            raise Refused(400, "invalid_value", message, param="backend")
        return self.engines[backend]

    async def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text that is to be continued as it is."""
        return (await self._prepared(text, len(text), PromptOptions(raw=True)))[0]

    async def prepare(
        self, said: Sequence[Message], options: PromptOptions = _DEFAULT
    ) -> tuple[tuple[int, ...], Markup]:
        """Return the ids of a conversation, and what the answer may hold beside its text."""
        if self.template is None:
            raise TemplateFailed(f"{self.name} brings no chat template", hint="use /v1/completions")
        size = sum(len(message.content) for message in said) + sum(len(tool.parameters) for tool in options.shown_tools)
        return await self._prepared(said, size, options)

    async def _prepared(
        self, prompt: str | Sequence[Message], size: int, options: PromptOptions
    ) -> tuple[tuple[int, ...], Markup]:
        if size <= LONG_PROMPT:
            ids, markup = self.prompts.prepare(prompt, options)
        else:
            ids, markup = await asyncio.to_thread(self.prompts.prepare, prompt, options)
        return tuple(ids), markup


class Catalog:
    """Every model that is served; the first is the one that answers when none is named."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        self.models = {model.name: model for model in models}

    def model(self, name: str | None) -> ServedModel:
        """Return a model by name; names are compared, and never looked for on a disk.

        Raises:
            Refused: there is none of that name.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            near = difflib.get_close_matches(name[:100], self.models, 1, cutoff=0.0)
            hint = f"did you mean {near[0]}?" if near else None
            raise Refused(404, "model_not_found", f"there is no model {name[:100]!r}", param="model", hint=hint)
        return self.models[name]

    async def close(self) -> None:
        """Close every engine."""
        for model in self.models.values():
            for engine in model.engines.values():
                await engine.close()
