"""Reads and writes `config.toml`: what a user wants unless a flag or the environment says otherwise, and own aliases.

The values are flat, so that a line can be changed and the rest of the file, comments and all, stays as it is. It does
not know which command takes which value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from phiplug import checks, userfiles
from phiplug.errors import InvalidParameter
from phiplug.places import config_file
from phiplug.types import SamplingParams

Value: TypeAlias = str | int | float | bool

ENGINE: Mapping[str, type] = MappingProxyType(
    {"model": str, "backend": str, "device": str, "ctx_size": int, "threads": int, "gpu_layers": int, "offline": bool}
)
SAMPLING: Mapping[str, type] = MappingProxyType(
    {
        **dict.fromkeys(("temperature", "top_p", "min_p", "repeat_penalty", "frequency_penalty"), float),
        **dict.fromkeys(("presence_penalty", "typical_p", "xtc_probability", "xtc_threshold", "top_n_sigma"), float),
        **dict.fromkeys(("dry_multiplier", "dry_base"), float),
        **dict.fromkeys(("top_k", "repeat_last_n", "seed", "dry_allowed_length", "dry_last_n"), int),
        "penalize_prompt": bool,
        "dialect": str,
    }
)
OWN: Mapping[str, type] = MappingProxyType({"max_tokens": int, "reasoning": str, "log": bool, "plain": bool})
KINDS: Mapping[str, type] = MappingProxyType({**ENGINE, **SAMPLING, **OWN})
"""The names of the values, as Python spells them, and of which kind each is."""

ALIASES = "aliases"
_ALIAS = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_LEAST = {"ctx_size": 1, "threads": 1, "gpu_layers": -1, "max_tokens": 1}
_WORDS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
_NOUNS = {str: "a text", int: "an integer", float: "a number", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says.

    Attributes:
        values: by the names of `KINDS`.
        aliases: own short names of models, each with the reference that it stands for.
    """

    values: Mapping[str, Value]
    aliases: Mapping[str, str]


class ConfigFile:
    """The file, which need not be there. What is wrong with it is an `InvalidParameter` that names it."""

    def __init__(self, path: Path | None) -> None:
        """Use the file `path`; without one, as for a user without a home folder, nothing is set and nothing can be."""
        self.path = path

    @classmethod
    def of_user(cls) -> ConfigFile:
        """Return the file of whoever runs this."""
        return cls(config_file())

    def read(self) -> Config:
        """Return what the file says, checked.

        Raises:
            InvalidParameter: it cannot be read, is no TOML, or has a name or a value that makes no sense.
        """
        content = self._parsed()
        aliases = content.pop(ALIASES, {})
        try:
            values = _checked(content)
            _check_aliases(aliases)
        except InvalidParameter as error:
            raise InvalidParameter("config", f"{self.path}: {error.message}", hint=error.hint) from None
        return Config(values, aliases)

    def set(self, name: str, text: str) -> Value:
        """Set a value to what the text says, and return it.

        Raises:
            InvalidParameter: there is no such name, the value is not of its kind, or the file cannot be written.
        """
        value = value_of(name, text, beside=self.read().values)
        self._change(None, name, value)
        return value

    def unset(self, name: str) -> bool:
        """Remove a value, also one that should not be there; return whether it was."""
        return self._change(None, name, None)

    def set_alias(self, name: str, reference: str) -> None:
        """Let a name stand for a reference of a model.

        Raises:
            InvalidParameter: the name cannot be one, or the file cannot be written.
        """
        _check_alias(name, reference)
        self._change(ALIASES, name, reference)

    def unset_alias(self, name: str) -> bool:
        """Remove a name of a model; return whether it was there."""
        return self._change(ALIASES, name, None)

    def _change(self, table: str | None, name: str, value: Value | None) -> bool:
        """Change one line of the file, and see before it is written that nothing else has changed."""
        if self.path is None:
            raise InvalidParameter("config", "there is no folder for it", hint="set HOME")
        expected = self._parsed()
        place: MutableMapping[str, Any] = expected.setdefault(table, {}) if table else expected  # Any: what TOML holds
        was_there = name in place
        if value is None and not was_there:
            return False
        place.pop(name, None) if value is None else place.update({name: value})
        text = _with_line(self._text(), table, name, value)
        if not _says(text, expected):
            raise InvalidParameter("config", f"{self.path}: {name} cannot be changed from here", hint="edit the file")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidParameter("config", f"{self.path} cannot be written: {error.strerror}") from None
        userfiles.write_text("config", self.path, text)
        return was_there

    def _text(self) -> str:
        if self.path is None or not self.path.exists():
            return ""
        return userfiles.read_text("config", self.path)

    def _parsed(self) -> dict[str, Any]:  # Any: what TOML holds
        text = self._text()
        try:
            return _toml(text) if text else {}
        except (ValueError, RecursionError) as error:
            raise InvalidParameter("config", f"{self.path} is no TOML: {error}") from None


