"""How a model writes what is not the text of its answer: data, which a request carries to the loop.

The rows of known forms are in `phiplug.text.reasoning` and `phiplug.text.tools`, and so is what reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from phiplug.messages import Tool

ArgumentsForm = Literal["json", "parameters", "braces"]

ID = "{id}"
"""Stands in a row for an id that the model makes up: up to 64 letters, digits, _ and -."""


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How a model shows what it thinks before it answers.

    Attributes:
        name: of the form.
        begin: what begins the reasoning.
        end: what ends it.
        text_begin: what stands before the text of the answer, and is no part of it.
        framing: what else may stand around the text, and is no part of it.
    """

    name: str
    begin: str
    end: str
    text_begin: str = ""
    framing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParameterMarks:
    """How a model writes one argument after the other: `before_key` KEY `after_key` VALUE `end`.

    A value is JSON; one that is a text by its schema is written as it is. White space stands for any white space, also
    none.

    Attributes:
        before_key: see above, and so the next two.
        after_key: begins with a text that no key has in it, up to the first space.
        end: of the value.
        after_text_key: stands for `after_key` before a text, and begins as that does; "" where it is the same.
        on_lines: there is a line break at both ends of a value, and it is no part of it.
    """

    before_key: str
    after_key: str
    end: str
    after_text_key: str = ""
    on_lines: bool = False


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a model calls tools. One row gives what reads calls and the grammar that they keep.

    An answer has blocks: `begin` `open` CALL (`between` CALL)* `end`. A call is `before_name` NAME `after_name`
    ARGUMENTS `after_arguments`. White space in these texts stands for any white space, also none, and `ID` for an
    id that the model makes up, which nobody reads.

    Attributes:
        name: of the form.
        shown_by: texts that a chat template has, all of them, whose model writes this form.
        begin: the marker of a block; it may consist of control tokens and text.
        before_name: see above, and so the next five.
        after_name: see above; never empty but where the arguments have braces.
        after_arguments: what ends a call.
        end: what ends a block.
        open: what follows `begin`, once for each block.
        between: what stands between two calls of a block; None where each call has its own block.
        arguments: "json" for a JSON object; "parameters" for one after the other, as `parameter` says, up to
            `after_arguments` or, where that is empty, `end`; "braces" for `{key:value}`, whose texts stand between two
            `quote`.
        quote: for "braces".
        parameter: for "parameters".
        is_bare: the calls may stand at the very beginning of an answer without `begin`.
        is_single: an answer has one call.
    """

    name: str
    shown_by: tuple[str, ...]
    begin: str
    before_name: str
    after_name: str
    after_arguments: str = ""
    end: str = ""
    open: str = ""
    between: str | None = None
    arguments: ArgumentsForm = "json"
    quote: str = '"'
    parameter: ParameterMarks = ParameterMarks("<parameter=", ">", "</parameter>", on_lines=True)
    is_bare: bool = False
    is_single: bool = False

    @property
    def markers(self) -> tuple[str, ...]:
        """All texts of the row, in which control tokens may be."""
        parts = (self.begin, self.open, self.before_name, self.after_name, self.after_arguments, self.between, self.end)
        marks = self.parameter
        of_parameters = (marks.before_key, marks.after_key, marks.after_text_key, marks.end)
        return (*filter(None, (*parts, *(of_parameters if self.arguments == "parameters" else ()))), self.quote)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools that an answer may call, and how.

    Attributes:
        format: how the model writes calls.
        tools: at least one.
        required: the answer is a call.
        parallel: it may have several calls.
    """

    format: ToolFormat
    tools: tuple[Tool, ...]
    required: bool = False
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Markup:
    """What an answer may hold beside its text.

    Attributes:
        reasoning: how the model shows its reasoning, or None where no form of it is known.
        begins_inside: the prompt has begun the reasoning already.
        tools: what may be called, or None.
    """

    reasoning: ReasoningFormat | None = None
    begins_inside: bool = False
    tools: ToolUse | None = None

    @property
    def markers(self) -> tuple[str, ...]:
        """All markers that may be in an answer."""
        row = self.reasoning
        reasoning = (row.begin, row.end, row.text_begin, *row.framing) if row else ()
        return (*reasoning, *(self.tools.format.markers if self.tools else ()))


NO_MARKUP = Markup()
"""An answer that is text and nothing else."""
