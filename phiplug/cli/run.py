"""`phiplug run` answers one prompt: text on stdout and statistics on stderr, or all of it as one line of JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from phiplug.cli import note
from phiplug.cli.asking import AskFlags
from phiplug.cli.constraints import ConstraintFlags, cut_off
from phiplug.cli.flags import OUTPUT, PROMPT, LoadFlags, SamplingFlags, command_app, takes
from phiplug.cli.journal import Journal, Question
from phiplug.cli.logprobs import show_logprobs
from phiplug.cli.prompt import prompt_text
from phiplug.cli.reasoning import ReasoningFlags
from phiplug.cli.report import report
from phiplug.cli.screen import AnswerPrinter
from phiplug.cli.statistics import limit, summary
from phiplug.cli.template import ToolFlags
from phiplug.cli.waiting import awaited
from phiplug.errors import InvalidParameter
from phiplug.messages import calls_of
from phiplug.types import Completion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phiplug.cli.reasoning import ReasoningPrinter
    from phiplug.llm import LLM, PromptOptions, Stream
    from phiplug.types import Chunk, Message, Request, SamplingParams

app = command_app()

MOST_SLOTS = 8
"""Answers that are computed side by side: each takes a context of memory."""


@dataclass(frozen=True, slots=True)
class RunFlags(AskFlags):
    """What `run` asks, how it prints, and whether it is logged."""

    file: Annotated[
        str | None,
        typer.Option("-f", "--file", rich_help_panel=PROMPT, help="Read the prompt from a file.", show_default=False),
    ] = None
    prefill: Annotated[
        str | None,
        typer.Option("--prefill", rich_help_panel=PROMPT, help="The answer's beginning.", show_default=False),
    ] = None
    raw: Annotated[bool, typer.Option("--raw", rich_help_panel=PROMPT, help="No chat template: continue the text.")] = (
        False
    )
    max_tokens: Annotated[
        int, typer.Option("-n", "--max-tokens", "--sample-len", rich_help_panel=OUTPUT, help="At most so many.")
    ] = 512
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", rich_help_panel=OUTPUT, help="Ends the answer; may be repeated.", show_default=False),
    ] = None
    no_stream: Annotated[
        bool, typer.Option("--no-stream", rich_help_panel=OUTPUT, help="Print it when it is whole.")
    ] = False
    choices: Annotated[
        int | None,
        typer.Option("--choices", min=1, rich_help_panel=OUTPUT, help="So many answers.", show_default="one"),
    ] = None
    logprobs: Annotated[
        int | None,
        typer.Option(
            "--logprobs",
            min=0,
            max=20,
            rich_help_panel=OUTPUT,
            help="Each token's probability, and so many of the likeliest.",
            show_default=False,
        ),
    ] = None
    raw_output: Annotated[
        bool, typer.Option("--raw-output", rich_help_panel=OUTPUT, help="Keep escape sequences on a terminal.")
    ] = False
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", rich_help_panel=OUTPUT, help="No statistics and no advice.")
    ] = False
    usage: Annotated[
        bool, typer.Option("--usage", rich_help_panel=OUTPUT, help="Statistics, also where stdout is no terminal.")
    ] = False
    as_json: Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="One line with everything.")] = False


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to one question that are under way."""

    llm: LLM
    streams: Sequence[Stream]
    question: Question
    journal: Journal


@app.command()
@takes(LoadFlags, SamplingFlags, ConstraintFlags, ToolFlags, ReasoningFlags, RunFlags)
def run(
    load: LoadFlags,
    sampling: SamplingFlags,
    form: ConstraintFlags,
    template: ToolFlags,
    reasoning: ReasoningFlags,
    flags: RunFlags,
    prompt: Annotated[
        str | None, typer.Argument(help="The user's message, after what is piped; - is standard input.")
    ] = None,
) -> None:
    """Answer one prompt, printed as it is decoded."""
    params = sampling.params()  # what is out of range is said before a model is loaded
    reasoning.printer()
    constraint = form.constraint()
    system = flags.system_text()
    _refuse(load, flags, template, form)
    options = template.options(raw=flags.raw, strict_content=flags.strict_content, prefill=flags.prefill or "")
    text = prompt_text(prompt, flags.file, quiet=flags.quiet)
    asked = _messages(text, system)
    question = Question(text, system, flags.raw, flags.prefill or "")
    with flags.journal("run") as journal, load.load(slots=min(flags.choices or 1, MOST_SLOTS)) as llm:
        request = replace(_request(llm, asked, params, options, flags), constraint=constraint)
        answers = Answers(llm, llm.submit_choices(request, flags.choices or 1), question, journal)
        is_cut = _print_json(answers, flags) if flags.as_json else _print_all(answers, flags, reasoning)
    if is_cut and constraint:
        typer.echo(cut_off(constraint), err=True)
        raise typer.Exit(1)


