"""Shows what `phiplug models` found, as tables and lines.

What comes out of a file is shown as text: rich reads no markup in it, and the terminal no control characters.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from phiplug.printable import spelt_out

if TYPE_CHECKING:
    from phiplug.modelinfo.description import ModelDescription, TemplateDescription, TokenizerDescription

_UNKNOWN = "not said"
_PIPE_WIDTH = 100_000  # characters


def print_list(rows: Sequence[dict[str, Any]]) -> None:  # Any: what JSON holds
    """Print the models on this machine, one a row; `models info` says why one is unreadable."""
    table = Table("model", "weights", "size", "licence", "in", box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].overflow = "fold"
    table.columns[2].justify = "right"
    for row in rows:
        name = Text("\n").join(_plain(text) for text in (*row["aliases"], row["reference"]))
        name.stylize("bold", 0, len(name.plain.partition("\n")[0]))
        weights = Text("unreadable", style="red") if row["problem"] else _plain(row["quantization"] or "")
        table.add_row(name, weights, decimal(row["size"]), _plain(row["licence"] or ""), row["place"])
    _print([table if rows else "there are no models here"])


def print_description(description: ModelDescription) -> None:
    """Print what a model is, and what its template makes of a conversation."""
    _print(
        [
            _plain(description.metadata.name or description.reference, "bold"),
            _rows(_fields(description)),
            *_prompt(description.template),
            *_problems(description.problems),
        ]
    )


def print_template(description: ModelDescription) -> None:
    """Print a model's chat template, the prompt that it renders, and the ids of that."""
    _print([*_template(description), *_problems(description.problems)])


def _template(description: ModelDescription) -> Iterator[RenderableType]:
    template = description.template
    if template is None:
        yield _plain(f"{description.reference} brings no chat template; give one with --chat-template, or use --raw")
        return
    yield _plain(f"chat template of {description.reference}", "bold")
    yield _barred(template.source)
    if template.variables is not None:
        yield _rows([("reads", ", ".join(template.variables))])
    yield from _prompt(template)
    if template.preview:
        ids = template.preview.ids
        yield _rows([(f"{len(ids)} ids", " ".join(map(str, ids)))])


def _prompt(template: TemplateDescription | None) -> Iterator[RenderableType]:
    if template is None or template.preview is None:
        return
    yield Text(f"\nthe prompt of a conversation of {', '.join(template.preview.roles)}", style="dim")
    yield _barred(template.preview.text)
    yield from _problems(template.preview.warnings, "yellow")


def _problems(problems: Iterable[str], style: str = "red") -> Iterator[RenderableType]:
    return (_plain(problem, style) for problem in problems)


def _fields(description: ModelDescription) -> Iterator[tuple[str, str]]:
    metadata = description.metadata
    heads = metadata.heads and f"{metadata.heads} heads" + (
        f" ({metadata.kv_heads} for keys)" if metadata.kv_heads else ""
    )
    shape = [metadata.layers and f"{metadata.layers} layers", metadata.width and f"{metadata.width} wide", heads]
    bits = metadata.bits_per_weight and f"{metadata.bits_per_weight:.2f} bits per weight"
    yield "model", description.reference
    yield "file", description.path
    if metadata.size is not None:
        yield "size", decimal(metadata.size)
    yield "architecture", _joined(metadata.architecture, *shape)
    yield "parameters", f"{_short(metadata.parameters)} ({metadata.parameters:,})" if metadata.parameters else _UNKNOWN
    yield "weights", _joined(metadata.quantization, bits)
    yield "context", f"{metadata.context_length} tokens" if metadata.context_length else _UNKNOWN
    yield "rope", metadata.rope or _UNKNOWN
    vocabulary = description.tokenizer and f"{description.tokenizer.vocab_size} tokens"
    yield "tokenizer", _joined(metadata.tokenizer, vocabulary)
    if description.tokenizer:
        yield "stop ids", _stops(description.tokenizer)
    yield "source", metadata.source or _UNKNOWN
    yield "licence", metadata.licence or _UNKNOWN
    if metadata.sampling:
        said = ", ".join(f"{name} {_number(value)}" for name, value in metadata.sampling.items())
        yield "sampling", f"{said}: its makers' wish, which is not used; flags or `phiplug config set` are"
    yield "backends", ", ".join(description.backends) or "none takes it"
    yield "chat template", f"{len(description.template.source)} characters" if description.template else "none"
    if description.template and description.template.reasoning:
        yield "reasoning", " ... ".join(description.template.reasoning)
    if description.template and description.template.tools:
        yield "tools", f"called as {description.template.tools} does"


def _stops(tokenizer: TokenizerDescription) -> str:
    return ", ".join(f"{token} {text}".strip() for token, text in tokenizer.stop_ids.items()) or "none"


def _rows(rows: Iterable[tuple[str, str]]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for head, said in rows:
        table.add_row(head, _plain(said))
    return table


def _barred(text: str) -> RenderableType:
    """Return lines behind a bar, so that where they begin and end can be seen."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for line in text.split("\n"):
        table.add_row("\u2502", _plain(line))
    return table


def _plain(text: str, style: str = "") -> Text:
    """Return text without markup, and with control characters spelt out; line breaks stay."""
    return Text(spelt_out(text, keep="\n"), style=style)


def _joined(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part) or _UNKNOWN


def _number(value: object) -> str:
    """Write a number of a GGUF, which holds float32, without the digits that float64 adds."""
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _short(count: int) -> str:
    for name, unit in (("trillion", 1e12), ("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)


def _print(parts: Iterable[RenderableType]) -> None:
    """Print on stdout, without the spaces that fill up a line; what a pipe is given is not cut to a width."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    print("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")))
