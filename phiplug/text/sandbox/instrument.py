# ruff: noqa: N802 - Jinja's visitors are named after its nodes
"""Puts checks into a parsed template, where Jinja lets no environment intercept what happens.

An environment intercepts calls, filters and arithmetic. Here is the rest: literals, slices, `~`, comparisons and the
rounds of loops; and the one tag that is not Jinja's own. This module knows nothing of sizes.
"""

from __future__ import annotations

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer


class Instrument(NodeTransformer):
    """Rewrites a syntax tree so that it calls the environment's `admit`, `tick` and `concatenate`."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """`a ~ b`."""
        self.generic_visit(node)
        return _call("concatenate", nodes.Tuple(node.nodes, "load"))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        """`a[b]`, which only a slice makes something new of."""
        self.generic_visit(node)
        return _call("admit", node) if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        """`[a, b]`."""
        self.generic_visit(node)
        return _call("admit", node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        """`{a: b}`."""
        self.generic_visit(node)
        return _call("admit", node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        """`(a, b)`, but not where it is assigned to."""
        self.generic_visit(node)
        return _call("admit", node) if node.ctx == "load" else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """`a < b < c`."""
        self.generic_visit(node)
        for operand in node.ops:
            operand.expr = _call("tick", operand.expr)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """`for`: each round begins with a look at the clock."""
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("tick"), lineno=node.lineno))
        return node


def _call(name: str, *arguments: nodes.Expr) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None)


class Generation(Extension):
    """The tag `generation`, with which transformers finds what to train on; here what it encloses is simply printed."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the tag and what it encloses."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)
