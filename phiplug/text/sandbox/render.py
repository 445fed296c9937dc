"""Renders a template that is not trusted, or raises `TemplateFailed`.

Whatever the template does, the answer comes within `MAX_SECONDS` and is no longer than twice what the template was
given and 256 K characters of its own. This module knows nothing of messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import TypeVar

import jinja2
from jinja2 import meta

from phiplug.errors import TemplateFailed
from phiplug.text.sandbox.environment import BoundedEnvironment, Refused
from phiplug.text.sandbox.limits import LIMITS, BoundExceeded, Limits

MAX_SOURCE = 64 * 1024  # characters; the longest template that a known model brings has 17 K
MAX_SECONDS = 1.0  # of the processor; a render takes less than 1 ms. Compiling is bounded by the length of the source
_MAX_REASON = 300  # characters of a message, which the template may have written

_HINT = "`chat_template` gives another template, `raw` uses none"

Result = TypeVar("Result")


class Sandbox:
    """A template and the bounds within which it runs; compiled when it is first rendered.

    Args:
        source: what the template's author wrote, at most `MAX_SOURCE` characters.
        clock: what `strftime_now` in the template reads.
    """

    def __init__(self, source: str, *, clock: Callable[[], datetime] = datetime.now) -> None:
        self._source = source
        self._environment = BoundedEnvironment(clock)

    def render(self, given: Mapping[str, object]) -> str:
        """Return the text that the template makes of the variables it is given, rebuilt from plain JSON types.

        Raises:
            TemplateFailed: the template is invalid, failed, or went beyond its bounds.
        """
        return self._bounded(given, self._rendered)

    def variables(self) -> list[str]:
        """Return the names that the template reads from outside, sorted.

        Raises:
            TemplateFailed: the template is invalid.
        """
        known = self._environment.globals.keys()
        return self._bounded(
            {}, lambda _: sorted(meta.find_undeclared_variables(self._environment.parse(self._source)) - known)
        )

    def _bounded(self, given: Mapping[str, object], work: Callable[[dict[str, object]], Result]) -> Result:
        if len(self._source) > MAX_SOURCE:
            raise TemplateFailed(
                f"the chat template has {len(self._source):,} characters, and {MAX_SOURCE:,} are allowed", hint=_HINT
            )
        plain = {name: _plain(value) for name, value in given.items()}
        before = LIMITS.set(Limits(plain, MAX_SECONDS))
        try:
            return work(plain)
        except Exception as error:  # noqa: BLE001 - Jinja lets through whatever the template made Python raise
            raise _failure(error) from None
        finally:
            LIMITS.reset(before)

    def _rendered(self, given: dict[str, object]) -> str:
        return self._environment.concat(self._template.generate(given))

    @cached_property
    def _template(self) -> jinja2.Template:
        return self._environment.compiled(self._source)


def _failure(error: Exception) -> TemplateFailed:
    reason = str(error)[:_MAX_REASON] or type(error).__name__
    if isinstance(error, Refused):
        return TemplateFailed(f"the chat template refuses these messages: {reason}")
    if isinstance(error, jinja2.TemplateSyntaxError):
        return TemplateFailed(f"the chat template is invalid: {reason} (line {error.lineno})", hint=_HINT)
    if isinstance(error, jinja2.exceptions.SecurityError):
        return TemplateFailed(f"the chat template does what no template may: {reason}", hint=_HINT)
    if isinstance(error, BoundExceeded | RecursionError | MemoryError):
        return TemplateFailed(f"the chat template went beyond its bounds: {reason}", hint=_HINT)
    return TemplateFailed(f"the chat template failed: {reason}", hint=_HINT)


def _plain(value: object) -> object:
    """Rebuild a value from plain JSON types, so that no method of a richer one is within reach of a template."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TemplateFailed(f"a chat template is given plain JSON types, and {type(value).__name__} is none")
