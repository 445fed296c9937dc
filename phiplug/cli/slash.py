"""Obeys the lines of a chat that begin with a slash.

The commands are in the table at the end. A message that begins with a slash needs a space before it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phiplug.cli import note
from phiplug.errors import InvalidParameter, UnsupportedParameter
from phiplug.printable import printable
from phiplug.transcript import SETTINGS, AnswerOptions

if TYPE_CHECKING:
    from phiplug.cli.flags import LoadFlags
    from phiplug.cli.session import Session
    from phiplug.cli.terminal import Completions
    from phiplug.llm import LLM

_WORDS = {"on": True, "off": False, "none": None}
"""What may be written for JSON's true, false and null."""


_OF_ENGINES: Mapping[str, Any] = {
    "device": None,
    "threads": None,
    "gpu_layers": None,
    "exact_scales": False,
    "lookahead": "auto",
}
"""The flags that not every engine honours, with what they are when nobody gives them."""


@dataclass(frozen=True, slots=True)
class Slash:
    """A command of the chat.

    Attributes:
        usage: what comes after its name.
        summary: what it does.
        obey: does it, given the session and the rest of the line.
    """

    usage: str
    summary: str
    obey: Callable[[Session, str], None]


def obey(line: str, session: Session) -> None:
    """Do what a line that begins with a slash asks for.

    Raises:
        PhiplugError: there is no such command, or it cannot be done; the conversation is as before.
    """
    name, _, rest = line[1:].partition(" ")
    command = COMMANDS.get(_ALIASES.get(name, name))
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean /{near[0]}?" if near else "/help lists them; a message that begins with / needs a space"
        raise InvalidParameter("command", f"there is no /{name}", hint=hint)
    if command.usage and command.usage[0].isupper() and not rest.strip():
        raise InvalidParameter(name, f"needs {command.usage}")
    if rest.strip() and not command.usage:
        raise InvalidParameter(name, f"takes nothing, and there is {rest.strip()!r}")
    command.obey(session, rest.strip())


def completions() -> Completions:
    """Return what the Tab key offers."""
    from phiplug.plugins.manager import BACKENDS, Plugins

    after: dict[str, dict[str, None]] = {
        "set": dict.fromkeys(SETTINGS),
        "backend": {plugin.name: None for plugin in Plugins.installed().of(BACKENDS)},
    }
    return {f"/{name}": after.get(name) for name in COMMANDS}


def about(llm: LLM) -> str:
    """Return what answers, as one line."""
    info = llm.info
    return f"{llm.files.reference} ({info.quantization}) · {_engine(llm)} · context of {info.context_length} tokens"


def _help(_: Session, __: str) -> None:
    rows = {f"/{name} {command.usage}": command.summary for name, command in COMMANDS.items()}
    width = max(map(len, rows))
    note("\n".join(f"{head:{width}}  {summary}" for head, summary in rows.items()), hang=width + 2)
    note('\nEnter sends, Alt-Enter begins a new line, as Enter does between """ and """. Tab completes a command.')
    note("Ctrl-C stops an answer, Ctrl-D leaves.")


def _reset(session: Session, _: str) -> None:
    session.conversation.reset()
    session.journal.begin()
    session.logged.clear()
    session.forget()
    note("the conversation is empty" + ("; the system message stays" if session.conversation.system else ""))


def _system(session: Session, text: str) -> None:
    session.conversation.system = text or None
    note("the system message is set" if text else "there is no system message")


def _set(session: Session, text: str) -> None:
    name, _, value = text.partition(" ")
    if not value.strip() and (not name or name in SETTINGS):
        settings = session.conversation.options.values()
        shown = {f"{key} {_spelt(value)}": ABOUT[key] for key, value in settings.items() if name in ("", key)}
        width = max(map(len, shown))
        note("\n".join(f"{head:{width}}  {about}" for head, about in shown.items()), hang=width + 2)
        return
    session.conversation.options = session.conversation.options.changed({name: _value(value.strip())})
    note(f"{name} is {_spelt(session.conversation.options.values()[name])}")


def _save(session: Session, file: str) -> None:
    session.conversation.save(Path(file))
    count = len(session.conversation.messages)
    note(f"{count} message{'s are' if count != 1 else ' is'} saved in {file}")


def _load(session: Session, file: str) -> None:
    transcript = session.conversation.load(Path(file))
    session.journal.begin(session.conversation.turns)
    session.logged.clear()
    session.forget()
    count = len(transcript.messages)
    note(f"going on after {count} message{'s' if count != 1 else ''}")


def _backend(session: Session, name: str) -> None:
    """Load the same model into another engine; the old one goes when the new one is there."""
    conversation = session.conversation
    old = conversation.llm
    conversation.llm = _loaded(replace(session.load, model=old.files.reference), name)
    old.close()
    session.forget()
    note(about(conversation.llm))


def _model(session: Session, reference: str) -> None:
    """Load another model; the old one goes when the new one is there."""
    wanted = replace(session.load, model=reference)
    old = session.conversation.llm
    session.conversation.llm = wanted.load()
    session.load = wanted
    old.close()
    session.forget()
    note(about(session.conversation.llm))


