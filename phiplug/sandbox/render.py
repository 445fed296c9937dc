"""Jinja source and variables -> text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from phiplug.errors import TemplateFailed

MAX_SOURCE = 256 * 1024  # characters


class Generation(Extension):
    tags = frozenset({"generation"})

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class Sandbox:
    """A template and the bounds within which it runs."""

    def __init__(self, source: str, *, clock: Callable[[], datetime] = datetime.now) -> None:
        self._source = source
        self._clock = clock

    def render(self, context: Mapping[str, object]) -> str:
        try:
            return self._template.render(json.loads(json.dumps(context)))
        except Exception as error:
            raise TemplateFailed(f"the chat template failed: {error}") from None

    def variables(self) -> list[str]:
        try:
            return sorted(meta.find_undeclared_variables(self._environment.parse(self._source)))
        except Exception as error:
            raise TemplateFailed(f"the chat template failed: {error}") from None

    @cached_property
    def _environment(self) -> ImmutableSandboxedEnvironment:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
        )
        environment.globals["strftime_now"] = lambda format: self._clock().strftime(format)
        environment.globals["raise_exception"] = _raise
        environment.filters["tojson"] = lambda x, ensure_ascii=False, indent=None: json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent
        )
        return environment

    @cached_property
    def _template(self) -> jinja2.Template:
        return self._environment.from_string(self._source)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
