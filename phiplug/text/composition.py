"""Puts together the grammar of a whole answer: the reasoning before it, its text, and calls of tools.

Text is free, or of the form that a constraint gives it, until the marker of a call; from there on the call is held to
the names and the schemas of the tools. It writes rules, and knows nothing of how they are parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from phiplug.text.grammar import grammar_of
from phiplug.text.lark import ANY, BREAKS, combined, marker, up_to
from phiplug.text.markers import Controls
from phiplug.text.tools.grammar import CallGrammar

if TYPE_CHECKING:
    from phiplug.markup import Markup
    from phiplug.spi import Tokenizer
    from phiplug.types import Constraint


def answer_grammar(constraint: Constraint | None, markup: Markup, tokenizer: Tokenizer) -> str:
    """Return the grammar of an answer, as `LLMatcher` takes it; there is a constraint, or there are tools, or both.

    Raises:
        As `grammar_of` does.
    """
    form = grammar_of(constraint) if constraint else ""
    if form and markup.reasoning is None and markup.tools is None:
        return form
    controls = Controls(tokenizer, markup.markers)
    text = "@form" if form else ANY
    thought, rules = _reasoning(markup, controls)
    parts = {"form": form} if form else {}
    begin = marker(controls, markup.reasoning.text_begin) if markup.reasoning else ""
    if markup.tools is None:
        return combined([f"start: {thought} {f'({begin})?' if begin else ''} {text}", *rules], parts)
    calls = CallGrammar(markup.tools, controls)
    body = calls.required()
    if not markup.tools.required:
        body = f"{begin} {text} | {body}" if form or begin else calls.after_text()
    return combined([f"start: {thought} answer", f"answer: {body}", *rules, *calls.rules], parts | calls.parts)


def _reasoning(markup: Markup, controls: Controls) -> tuple[str, list[str]]:
    """Return what stands before the text of an answer, and the rules that it needs."""
    row = markup.reasoning
    if row is None:
        return "", []
    inside, rules = up_to("before_end", controls, row.end)
    begin = "" if markup.begins_inside else marker(controls, row.begin)
    return "thought" if markup.begins_inside else "thought?", [f"thought: {begin} {inside} {BREAKS}", *rules]
