"""Finds a model for a server: its tokenizer and template here, and a process planned for each of its engines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from phiplug.load import choose_for, template_of, tokenizer_of
from phiplug.plugins import Plugins
from phiplug.server.catalog import ServedModel
from phiplug.server.worker import Load, Supervisor
from phiplug.text.prompt import PromptEncoder

if TYPE_CHECKING:
    from phiplug.models.download import Progress


def open_model(
    order: Load,
    *,
    backends: Sequence[str] = (),
    name: str | None = None,
    chat_template: str | None = None,
    progress: Progress | None = None,
) -> tuple[ServedModel, list[Supervisor]]:
    """Find a model, and return it with the supervisors of its engines, which the caller starts.

    Args:
        order: the model's reference, and the options of its engines.
        backends: their names, the default one first; the order's own if there is none.
        name: what clients call the model; None for its reference.
        chat_template: Jinja source that replaces the model's own.
        progress: is told how far a download is.

    Raises:
        PhiplugError: the model is not found, or not on a backend.
    """
    plugins = Plugins.installed()
    engines: dict[str, Supervisor] = {}
    for wanted in backends or [order.backend]:
        files, backend = choose_for(order.reference, plugins, backend=wanted, offline=order.offline, progress=progress)
        chosen = replace(order, reference=files.reference, backend=backend.name)
        engines[backend.name] = Supervisor(chosen, finished=plugins.request_finished)
    tokenizer, template = tokenizer_of(files, plugins), template_of(files, plugins, chat_template)
    prompts = PromptEncoder(template, tokenizer, files.reference)
    served = ServedModel(name or files.reference, prompts, tokenizer, template, dict(engines), int(time.time()))
    return served, list(engines.values())
