"""`phiplug parity` measures how far two engines agree on one model, and exits with 1 where that is too little."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli import INTERRUPTED
from phiplug.cli.counter import counted
from phiplug.cli.flags import OUTPUT, command_app, takes
from phiplug.cli.several import BackendsFlags, named
from phiplug.errors import InvalidParameter
from phiplug.userfiles import read_text, require_writable, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from phiplug.bench.agreement import Agreement
    from phiplug.bench.coupling import Coupling
    from phiplug.bench.parity import Continuations, Parity
    from phiplug.bench.snapshot import Movement
    from phiplug.llm import LLM
    from phiplug.types import SamplingParams

app = command_app()


TOLD = 1e-4  # a smaller total variation is rounding, and a ratio to it means nothing
FAR = 100_000  # tokens; a first difference beyond is not worth a number
COMPARED, JUDGED, KEPT = "What is compared", "What counts as agreement", "One engine, before and after an update"


@dataclass(frozen=True, slots=True)
class ParityFlags:
    """What is compared, and what counts as agreement."""

    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            help="Texts, divided by lines of ---.",
            show_default="the built-in ones",
            rich_help_panel=COMPARED,
        ),
    ] = None
    positions: Annotated[int, typer.Option("--positions", min=1, rich_help_panel=COMPARED, help="How many.")] = 512
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", rich_help_panel=COMPARED, help="Of the draws.", show_default="1, 0.8 and 0.7"),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", rich_help_panel=COMPARED, help="Of the draws.", show_default="1, 0.95 and 0.9"),
    ] = None
    continued: Annotated[
        bool,
        typer.Option("--continue", rich_help_panel=COMPARED, help="Continue four prompts on both, 64 tokens each."),
    ] = False
    min_top1: Annotated[
        float,
        typer.Option("--min-top1", rich_help_panel=JUDGED, help="Fail below this share of equal likeliest tokens."),
    ] = 0.0
    max_kl: Annotated[
        float, typer.Option("--max-kl", rich_help_panel=JUDGED, help="Fail above this mean divergence, in nats.")
    ] = 0.02
    as_json: Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="One line with everything.")] = False
    html: Annotated[
        Path | None,
        typer.Option("--html", rich_help_panel=OUTPUT, help="Write a page with the positions that differ."),
    ] = None

    saved: Annotated[
        Path | None,
        typer.Option(
            "--save", rich_help_panel=KEPT, help="Keep what one engine makes of the texts.", show_default=False
        ),
    ] = None
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", rich_help_panel=KEPT, help="Fail where its logits have moved since.", show_default=False
        ),
    ] = None

    def settings(self) -> tuple[SamplingParams, ...]:
        """Return the settings at which draws are compared; the one that is judged by comes first."""
        from phiplug.bench.parity import DRAWN, RULED

        if self.temperature is None and self.top_p is None:
            return (*RULED, *(each for each in DRAWN if each not in RULED))
        usual = RULED[0]
        return (
            replace(
                usual,
                temperature=usual.temperature if self.temperature is None else self.temperature,
                top_p=usual.top_p if self.top_p is None else self.top_p,
            ),
        )


@app.command()
@takes(BackendsFlags, ParityFlags)
def parity(load: BackendsFlags, flags: ParityFlags) -> None:
    """Measure how far two engines agree on one model."""
    from phiplug.bench.parity import CONTINUED_WORK, compare, continuations, shortcomings, work

    if flags.saved or flags.against:
        raise typer.Exit(_before_and_after(load, flags))
    if len(load.backends or ()) != 2:
        raise InvalidParameter("backend", "parity compares two", hint="as in -b llama-cpp -b mlx")
    texts, settings = _texts(flags.prompts), flags.settings()
    continued = None
    with ExitStack() as models:
        a, b = (models.enter_context(load.load_on(name, model=model)) for name, model in named(load.backends))
        files = _files(a, b)
        title = f"comparing {a.backend} and {b.backend}"
        typer.echo(f"{title} over {flags.positions} positions; Ctrl-C keeps what is done", err=True)
        with counted(title, work(flags.positions) + flags.continued * CONTINUED_WORK) as advance:
            found = compare(a, b, texts, positions=flags.positions, settings=settings, advance=advance)
            if flags.continued and found.complete:
                continued = continuations(a, b, texts, advance=advance)
        if flags.html:
            _write_page(flags.html, found, a, files)
    short = shortcomings(found, min_top1=flags.min_top1, max_kl=flags.max_kl)
    if flags.as_json:
        found_json = asdict(found) | {"continuations": continued and asdict(continued), "files": files}
        typer.echo(json.dumps(found_json | {"passed": not short, "because": short}))
    else:
        _show(found, continued, short, files)
    raise typer.Exit(INTERRUPTED if not found.complete else 1 if short else 0)


def _before_and_after(load: BackendsFlags, flags: ParityFlags) -> int:
    """Keep what one engine makes of the texts, or compare it with what was kept; return the exit code."""
    from phiplug.bench import snapshot

    if len(load.backends or ()) != 1 or (flags.saved and flags.against):
        hint = "as in -b llama-cpp --save before.npz, and later -b llama-cpp --against before.npz"
        raise InvalidParameter("backend", "--save and --against are about one engine, one of them at a time", hint=hint)
    texts, old = _texts(flags.prompts), snapshot.load(flags.against) if flags.against else None
    if flags.saved:
        require_writable("save", flags.saved)
    ((name, model),) = named(load.backends)
    with load.load_on(name, model=model) as llm:
        if old is not None:
            moved = snapshot.movement(old, llm, texts)
            typer.echo(_moved(moved, old.origin.engine, llm.info.version))
            return 0 if moved.is_noise else 1
        found = snapshot.take(llm, texts, positions=flags.positions)
    if flags.saved:
        snapshot.save(found, flags.saved)
        typer.echo(f"{found.origin.engine}: {len(found.checksums)} positions are kept in {flags.saved}")
    return 0


def _moved(found: Movement, before: str, after: str) -> str:
    engines = f"{after}, since {before}"
    if not found.changed:
        return f"{engines}: the same bits at {found.positions} positions"
    far = f"mean KL {found.kl_mean:.2g}, of which {found.allowed:.2g} is noise; largest change {found.most:.2g}"
    verdict = "within its noise" if found.is_noise else "its logits have moved"
    return f"{engines}: {verdict}: other bits at {found.changed} of {found.positions} positions, {far}"


def _texts(path: Path | None) -> list[str]:
    from phiplug.bench.parity import default_prompts, split_prompts

    if path is None:
        return default_prompts()
    texts = split_prompts(read_text("prompts", path))
    if not texts:
        raise InvalidParameter("prompts", f"{path} holds no text")
    return texts


def _files(a: LLM, b: LLM) -> str | None:
    """Say what two models' files have in common, or nothing where they are one."""
    from phiplug.bench.fairness import kinship
    from phiplug.bench.identity import identity_of
    from phiplug.load import cache

    if a.files.path == b.files.path:
        return None
    return f"{a.backend} and {b.backend} have {kinship(*(identity_of(each.files, cache()) for each in (a, b)))}"


