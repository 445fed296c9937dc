"""`phiplug parity` measures how far two engines agree on one model, and exits with 1 where that is too little."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli.counter import counted
from phiplug.cli.flags import OUTPUT, BackendsFlags, command_app, takes
from phiplug.errors import InvalidParameter
from phiplug.userfiles import read_text

if TYPE_CHECKING:
    from phiplug.bench.parity import Agreement, Parity

app = command_app()


@dataclass(frozen=True, slots=True)
class ParityFlags:
    """What is compared, and what counts as agreement."""

    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help="Texts, divided by lines of ---.", show_default="the built-in ones"),
    ] = None
    positions: Annotated[int, typer.Option("--positions", min=1, help="How many to compare.")] = 512
    min_top1: Annotated[float, typer.Option("--min-top1", help="Fail below this top-1 agreement.")] = 0.95
    max_kl: Annotated[float, typer.Option("--max-kl", help="Fail above this mean divergence, in nats.")] = 0.02
    as_json: Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="One line with everything.")] = False


@app.command()
@takes(BackendsFlags, ParityFlags)
def parity(load: BackendsFlags, flags: ParityFlags) -> None:
    """Measure how far two engines agree on one model."""
    from phiplug.bench.parity import compare, work

    if len(load.backends or ()) != 2:
        raise InvalidParameter("backend", "parity compares two", hint="as in -b llama-cpp -b mlx")
    texts = _texts(flags.prompts)
    with ExitStack() as models:
        a, b = (models.enter_context(load.load_on(name)) for name in load.backends or ())
        typer.echo(f"comparing {a.backend} and {b.backend} over {flags.positions} positions", err=True)
        with counted(f"comparing {a.backend} and {b.backend}", work(flags.positions, texts)) as advance:
            found = compare(a, b, texts, positions=flags.positions, advance=advance)
    short = _shortcomings(found, flags)
    if flags.as_json:
        typer.echo(json.dumps(asdict(found) | {"passed": not short, "because": short}))
    else:
        _show(found, short)
    raise typer.Exit(1 if short else 0)


def _texts(path: Path | None) -> list[str]:
    from phiplug.bench.parity import default_prompts, split_prompts

    if path is None:
        return default_prompts()
    texts = split_prompts(read_text("prompts", path))
    if not texts:
        raise InvalidParameter("prompts", f"{path} holds no text")
    return texts


def _shortcomings(found: Parity, flags: ParityFlags) -> list[str]:
    """Say in what the two fail to agree."""
    said = []
    if not found.agreement.top1 >= flags.min_top1:
        said.append(f"top-1 agreement {found.agreement.top1:.3f} is below {flags.min_top1:g}")
    if not found.agreement.kl_mean <= flags.max_kl:
        said.append(f"mean KL {found.agreement.kl_mean:.4f} is above {flags.max_kl:g}")
    return said


def _show(found: Parity, short: list[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    a, b = found.names
    table = Table("compared", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("positions", "top-1", "KL mean", "KL p99", "max logit diff"):
        table.add_column(heading, justify="right")
    table.add_row(f"[bold]{a}, {b}[/]", *_figures(found.agreement))
    for name, noise in zip(found.names, found.noise, strict=True):
        table.add_row(f"{name}: prefill, one by one", *_figures(noise))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"sampled picks, default settings, mean of 24 seeds: {found.sampled:.3f} equal")
    console.print(f"first difference of a greedy continuation, by prompt: {_firsts(found.greedy)}")
    console.print(f"first difference of a seeded continuation, by prompt: {_firsts(found.seeded)}")
    console.print("; ".join(short) if short else "they agree", style="red" if short else "green")


def _figures(agreement: Agreement) -> list[str]:
    return [
        str(agreement.positions),
        f"{agreement.top1:.3f}",
        f"{agreement.kl_mean:.5f}",
        f"{agreement.kl_p99:.5f}",
        f"{agreement.max_difference:.3f}",
    ]


def _firsts(divergences: tuple[int | None, ...]) -> str:
    return ", ".join("none" if at is None else f"token {at + 1}" for at in divergences)
