"""`phiplug chat` talks with a model in a terminal or through a pipe. Answers go to stdout, all the rest to stderr.

It puts the parts together: `phiplug.cli.terminal` reads lines, `phiplug.cli.session` has them answered, and
`phiplug.cli.slash` obeys those that begin with a slash.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from phiplug.cli import note
from phiplug.cli.asking import AskFlags
from phiplug.cli.flags import OUTPUT, PROMPT, LoadFlags, SamplingFlags, command_app, takes
from phiplug.cli.journal import last_conversation
from phiplug.cli.reasoning import ReasoningFlags
from phiplug.cli.stdin import piped_lines
from phiplug.cli.template import TemplateFlags
from phiplug.cli.terminal import is_interactive, restored_when_killed, typed_lines
from phiplug.errors import outcome_of

app = command_app()
GREETING = "/help lists the commands · Ctrl-C stops an answer · Ctrl-D leaves"


@dataclass(frozen=True, slots=True)
class ChatFlags(AskFlags):
    """What `chat` begins with, how it prints, and whether it is logged."""

    continue_: Annotated[
        bool,
        typer.Option("--continue", rich_help_panel=PROMPT, help="Go on with the chat that was logged last."),
    ] = False
    max_tokens: Annotated[
        int, typer.Option("-n", "--max-tokens", "--sample-len", rich_help_panel=OUTPUT, help="At most so many a turn.")
    ] = 512
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", rich_help_panel=OUTPUT, help="Ends an answer; may be repeated.", show_default=False),
    ] = None
    raw_output: Annotated[
        bool, typer.Option("--raw-output", rich_help_panel=OUTPUT, help="Keep escape sequences on a terminal.")
    ] = False


@app.command()
@takes(LoadFlags, SamplingFlags, TemplateFlags, ReasoningFlags, ChatFlags)
def chat(
    load: LoadFlags, sampling: SamplingFlags, template: TemplateFlags, reasoning: ReasoningFlags, flags: ChatFlags
) -> None:
    """Talk with a model, turn after turn; /help lists what else it understands."""
    from phiplug.cli import slash
    from phiplug.cli.session import Session, Shown
    from phiplug.conversation import Conversation
    from phiplug.transcript import AnswerOptions

    options = AnswerOptions(
        sampling.params(), flags.max_tokens, tuple(flags.stop or ()), flags.strict_content, template.variables()
    )
    reasoning.printer()
    system = flags.system_text()
    interactive = is_interactive()
    kept = last_conversation() if flags.continue_ else None
    for last in kept.answers[-1:] if kept else ():
        load = replace(load, model=load.model or last.model)
        system = last.system if system is None else system
    with flags.journal("chat") as journal:
        conversation = Conversation(load.load(), system=system, options=options)
        journal.begin()
        session = Session(
            conversation,
            load,
            slash.obey,
            journal=journal,
            shown=Shown(interactive, flags.raw_output, not flags.plain, reasoning),
        )
        try:
            if kept:
                session.go_on(kept)
            if interactive:
                note(f"{slash.about(session.conversation.llm)}\n{GREETING}\n")
            with restored_when_killed() if interactive else nullcontext():
                session.run(typed_lines(slash.completions()) if interactive else piped_lines())
        finally:
            session.conversation.llm.close()
    if session.failure and not interactive:
        raise typer.Exit(outcome_of(session.failure).exit_code)
