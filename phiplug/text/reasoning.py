"""Tells what a model thinks from what it answers, by the markers that its chat template shows.

`FORMATS` is data, one row for each form. `Splitter` reads an answer as it comes. Neither knows tools or grammars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from phiplug.markup import Markup, ReasoningFormat
from phiplug.text.markers import cut

if TYPE_CHECKING:
    from phiplug.text.markers import Controls

FORMATS = (
    ReasoningFormat(
        "harmony",
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant",
        text_begin="<|channel|>final<|message|>",
        framing=("<|channel|>commentary<|message|>", "<|end|>", "<|start|>assistant"),
    ),
    ReasoningFormat("gemma", "<|channel>thought\n", "<channel|>"),
    ReasoningFormat("mistral", "[THINK]", "[/THINK]"),
    ReasoningFormat("seed", "<seed:think>", "</seed:think>"),
    ReasoningFormat("cohere", "<|START_THINKING|>", "<|END_THINKING|>"),
    ReasoningFormat("think", "<think>", "</think>"),
)
"""The forms, each of which a template shows by the first control token or text of `begin` and by `end`."""

_SHOWN_BY = {
    "harmony": ("<|channel|>", "<|message|>", "analysis"),
    "gemma": ("<|channel>", "<channel|>"),
}


def reasoning_of(template: str) -> ReasoningFormat | None:
    """Return the form of reasoning that a chat template's source shows, or None."""
    shown = ((row, _SHOWN_BY.get(row.name, (row.begin, row.end))) for row in FORMATS)
    return next((row for row, texts in shown if all(text in template for text in texts)), None)


def begins_inside(reasoning: ReasoningFormat, prompt: str) -> bool:
    """Return whether a rendered prompt ends within reasoning that it has begun itself."""
    return prompt.rstrip().endswith(reasoning.begin.rstrip())


class Splitter:
    """Splits one answer into reasoning and text.

    What it returns, put together, is the same however the answer was cut into pieces. Line breaks at both ends of the
    reasoning, and those between it and the text, are left out: templates put them there.
    """

    def __init__(self, markup: Markup, controls: Controls) -> None:
        """Read an answer that has this markup, its control tokens spelt as `controls` has them."""
        row = markup.reasoning or ReasoningFormat("none", "", "")
        self._begin, self._end = controls.marker(row.begin), controls.marker(row.end)
        outside = (self._begin, controls.marker(row.text_begin), *map(controls.marker, row.framing))
        self._outside = frozenset(outside) - {""}
        self._inside = markup.begins_inside
        self._held = ""  # what may become a marker
        self._breaks = ""  # line breaks that may be at the end of the reasoning
        self._strips = self._inside

    def feed(self, text: str) -> tuple[str, str]:
        """Take the next piece; return the text and the reasoning that are certain, either of which may be empty."""
        if not self._outside:
            return text, ""
        said = thought = ""
        self._held += text
        while True:
            before, marker, self._held = cut(self._held, (self._end,) if self._inside else self._outside)
            if self._inside:
                thought += self._reasoned(before)
            else:
                said += self._stripped(before)
            if not marker:
                return said, thought
            if marker in (self._begin, self._end):
                self._inside, self._strips, self._breaks = marker == self._begin, True, ""

    def flush(self) -> tuple[str, str]:
        """Return what was held back: the answer has ended, so it cannot become a marker any more."""
        held, self._held = self._held, ""
        return ("", self._reasoned(held)) if self._inside else (self._stripped(held), "")

    def _stripped(self, text: str) -> str:
        if self._strips:
            text = text.lstrip("\n")
            self._strips = not text
        return text

    def _reasoned(self, text: str) -> str:
        text = self._breaks + self._stripped(text)
        kept = text.rstrip("\n")
        self._breaks = text[len(kept) :]
        return kept
