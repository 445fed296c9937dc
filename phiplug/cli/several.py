"""The flags of commands that take several engines, each of which may have a model of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from phiplug.cli.flags import MODEL, DeviceFlags, ModelFlags
from phiplug.errors import InvalidParameter

VARIABLE = "PHIPLUG_MODEL"

Backends = Annotated[
    list[str] | None,
    typer.Option(
        "-b",
        "--backend",
        metavar="NAME[=MODEL]",
        rich_help_panel=MODEL,
        help="Repeat it; with =MODEL it loads that one, not -m's.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class BackendsFlags(ModelFlags):
    """Which model, on which engines."""

    backends: Backends = None


@dataclass(frozen=True, slots=True)
class GridFlags(DeviceFlags):
    """Which models, on which engines, with which numbers of threads."""

    backends: Backends = None
    models: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            rich_help_panel=MODEL,
            help="A path, an alias, hf:owner/repo or package:name/file.gguf; repeat it.",
            show_default=f"${VARIABLE} or smollm2",
        ),
    ] = None
    thread_counts: Annotated[
        list[int] | None,
        typer.Option("--threads", rich_help_panel=MODEL, help="A fixed number; repeat it.", show_default="measured"),
    ] = None

    def references(self) -> list[str | None]:
        """Return what names each model, or None for the default."""
        return [*self.models] if self.models else [os.environ.get(VARIABLE) or None]


def named(backends: Sequence[str] | None) -> list[tuple[str, str | None]]:
    """Return each backend's name, and its model where it has one of its own.

    Raises:
        InvalidParameter: a name or a model is empty.
    """
    pairs = [text.partition("=") for text in backends or ()]
    for name, equals, model in pairs:
        if not name or (equals and not model):
            hint = "as in -b llama-cpp=model.gguf"
            raise InvalidParameter("backend", f"'{name}{equals}{model}' is no NAME=MODEL", hint=hint)
    return [(name, model or None) for name, _, model in pairs]
