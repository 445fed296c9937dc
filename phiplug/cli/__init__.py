"""The command line: one module per command, imported when that command is run and not before.

`phiplug --help` lists names and summaries from the table below and from entry points, and imports neither numpy nor any
engine. What a command raises becomes one line on stderr and an exit code here, in one place.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import importlib
import io
import os
import re
import shutil
import sys
import textwrap
import warnings
from functools import cached_property
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from phiplug.errors import PhiplugError, PhiplugWarning, PluginError, outcome_of
from phiplug.places import config_file
from phiplug.printable import printable

COMMANDS = {
    "run": "Answer one prompt, printed as it is decoded.",
    "chat": "Talk with a model, turn after turn.",
    "batch": "Answer every line of a file, each in a row of its own.",
    "serve": "Answer HTTP as OpenAI's and Anthropic's servers do.",
    "models": "List, fetch, look into and remove models.",
    "logs": "List, show and search what was asked and answered.",
    "config": "Show and change what run, chat and serve do by default.",
    "backends": "List the backends and whether they work here.",
    "doctor": "Let every engine compute a token, and report what is here.",
    "cache": "Show what is kept on this machine, and remove it.",
    "plugins": "List, check, begin and install plugins.",
    "perplexity": "Measure how well a model predicts a text.",
    "parity": "Measure how far two engines agree.",
    "bench": "Measure how fast engines run one model.",
    "compare": "Compare benchmark runs, across engines and machines.",
    "help": "Show the help of a command.",
    "version": "Print the version.",
}
"""Our own commands: the module of that name in this package, and what it does."""

WITH_DEFAULTS = ("run", "chat", "serve")
"""The commands that do as the user's `config.toml` says; those that measure do not."""

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
MISTYPED: Any = typer.BadParameter.__base__  # what typer raises for any command line that it does not take


class UsageError(PhiplugError):
    """The command line has a mistake."""


class _Commands(TyperGroup):
    """A group that imports a command's module only to run it; plugins' commands come after our own."""

    def main(self, *args: Any, **settings: Any) -> Any:  # Any: typer's own
        """Run the command line and exit; what was mistyped becomes one line, as any other error does."""
        try:
            code = super().main(*args, **settings | {"standalone_mode": False, "color": _color()})
        except OSError as error:
            if not is_lost_output(error):
                raise
            _let_go_of_stdout()
            complain(PhiplugError(f"the output cannot be written: {error.strerror}"))
            code = 1
        except SystemExit as stopped:  # what typer and rich make of a reader of stdout who has gone
            if not isinstance(stopped.__context__, BrokenPipeError):
                raise
            code = 0
        except MISTYPED as error:
            message = error.format_message()
            if not message or "\n" in message:  # no command at all: typer's message is the help
                error.show()
            else:
                message = message[0].lower() + message[1:].partition(". Did you mean")[0].rstrip(".")
                command = error.ctx.command_path if error.ctx else _command(sys.argv)
                complain(UsageError(message, hint=_advice(message, command, error.ctx) or f"see {command} --help"))
            code = error.exit_code
        sys.exit(code)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # Any: click's context, which typer keeps private
        """Return the names, in the order of the table."""
        return [*COMMANDS, *self._of_plugins]

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:  # noqa: ARG002  # Any: as above
        """Return a stand-in that knows the name and the summary, enough for a listing."""
        summary = COMMANDS.get(cmd_name) or self._of_plugins.get(cmd_name)
        return TyperCommand(cmd_name, help=summary) if summary else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # Any: as above
        """Return the command itself, imported now; the user's defaults come after its flags and the environment."""
        name, _, rest = super().resolve_command(ctx, args)
        if name in WITH_DEFAULTS and (file := config_file()) and file.exists():
            from phiplug.config import defaults_for

            ctx.default_map = {name: dict(defaults_for(name))}
        return name, _imported(name or ""), rest

    @cached_property
    def _of_plugins(self) -> dict[str, str]:
        """The commands that plugins bring, with where each is from; none of them is imported."""
        from phiplug.plugins import Plugins
        from phiplug.plugins.manager import COMMANDS as GROUP

        return {plugin.name: f"From {plugin.distribution}." for plugin in Plugins.installed().of(GROUP)}

    def invoke(self, ctx: Any) -> Any:  # Any: as above
        """Run the command; errors become a line and an exit code."""
        try:
            return super().invoke(ctx)
        except PhiplugError as error:
            complain(error)
            raise typer.Exit(outcome_of(error).exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _let_go_of_stdout()
            raise typer.Exit(0) from None
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort | MISTYPED):
                raise
            if (name := ctx.invoked_subcommand) in self._of_plugins:
                complain(PluginError(f"the plugin command {name!r} failed: {as_phiplug_error(error).message}"))
            elif isinstance(error, ImportError | MemoryError):
                complain(_without_room(error))
            else:
                raise
            raise typer.Exit(1) from None


