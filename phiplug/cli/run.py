"""`phiplug run` answers one prompt: text on stdout and statistics on stderr, or all of it as one line of JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phiplug.cli.constraints import ConstraintFlags, cut_off
from phiplug.cli.flags import OUTPUT, PROMPT, LoadFlags, SamplingFlags, command_app, takes
from phiplug.cli.logprobs import logprob_as_json, show_logprobs
from phiplug.cli.prompt import prompt_text
from phiplug.cli.reasoning import ReasoningFlags
from phiplug.cli.screen import AnswerPrinter
from phiplug.cli.template import ToolFlags
from phiplug.cli.waiting import awaited
from phiplug.errors import InvalidParameter
from phiplug.messages import calls_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phiplug.cli.reasoning import ReasoningPrinter
    from phiplug.llm import LLM, PromptOptions, Stream
    from phiplug.types import Completion, Message, Request, SamplingParams, Timings, TokenLogprob, ToolCallDelta, Usage

app = command_app()

MOST_SLOTS = 8
"""Answers that are computed side by side: each takes a context of memory."""


@dataclass(frozen=True, slots=True)
class RunFlags:
    """What `run` asks and how it prints."""

    file: Annotated[
        str | None,
        typer.Option("-f", "--file", rich_help_panel=PROMPT, help="Read the prompt from a file.", show_default=False),
    ] = None
    system: Annotated[
        str | None, typer.Option("-s", "--system", rich_help_panel=PROMPT, help="A system message.", show_default=False)
    ] = None
    raw: Annotated[bool, typer.Option("--raw", rich_help_panel=PROMPT, help="No chat template: continue the text.")] = (
        False
    )
    strict_content: Annotated[
        bool, typer.Option("--strict-content", rich_help_panel=PROMPT, help="Refuse control tokens in the prompt.")
    ] = False
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
    as_json: Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="One line with everything.")] = False


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
    _refuse_for_raw(load, flags, template)
    options = template.options(raw=flags.raw, strict_content=flags.strict_content)
    asked = _messages(prompt_text(prompt, flags.file), flags)
    with load.load(slots=min(flags.choices or 1, MOST_SLOTS)) as llm:
        request = replace(_request(llm, asked, params, options, flags), constraint=constraint)
        streams = llm.submit_choices(request, flags.choices or 1)
        if flags.as_json:
            with contextlib.redirect_stdout(sys.stderr):  # what an engine prints is no part of the JSON
                reports = [_report(llm, stream) for stream in streams]
            typer.echo(json.dumps(reports[0] if flags.choices is None else reports))
            is_cut = any(report.get("constraint") == "cut" for report in reports)
        else:
            is_cut = _print_all(llm, streams, flags, reasoning)
    if is_cut and constraint:
        typer.echo(cut_off(constraint), err=True)
        raise typer.Exit(1)


def _refuse_for_raw(load: LoadFlags, flags: RunFlags, template: ToolFlags) -> None:
    """Refuse the flags that mean nothing for a prompt without messages."""
    for name, given in (
        ("system", flags.system is not None),
        ("strict_content", flags.strict_content),
        ("chat_template", load.chat_template is not None),
        ("template_var", bool(template.template_var)),
        ("tools", template.tools is not None),
    ):
        if flags.raw and given:
            raise InvalidParameter(name, "a raw prompt has no messages", hint="drop it, or --raw")


def _messages(text: str, flags: RunFlags) -> str | list[Message]:
    """Return what is asked: a text, or a conversation where there is a system message."""
    from phiplug.types import Message

    if flags.system is None:
        return text
    if not text:
        raise InvalidParameter("prompt", "is empty")
    return [Message("system", flags.system), Message("user", text)]


def _request(
    llm: LLM, prompt: str | list[Message], params: SamplingParams, options: PromptOptions, flags: RunFlags
) -> Request:
    stop = tuple(flags.stop or ())
    return llm.request(prompt, params, options, max_tokens=flags.max_tokens, stop=stop, logprobs=flags.logprobs)


def _print_all(llm: LLM, streams: Sequence[Stream], flags: RunFlags, reasoning: ReasoningFlags) -> bool:
    """Print answers one after another, a rule with the seed before each where there are several.

    Returns:
        Whether one was cut off before it had the form that was asked for.
    """
    is_cut = False
    for stream in streams:
        if len(streams) > 1:
            print(f"--- seed {stream.request.sampling.seed} ---", flush=True)
        is_cut |= _print(llm, stream, flags, reasoning.printer())
    return is_cut


def _print(llm: LLM, stream: Stream, flags: RunFlags, thoughts: ReasoningPrinter) -> bool:
    """Print the text as it comes, or when it is whole; then log-probabilities and a line of statistics on stderr."""
    text, is_said = "", False
    logprobs: list[TokenLogprob] = []
    calls: list[ToolCallDelta] = []
    printer = AnswerPrinter(raw=flags.raw_output)
    for chunk in awaited(stream, f"reading {_counted(len(stream.request.prompt_ids), 'token')}"):
        logprobs += chunk.logprobs
        calls += chunk.tool_calls
        is_said = is_said or bool(chunk.text)
        thoughts.write(chunk.reasoning, chunk.text)
        if flags.no_stream:
            text += chunk.text
        else:
            printer.write(chunk.text)
    thoughts.end()
    printer.write(text)
    if is_said or not calls:
        printer.end()
    for call in calls_of(calls):
        typer.echo(json.dumps({"name": call.name, "arguments": call.values}, ensure_ascii=False))
    if logprobs:
        show_logprobs(logprobs)
    if chunk.usage and chunk.timings:
        line = summary(llm, chunk.usage, chunk.timings)
        cut = " · cut off: " + _limit(llm, chunk.usage) if chunk.finish_reason == "length" else ""
        typer.secho(f"{line} · seed {stream.request.sampling.seed}{cut}", dim=True, err=True)
    return chunk.constraint == "cut"


def _limit(llm: LLM, usage: Usage) -> str:
    """Say what ended an answer that had not come to its end."""
    full = usage.prompt_tokens + usage.completion_tokens >= llm.info.context_length
    return f"the context of {llm.info.context_length} tokens is full" if full else "--max-tokens"


def _rate(per_second: float) -> str:
    return f"{per_second:.0f}/s" if per_second >= 9.5 else f"{per_second:.1f}/s"


def _counted(count: int, things: str) -> str:
    return f"{count} {things}" if count == 1 else f"{count} {things}s"


def summary(llm: LLM, usage: Usage, timings: Timings) -> str:
    """Return the statistics of an answer as one line."""
    info = llm.info
    threads = f" {_counted(info.threads, 'thread')}" if info.threads else ""
    cached = f" ({usage.cached_tokens} reused)" if usage.cached_tokens else ""
    return " · ".join(
        [
            f"{_counted(usage.prompt_tokens, 'prompt token')}{cached} at {_rate(timings.prefill_tps)}",
            _counted(usage.completion_tokens, "new token")
            + (f" at {_rate(timings.decode_tps)}" if timings.decode_tps else ""),
            f"first text after {timings.ttft_s:.2f} s" if timings.ttft_s else "no text",
            f"{llm.backend} on {info.device}{threads}",
        ]
    )


def _said(completion: Completion) -> dict[str, Any]:  # Any: what JSON holds
    """Return what an answer consists of, and whether it has its form."""
    grammar: dict[str, Any] = {"constraint": completion.constraint} if completion.constraint else {}  # Any: as above
    if completion.constraint or completion.tool_calls:
        grammar["forced_tokens"] = completion.usage.forced_tokens
    return grammar | {
        "text": completion.text,
        "reasoning": completion.reasoning,
        "tool_calls": [call.as_dict() for call in completion.tool_calls],
    }


def _report(llm: LLM, stream: Stream) -> dict[str, Any]:  # Any: what JSON holds
    """Return everything about one answer, for --json."""
    from phiplug.load import cache
    from phiplug.models.hub import checksum_of
    from phiplug.transcript import biases_as_json

    completion = stream.completion()
    info, timings = llm.info, completion.timings
    path = llm.files.path
    asked = stream.request.logprobs is not None
    logprobs = {"logprobs": list(map(logprob_as_json, completion.logprobs))} if asked else {}
    return (
        logprobs
        | _said(completion)
        | {
            "tokens": completion.tokens,
            "prompt_tokens": completion.usage.prompt_tokens,
            "prompt_ids": completion.prompt_ids,
            "finish_reason": completion.finish_reason,
            "backend": llm.backend,
            "device": info.device,
            "threads": info.threads,
            "model": {
                "reference": llm.files.reference,
                "path": str(path),
                "sha256": checksum_of(llm.files, cache()),
                "quantization": info.quantization,
                "metadata": dict(info.metadata),
            },
            "sampling": {field.name: getattr(completion.sampling, field.name) for field in fields(completion.sampling)}
            | {"logit_bias": biases_as_json(completion.sampling.logit_bias)},
            "timings": {
                "load_s": llm.load_s,
                "ttft_s": timings.ttft_s,
                "prefill_tps": timings.prefill_tps,
                "decode_tps": timings.decode_tps,
            },
        }
    )