def _write_page(path: Path, found: Parity, llm: LLM, files: str | None) -> None:
    from phiplug.bench.paritypage import page

    write_text("html", path, page(found, llm, files))


def _show(found: Parity, continued: Continuations | None, short: list[str], files: str | None) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    own = [
        (f"{name} and itself", noise) for name, noise in zip(found.names, found.noise, strict=True) if noise is not None
    ]
    logits = _table("logits", ("positions", "top-1", "KL mean", "KL p99", "max diff"))
    draws = _table("draws", ("T, top_p", "TV", "differ", "error", "x TV", "first at"))
    pair = f"[bold]{' and '.join(found.names)}[/]"
    logits.add_row(pair, *_figures(found.agreement))
    for coupling in found.agreement.draws:
        draws.add_row(pair, *_drawn(coupling))
    for name, noise in own:
        logits.add_row(name, *_figures(noise))
        draws.add_row(name, *_drawn(noise.draws[0]))
    console.print(logits)
    console.print(draws)
    if files:
        console.print(files, markup=False)
    if not found.complete:
        console.print(f"interrupted: {found.agreement.positions} positions are done")
    if continued is not None:
        console.print(f"first difference of a greedy continuation, by prompt: {_firsts(continued.greedy)}")
        console.print(f"first difference of a seeded continuation, by prompt: {_firsts(continued.seeded)}")
    console.print("; ".join(short) if short else "they agree", style="red" if short else "green")


def _table(title: str, headings: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title, box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _figures(agreement: Agreement) -> list[str]:
    return [
        str(agreement.positions),
        f"{agreement.top1:.3f}",
        f"{agreement.kl_mean:.5f}",
        f"{agreement.kl_p99:.5f}",
        f"{agreement.max_difference:.3f}",
    ]


def _drawn(coupling: Coupling) -> list[str]:
    over, first = coupling.over_variation, coupling.first_difference
    return [
        f"{coupling.temperature:g}, {coupling.top_p:g}",
        f"{coupling.total_variation:.4f}",
        f"{coupling.disagreement:.4f}",
        f"{coupling.standard_error:.4f}",
        "" if over is None or coupling.total_variation < TOLD else f"{over:.2f}",
        "" if first is None or first > FAR else f"{first:.0f}",
    ]


def _firsts(divergences: tuple[int | None, ...]) -> str:
    return ", ".join("none" if at is None else f"token {at + 1}" for at in divergences)