def _without_room(error: ImportError | MemoryError) -> PhiplugError:
    """Say which library does not load, and of what may be the reason: a limit of memory is told by the loader alone."""
    cause = error.__cause__ or error  # NumPy's own text is a page, and what the loader said is its cause
    return PhiplugError(
        f"a part of this installation cannot be loaded: {cause or 'no memory is left'}",
        hint="see that it was installed whole, and that memory is not limited (ulimit -v)",
    )


def _command(arguments: list[str]) -> str:
    """Return the command whose help says what a flag takes; a flag without its value has no context to say so."""
    named = [argument for argument in arguments[1:2] if argument in COMMANDS]
    return " ".join(["phiplug", *named])


def _advice(message: str, command: str, ctx: Any) -> str | None:  # Any: click's context
    """Return what to write instead of a mistyped command, or of a prompt of words that the shell takes apart."""
    if "unexpected extra argument" in message and command == "phiplug run":
        return "put a prompt of several words in quotes"
    if (mistyped := re.match("no such command '(.+)'", message)) and ctx:
        import difflib

        near = difflib.get_close_matches(mistyped[1], ctx.command.list_commands(ctx), n=1)
        return f"did you mean {command} {near[0]}?" if near else None
    return None


def _imported(name: str) -> Any:  # Any: click's command, which typer keeps private
    if name in COMMANDS:
        return typer.main.get_command(importlib.import_module(f"phiplug.cli.{name}").app)
    from phiplug.cli.flags import command_app
    from phiplug.plugins import Plugins

    app = command_app()
    Plugins.installed().add_command(name, app)
    return typer.main.get_command(app)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich's Markdown would take a third of --help's time
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _color() -> bool | None:
    """No colours where the user wants none (no-color.org); else typer looks whether there is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def _let_go_of_stdout() -> None:
    """Give Python somewhere to flush to when it ends: whoever read stdout has gone, or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(wanted: bool) -> None:
    if wanted:
        from phiplug import __version__

        typer.echo(f"phiplug {__version__}")
        raise typer.Exit


@app.callback()
def phiplug(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Run a language model through any engine: same prompt, same sampling, same text. Only the hardware changes."""


def complain(error: PhiplugError) -> None:
    """Print an error as one line on stderr, with its class for scripts to look for; on a terminal words wrap."""
    begin = "error:"
    text = _broken(f"{begin} {with_flags(str(error))} [{type(error).__name__}]")
    typer.secho(begin, fg="red", bold=True, err=True, nl=False, color=_color())
    typer.secho(text.removeprefix(begin), err=True)


def note(text: str, *, hang: int = 0) -> None:
    """Print something on stderr that is neither an answer nor an error; on a terminal, lines break between words.

    What a broken line goes on with begins in column `hang`.
    """
    typer.secho(_broken(text, hang), dim=True, err=True, color=_color())


def _broken(text: str, hang: int = 0) -> str:
    """Return a text for stderr, whose lines break between words on a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return text
    wrapper = textwrap.TextWrapper(shutil.get_terminal_size().columns, break_long_words=False)
    wrapper.break_on_hyphens = False  # a flag stays whole
    wrapper.subsequent_indent = " " * hang
    return "\n".join(map(wrapper.fill, text.split("\n")))


def as_phiplug_error(error: Exception) -> PhiplugError:
    """Return an error that nobody expected as one that can be shown on one line."""
    if isinstance(error, PhiplugError):
        return error
    return PhiplugError(": ".join(filter(None, (type(error).__name__, str(error)))), hint="this is a bug: report it")


def is_lost_output(error: Exception) -> bool:
    """Whether an error says that nothing more can be printed: the reader has gone, or the disk is full."""
    lost = (errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO)
    return isinstance(error, OSError) and error.errno in lost


def with_flags(text: str) -> str:
    """Spell the parameters in a text of the library, `ctx_size`, as the command line has them, --ctx-size."""
    return re.sub(r"`([a-z][a-z_]*)`", lambda found: f"--{_FLAGS.get(found[1], found[1]).replace('_', '-')}", text)


_FLAGS = {
    "temperature": "temp",
    "dialect": "sampling-dialect",
    "dry_breakers": "dry-breaker",
    "lenient": "schema-lenient",
}
"""The parameters whose flags are called otherwise."""


def main() -> None:
    """Run the command line."""
    if sys.stdout is None:  # what Python makes of a closed one; to print would be to lose the answer in silence
        sys.exit("error: standard output is closed")
    if not faulthandler.is_enabled():  # an engine's SIGBUS or SIGSEGV ends the process, but not in silence
        with contextlib.suppress(
            AttributeError, OSError, RuntimeError, ValueError
        ):  # a stderr that is closed or no file
            faulthandler.enable(all_threads=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot show is spelt out, as \u2603
            stream.reconfigure(errors="backslashreplace")
    warnings.simplefilter("always", PhiplugWarning)
    warnings.showwarning = _warn  # type: ignore[assignment]  # it takes fewer arguments by name than typeshed lists
    app(prog_name="phiplug")


def _warn(message: Warning | str, category: type[Warning], *_: object) -> None:
    if issubclass(category, PhiplugWarning):
        typer.secho("warning: ", fg="yellow", err=True, nl=False, color=_color())
        typer.secho(with_flags(printable(str(message))), err=True)