def defaults_for(command: str) -> Mapping[str, Value]:
    """Return what the user wants of a command, by the names of its parameters; whether to log is asked elsewhere.

    Raises:
        InvalidParameter: there is a mistake in the file.
    """
    values = ConfigFile.of_user().read().values
    wanted = ENGINE if command == "serve" else KINDS
    return {name: value for name, value in values.items() if name in wanted and name != "log"}


def own_aliases() -> Mapping[str, str]:
    """Return the user's own names of models, each with its reference.

    Raises:
        InvalidParameter: there is a mistake in the file.
    """
    return ConfigFile.of_user().read().aliases


def value_of(name: str, text: str, *, beside: Mapping[str, Value] = MappingProxyType({})) -> Value:
    """Return the value that a text stands for, checked; of sampling, some go only with others that are set `beside`.

    Raises:
        InvalidParameter: there is no such name, or the value makes no sense for it.
    """
    kind = kind_of(name)
    read: Callable[[str], Any] = _WORDS.__getitem__ if kind is bool else kind  # Any: one of the kinds
    try:
        value = read(text.strip().lower() if kind is bool else text)
    except (KeyError, ValueError):
        raise InvalidParameter(name, f"{text!r} is not {_NOUNS[kind]}") from None
    return _checked({**beside, name: value})[name]


def kind_of(name: str) -> type:
    """Return of which kind a value is.

    Raises:
        InvalidParameter: there is no such value.
    """
    if name in KINDS:
        return KINDS[name]
    import difflib

    near = difflib.get_close_matches(name.replace("-", "_"), KINDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}"
    raise InvalidParameter(name, "there is no such value", hint=hint)


def _checked(content: Mapping[str, Any]) -> dict[str, Value]:  # Any: what TOML holds
    """Return the values if each is of its kind and within its range."""
    for name, value in content.items():
        kind = kind_of(name)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise InvalidParameter(name, f"{value!r} is not {_NOUNS[kind]}")
        if name in _LEAST:
            checks.integer(name, value, low=_LEAST[name])
        if isinstance(value, str) and not value.strip():
            raise InvalidParameter(name, "is empty")
    if content.get("reasoning", "show") not in ("show", "hide"):
        raise InvalidParameter("reasoning", f"{content['reasoning']!r} is neither show nor hide")
    SamplingParams(**{name: value for name, value in content.items() if name in SAMPLING})
    return dict(content)


def _check_aliases(aliases: object) -> None:
    if not isinstance(aliases, dict):
        raise InvalidParameter(ALIASES, "is no table", hint="it begins with a line of its own, [aliases]")
    for name, reference in aliases.items():
        _check_alias(name, reference)


def _check_alias(name: str, reference: object) -> None:
    from phiplug.models.reference import parse

    if not _ALIAS.fullmatch(name) or name.lower().endswith(".gguf"):
        hint = "letters, digits, dots and hyphens, and not .gguf at the end"
        raise InvalidParameter("alias", f"{name!r} cannot be the name of a model", hint=hint)
    if not isinstance(reference, str):
        raise InvalidParameter("alias", f"{name} stands for {reference!r}, which is no text")
    parse(reference)


def _toml(text: str) -> dict[str, Any]:  # Any: what TOML holds
    import tomllib  # 3 ms: only where there is a file

    return tomllib.loads(text)


def _says(text: str, expected: Mapping[str, Any]) -> bool:  # Any: as above
    try:
        return _toml(text) == expected
    except ValueError:
        return False


def _with_line(text: str, table: str | None, name: str, value: Value | None) -> str:
    """Return the text with the line of one value replaced, added or, for None, left out."""
    lines = text.splitlines()
    heads = [at for at, line in enumerate(lines) if line.lstrip().startswith("[")] + [len(lines)]
    begin, end = 0, heads[0]
    if table:
        here = [at for at in heads[:-1] if lines[at].split("#")[0].strip() == f"[{table}]"]
        if not here:
            lines += ["", f"[{table}]"] if lines else [f"[{table}]"]
            here, heads = [len(lines) - 1], [len(lines)]
        begin = here[0] + 1
        end = next(at for at in heads if at >= begin)
    key = re.compile(rf"\s*([\"']?){re.escape(name)}\1\s*=")
    found = [at for at in range(begin, end) if key.match(lines[at])]
    written = [] if value is None else [f"{_key(name)} = {spelt(value)}"]
    if found:
        lines[found[0] : found[0] + 1] = written
    else:
        while end > begin and not lines[end - 1].strip():
            end -= 1
        lines[end:end] = written
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)


def spelt(value: Value) -> str:
    """Return a value as TOML has it, which is as JSON has it."""
    return json.dumps(value, ensure_ascii=False)