def _undo(session: Session, _: str) -> None:
    question = session.undo()
    note(f"taken back: {printable(question, longest=60)}")


def _retry(session: Session, _: str) -> None:
    seed = session.conversation.options.sampling.seed
    question = session.undo()
    if seed is not None:
        note(f"seed {seed} is set, so the answer may be the same; /set seed none draws another")
    session.answer(question)


def _loaded(flags: LoadFlags, name: str) -> LLM:
    """Load on an engine; a flag of the command line that only another engine honours is named and left out."""
    while True:
        try:
            return flags.load_on(name)
        except UnsupportedParameter as error:
            if error.name not in _OF_ENGINES or getattr(flags, error.name) == _OF_ENGINES[error.name]:
                raise
            note(f"without --{error.name.replace('_', '-')}: {error.message}")
            flags = replace(flags, **{error.name: _OF_ENGINES[error.name]})


def _stats(session: Session, _: str) -> None:
    from phiplug.cli.statistics import summary

    conversation, last = session.conversation, session.last
    info = conversation.llm.info
    rows = [
        ("model", f"{conversation.llm.files.reference} ({info.quantization})"),
        ("engine", _engine(conversation.llm)),
        ("context", f"{session.held} of {info.context_length} tokens"),
        ("messages", str(len(conversation.messages))),
        ("settings", _changes(conversation.options)),
    ]
    if last and last.usage and last.timings:
        facts = summary(conversation.llm, last.usage, last.timings).split(" \u00b7 ")[:-1]  # the engine was named above
        rows += [("" if at else "last answer", fact) for at, fact in enumerate(facts)]
    note("\n".join(f"{head:12} {fact}" for head, fact in rows), hang=13)


def _exit(session: Session, _: str) -> None:
    session.leaving = True


def _engine(llm: LLM) -> str:
    threads = f", {llm.info.threads} thread{'s' if llm.info.threads != 1 else ''}" if llm.info.threads else ""
    return f"{llm.backend} on {llm.info.device}{threads}"


def _changes(options: AnswerOptions) -> str:
    """Name the settings that are not as they are by default."""
    default = AnswerOptions().values()
    changed = [f"{name} {_spelt(value)}" for name, value in options.values().items() if value != default[name]]
    return ", ".join(changed) or "every setting as it is by default"


def _value(text: str) -> Any:  # Any: what JSON holds
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _spelt(value: Any) -> str:  # Any: what JSON holds
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


COMMANDS = {
    "help": Slash("", "this list", _help),
    "reset": Slash("", "forget what was said, but for the system message", _reset),
    "system": Slash("[TEXT]", "set the system message; without TEXT, have none", _system),
    "set": Slash("[NAME VALUE]", "change a setting: /set temperature 0.2; alone, show all", _set),
    "save": Slash("FILE", "write the conversation as JSON", _save),
    "load": Slash("FILE", "go on with a conversation that was saved", _load),
    "retry": Slash("", "have the last question answered anew", _retry),
    "undo": Slash("", "take the last question and its answer back", _undo),
    "model": Slash("REFERENCE", "let another model go on with the conversation", _model),
    "backend": Slash("NAME", "let another engine go on with the conversation", _backend),
    "stats": Slash("", "what answers, how, and how fast", _stats),
    "exit": Slash("", "leave, as /quit and /bye do", _exit),
}
"""The commands by their names. A usage that begins with a capital letter must be given."""

ABOUT: Mapping[str, str] = {
    "temperature": "0 is greedy, more is more surprising",
    "top_p": "only the likeliest tokens of so much probability; 1 is off",
    "top_k": "only so many of the likeliest tokens; 0 is off",
    "min_p": "only tokens so likely beside the likeliest; 0 is off",
    "repeat_penalty": "against tokens that were there; 1 is off",
    "repeat_last_n": "how far back it looks; none is the dialect's",
    "penalize_prompt": "whether the prompt counts; none is the dialect's",
    "frequency_penalty": "per occurrence of a token",
    "presence_penalty": "per token that occurred",
    "logit_bias": 'added to tokens: {"42": -1.5}',
    "seed": "the same gives the same answer; none draws one",
    "dialect": "whose rules hold: phiplug, candle, llama.cpp, mlx-lm, hf",
    "typical_p": "only the most typical tokens; 1 is off",
    "xtc_probability": "how often the likeliest are left out",
    "xtc_threshold": "how likely those are",
    "top_n_sigma": "deviations below the largest logit; 0 is off",
    "dry_multiplier": "against repeated phrases; 0 is off",
    "dry_base": "how that grows with each repeated token",
    "dry_allowed_length": "how long a repetition may be",
    "dry_last_n": "how far back it looks; -1 is everything",
    "dry_breakers": "ids that end a repetition: [[198]]",
    "max_tokens": "at most so many an answer",
    "stop": 'ends an answer: ["###"]',
    "strict_content": "refuse control tokens in a message",
    "variables": 'for the chat template: {"enable_thinking": false}',
}
"""A word on each setting."""

_ALIASES = {"quit": "exit", "bye": "exit"}
