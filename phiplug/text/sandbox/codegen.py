# ruff: noqa: N802 - Jinja's visitors are named after its nodes
"""Jinja's syntax tree -> Python that leads every value which a template makes through the ledger.

Jinja lets an environment intercept calls, filters and arithmetic. Here is the rest: literals, slices and `~`, and the
one tag that is not Jinja's own. This file knows nothing of sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.parser import Parser


class LedgerGenerator(CodeGenerator):
    """Jinja's code generator, with what no environment can intercept led through the environment."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """`a ~ b`."""
        self.write("environment.text_of((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        """`a[b]`, which only a slice makes something new of."""
        self._admitted(super().visit_Getitem, node, frame, when=isinstance(node.arg, nodes.Slice))

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        """`[a, b]`."""
        self._admitted(super().visit_List, node, frame, when=True)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        """`{a: b}`."""
        self._admitted(super().visit_Dict, node, frame, when=True)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        """`(a, b)`, but not where it is assigned to."""
        self._admitted(super().visit_Tuple, node, frame, when=node.ctx == "load")

    def _admitted(self, visit: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame, *, when: bool) -> None:
        self.write("environment.admit(" if when else "")
        visit(node, frame)
        self.write(")" if when else "")


class Generation(Extension):
    """The tag `generation`, with which transformers finds what to train on; here what it encloses is simply printed."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the tag and what it encloses."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)
