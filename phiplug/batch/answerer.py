"""What runs in an actor: a model's tokenizer and template here, its engine in a supervised process, rows out.

It does not know Ray; Ray makes an actor of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phiplug.batch.asking import Asking, Terms
from phiplug.batch.conduct import require_independence
from phiplug.batch.identity import computed_by
from phiplug.batch.supervised import Supervised
from phiplug.load import cache, choose_for, template_of, tokenizer_of
from phiplug.plugins import Plugins
from phiplug.server.worker import Circuit, Load, Supervisor
from phiplug.text.prompt import PromptEncoder

if TYPE_CHECKING:
    from phiplug.batch.tasks import Task
    from phiplug.forms.problems import Json
    from phiplug.spi import ModelFiles, ModelInfo, Tokenizer

PAUSE_S = 5.0
"""How long an engine rests that died too often: shortly, since the line that kills it is found and put aside."""


@dataclass(frozen=True, slots=True)
class Order:
    """What an actor loads, and on which terms it answers.

    Attributes:
        load: the model, by its reference, and the options of its engine.
        terms: of the batch.
        chat_template: Jinja source that replaces the model's own, or None.
    """

    load: Load
    terms: Terms
    chat_template: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """A model whose engine is in another process, as `Asking` wants it."""

    files: ModelFiles
    backend: str
    info: ModelInfo
    prompts: PromptEncoder
    tokenizer: Tokenizer


class Answerer:
    """Answers windows of tasks."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._lock = asyncio.Lock()
        self._ready: tuple[Supervised, dict[str, Any]] | None = None

    async def identity(self) -> dict[str, Any]:  # Any: as `computed_by` has it
        """Return what this actor computes with; the model is loaded then, and hashed."""
        return (await self._started())[1]

    async def rows(self, tasks: Sequence[Task]) -> AsyncIterator[Json]:
        """Yield a row for each task."""
        answering, identity = await self._started()
        async for row in answering.rows(tasks):
            yield row | ({"computed_by": identity} if self._order.terms.mixed else {})

    async def _started(self) -> tuple[Supervised, dict[str, Any]]:  # Any: as above
        async with self._lock:
            if self._ready is None:
                self._ready = await self._start()
            return self._ready

    async def _start(self) -> tuple[Supervised, dict[str, Any]]:  # Any: as above
        order, plugins = self._order, Plugins.installed()
        load = order.load
        files, backend = choose_for(load.reference, plugins, backend=load.backend, offline=load.offline)
        engine = Supervisor(load, finished=plugins.request_finished, circuit=Circuit(PAUSE_S))
        await engine.start()
        info = engine.info.model
        require_independence(info, mixed=order.terms.mixed)
        tokenizer, template = tokenizer_of(files, plugins), template_of(files, plugins, order.chat_template)
        served = Served(files, backend.name, info, PromptEncoder(template, tokenizer, files.reference), tokenizer)
        return Supervised(engine, Asking(served, order.terms)), computed_by(served, cache())
