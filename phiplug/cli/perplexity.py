"""`phiplug perplexity`: how well a model predicts a text, with its standard error, on each engine that is named."""

from __future__ import annotations

import json
import math
import time
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli.counter import counted
from phiplug.cli.flags import OUTPUT, command_app, takes
from phiplug.cli.several import BackendsFlags, named
from phiplug.cli.stdin import standard_input
from phiplug.errors import InvalidParameter, PhiplugWarning
from phiplug.userfiles import read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phiplug.llm import LLM

app = command_app()


@dataclass(frozen=True, slots=True)
class PerplexityFlags:
    """How the result is printed."""

    as_json: Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="One line with everything.")] = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What one engine makes of the text.

    Attributes:
        backend: its name.
        model: what names the weights.
        device: where it computed.
        context: tokens in a window; each window begins anew.
        tokens: of the text.
        perplexity: exp(-mean log-probability), or None where a token is impossible.
        error: its standard error, or None for a single token.
        tokens_per_s: scored per second.
    """

    backend: str
    model: str
    device: str
    context: int
    tokens: int
    perplexity: float | None
    error: float | None
    tokens_per_s: float


@app.command()
@takes(BackendsFlags, PerplexityFlags)
def perplexity(
    load: BackendsFlags,
    flags: PerplexityFlags,
    file: Annotated[str, typer.Argument(help="A text; - reads standard input.")],
) -> None:
    """Measure how well a model predicts a text: exp(-mean log-probability of its tokens)."""
    text = standard_input("file") if file == "-" else read_text("file", file)
    if not text:
        raise InvalidParameter("file", "holds no text")
    found = []
    for name, model in named(load.backends) or [("auto", None)]:
        with load.load_on(name, model=model) as llm:
            found.append(_measure(llm, text))
    _warn_of_contexts(found)
    if flags.as_json:
        typer.echo(json.dumps({"model": found[0].model, "file": file, "backends": [asdict(each) for each in found]}))
    else:
        _show(found)


def _measure(llm: LLM, text: str) -> Measured:
    """Score the text on one engine."""
    with counted(f"scoring on {llm.backend}", len(llm.tokenizer.encode(text))) as advance:
        started = time.perf_counter()
        score = llm.score_text(text, advance)
        seconds = time.perf_counter() - started
    return Measured(
        backend=llm.backend,
        model=llm.files.reference,
        device=llm.info.device,
        context=llm.info.context_length,
        tokens=len(score.tokens),
        perplexity=score.perplexity if math.isfinite(score.perplexity) else None,
        error=score.perplexity_error,
        tokens_per_s=len(score.tokens) / seconds,
    )


def _warn_of_contexts(found: Sequence[Measured]) -> None:
    """Say so where engines saw windows of different lengths: a longer one predicts better."""
    if any(each.tokens >= each.context for each in found) and len({each.context for each in found}) > 1:
        warnings.warn(
            "the engines' contexts differ, so these perplexities do not compare; give a `ctx_size`",
            PhiplugWarning,
            stacklevel=2,
        )


def _show(found: Sequence[Measured]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("backend", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("tokens", "context", "perplexity", "std error", "tokens/s"):
        table.add_column(heading, justify="right")
    several = len({each.model for each in found}) > 1
    for each in found:
        model = f", {escape(each.model)}" if several else ""
        table.add_row(
            f"[bold]{each.backend}[/] on {each.device}{model}",
            str(each.tokens),
            str(each.context),
            "infinite" if each.perplexity is None else f"{each.perplexity:.4f}",
            "-" if each.error is None else f"{each.error:.4f}",
            f"{each.tokens_per_s:.0f}",
        )
    Console(highlight=False).print(table)
