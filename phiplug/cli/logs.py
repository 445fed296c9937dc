"""`phiplug logs`: what `run` and `chat` were asked and answered on this machine, listed, shown and searched."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phiplug.cli import note
from phiplug.cli.flags import command_app
from phiplug.cli.journal import is_on
from phiplug.errors import InvalidParameter, LogFailed
from phiplug.places import log_file

if TYPE_CHECKING:
    from pathlib import Path

    from phiplug.answerlog import AnswerLog, LoggedAnswer

app = command_app()
AsJson = Annotated[bool, typer.Option("--json", help="One line with everything.")]
Count = Annotated[int, typer.Option("-n", "--count", min=1, help="At most so many.")]
SHOWN = 20


@app.callback(no_args_is_help=True)
def logs() -> None:
    """List, show and search what was asked and answered; switch the log on and off."""


@app.command("list")
def list_(count: Count = SHOWN, as_json: AsJson = False) -> None:
    """List the newest answers, the newest last."""
    with _opened() as log:
        _print_rows(log.newest(count) if log else [], as_json=as_json)


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(help="All of them occur in the answer or in what was asked.")],
    count: Count = SHOWN,
    as_json: AsJson = False,
) -> None:
    """List the newest answers that have these words, the newest last."""
    with _opened() as log:
        _print_rows(log.search(words, count) if log else [], as_json=as_json)


@app.command()
def show(
    number: Annotated[int | None, typer.Argument(help="As `list` has it.", show_default="the newest")] = None,
    as_json: AsJson = False,
) -> None:
    """Show one answer whole: the text on stdout, all the rest on stderr."""
    with _opened() as log:
        found = _found(log, number)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        _print_whole(found)


@app.command()
def on() -> None:
    """Log answers from now on."""
    _switch("true")


@app.command()
def off() -> None:
    """Log no answers from now on; what is in the log stays."""
    _switch("false")
    if (file := _file()).exists():
        note(f"what was logged stays in {file}; `phiplug cache clear log` removes it")


@app.command()
def path() -> None:
    """Print where the log is."""
    typer.echo(_file())


def _switch(text: str) -> None:
    from phiplug.config import ConfigFile

    file = ConfigFile.of_user()
    file.set("log", text)
    is_logged, why = is_on()
    note(f"log = {text} is set in {file.path}")
    if is_logged is not (text == "true"):
        note(f"but {why} is set, which decides")


def _file() -> Path:
    found = log_file()
    if found is None:
        raise LogFailed("there is no folder for a log", hint="set HOME")
    return found


@contextmanager
def _opened() -> Iterator[AnswerLog | None]:
    """Yield the log, or None where nothing was logged yet."""
    from phiplug.answerlog import AnswerLog

    file = _file()
    if not file.exists():
        yield None
        return
    log = AnswerLog(file)
    try:
        yield log
    finally:
        log.close()


def _found(log: AnswerLog | None, number: int | None) -> LoggedAnswer:
    newest = log.newest(1) if log else []
    if not log or not newest:
        raise InvalidParameter("number", "nothing is logged yet")
    if number is None:
        return newest[0]
    found = log.get(number)
    if found is None:
        raise InvalidParameter("number", f"there is no answer {number}", hint=f"the newest is {newest[0].id}")
    return found


def _print_rows(answers: Sequence[LoggedAnswer], *, as_json: bool) -> None:
    rows = list(reversed(answers))
    if as_json:
        typer.echo(json.dumps([asdict(answer) for answer in rows]))
        return
    if rows:
        _print_table(rows)
    else:
        note("nothing is found" if _file().exists() else "nothing is logged yet")
    is_logged, why = is_on()
    if not is_logged:
        note(f"answers are not logged now: {why} says so")


def _print_table(answers: Sequence[LoggedAnswer]) -> None:
    """Print one line for each answer; a terminal's edge cuts what was asked and what came."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from phiplug.printable import printable

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=sys.stdout.isatty())
    for head, style in (("no.", ""), ("when", "dim"), ("model", "dim")):
        table.add_column(head, style=style, no_wrap=True, justify="right" if head == "no." else "left")
    for head in ("asked", "answered"):
        table.add_column(head, no_wrap=True, overflow="ellipsis", ratio=1)
    for answer in answers:
        said = [Text(printable(text, longest=300)) for text in (answer.prompt, answer.answer)]
        table.add_row(str(answer.id), _when(answer), Text(printable(answer.model, longest=24)), *said)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n"))


def _print_whole(answer: LoggedAnswer) -> None:
    from phiplug.printable import spelt_out

    facts = [f"{answer.command} {answer.id}", _when(answer), answer.model, answer.backend, *_numbers(answer.details)]
    note(spelt_out(" · ".join(facts)))
    for head, text in (("system", answer.system), ("asked", answer.prompt), ("reasoning", answer.reasoning)):
        if text:
            note(f"{head}: " + spelt_out(text, keep="\n"))
    print(spelt_out(answer.answer, keep="\n\t") if sys.stdout.isatty() else answer.answer)
    for call in answer.details.get("tool_calls", ()):
        print(json.dumps(call, ensure_ascii=False))


def _numbers(details: Any) -> Iterator[str]:  # Any: what JSON holds
    if "completion_tokens" in details:
        yield f"{details.get('prompt_tokens')} prompt tokens, {details['completion_tokens']} new tokens"
    if "seed" in details:
        yield f"seed {details['seed']}"
    if details.get("finish_reason") not in (None, "stop"):
        yield str(details["finish_reason"])


def _when(answer: LoggedAnswer) -> str:
    return f"{datetime.fromtimestamp(answer.time, UTC).astimezone():%Y-%m-%d %H:%M}"