def _refuse(load: LoadFlags, flags: RunFlags, template: ToolFlags, form: ConstraintFlags) -> None:
    """Refuse flags that mean nothing together."""
    for name, given in (
        ("system", flags.system is not None),
        ("system_file", flags.system_file is not None),
        ("strict_content", flags.strict_content),
        ("chat_template", load.chat_template is not None),
        ("template_var", bool(template.template_var)),
        ("tools", template.tools is not None),
        ("prefill", flags.prefill is not None),
    ):
        if flags.raw and given:
            raise InvalidParameter(name, "a raw prompt has no messages", hint="drop it, or --raw")
    if flags.prefill and form.constraint():
        raise InvalidParameter("prefill", "an answer of a form begins as the form says", hint="drop one of them")
    if flags.quiet and flags.usage:
        raise InvalidParameter("usage", "`quiet` is given too", hint="drop one of them")


def _messages(text: str, system: str | None) -> str | list[Message]:
    """Return what is asked: a text, or a conversation where there is a system message."""
    from phiplug.types import Message

    if system is None:
        return text
    if not text:
        raise InvalidParameter("prompt", "is empty")
    return [Message("system", system), Message("user", text)]


def _request(
    llm: LLM, prompt: str | list[Message], params: SamplingParams, options: PromptOptions, flags: RunFlags
) -> Request:
    stop = tuple(flags.stop or ())
    return llm.request(prompt, params, options, max_tokens=flags.max_tokens, stop=stop, logprobs=flags.logprobs)


def _print_json(answers: Answers, flags: RunFlags) -> bool:
    """Print everything about the answers as one line; return whether one was cut off before it had its form."""
    reports = []
    for stream in answers.streams:
        with (
            contextlib.redirect_stdout(sys.stderr),  # what an engine prints is no part of the JSON
            answers.journal.keeping(answers.llm, stream.request, answers.question) as chunks,
        ):
            chunks.extend(stream)
        completion = Completion.of(stream.request, chunks)
        begun = {"prefill": flags.prefill} if flags.prefill else {}
        reports.append(report(answers.llm, stream.request, completion) | begun)
    typer.echo(json.dumps(reports[0] if flags.choices is None else reports))
    return any(each.get("constraint") == "cut" for each in reports)


def _print_all(answers: Answers, flags: RunFlags, reasoning: ReasoningFlags) -> bool:
    """Print answers one after another, a rule with the seed before each where there are several.

    Returns:
        Whether one was cut off before it had the form that was asked for.
    """
    is_cut = False
    for stream in answers.streams:
        if len(answers.streams) > 1:
            print(f"--- seed {stream.request.sampling.seed} ---", flush=True)
        with answers.journal.keeping(answers.llm, stream.request, answers.question) as chunks:
            _print(stream, flags, reasoning.printer(), chunks)
            _print_details(answers.llm, stream.request, chunks, flags)
        is_cut |= chunks[-1].constraint == "cut"
    return is_cut


def _print(stream: Stream, flags: RunFlags, thoughts: ReasoningPrinter, chunks: list[Chunk]) -> None:
    """Print the text as it comes, or when it is whole, and gather the chunks; then the calls of tools."""
    is_form = stream.request.constraint is not None
    printer = AnswerPrinter(raw=flags.raw_output, markdown=not (flags.plain or flags.raw or is_form))
    printer.write("" if flags.no_stream else flags.prefill or "")
    for chunk in awaited(stream, lambda: stream.progress):
        chunks.append(chunk)
        thoughts.write(chunk.reasoning, chunk.text)
        if not flags.no_stream:
            printer.write(chunk.text)
    thoughts.end()
    text = (flags.prefill or "") + "".join(chunk.text for chunk in chunks)
    if flags.no_stream:
        printer.write(text)
    calls = calls_of(delta for chunk in chunks for delta in chunk.tool_calls)
    if text or not calls:
        printer.end()
    for call in calls:
        typer.echo(json.dumps({"name": call.name, "arguments": call.values}, ensure_ascii=False))


def _print_details(llm: LLM, request: Request, chunks: Sequence[Chunk], flags: RunFlags) -> None:
    """Print log-probabilities, where they were asked for, and a line of statistics on stderr, where they are wanted."""
    if logprobs := [entry for chunk in chunks for entry in chunk.logprobs]:
        show_logprobs(logprobs)
    last = chunks[-1]
    if not (last.usage and last.timings) or flags.quiet:
        return
    facts = ["cut off: " + limit(llm, last.usage)] if last.finish_reason == "length" else []
    if flags.usage or sys.stdout.isatty():
        facts = [summary(llm, last.usage, last.timings), f"seed {request.sampling.seed}", *facts]
    if facts:
        note(" · ".join(facts))
