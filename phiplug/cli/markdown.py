"""Renders Markdown for a terminal, block by block, in the terminal's own colours and without losing any of the text.

It does not know what is on the screen already: `phiplug.cli.streamed` does. rich and its parser are imported with this
module, so a command imports it only where it has Markdown to show.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from markdown_it import MarkdownIt
from rich import markdown as rich_markdown
from rich.cells import cell_len
from rich.console import Console
from rich.rule import Rule
from rich.segment import Segment
from rich.style import Style
from rich.syntax import ANSISyntaxTheme, Syntax
from rich.text import Text
from rich.theme import Theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token
    from rich.console import ConsoleOptions, RenderResult

# Of the eight colours, common palettes keep red and magenta readable both on white and on black.
STYLES = {
    "markdown.code": "magenta",
    "markdown.code_block": "none",
    "markdown.block_quote": "italic",
    "markdown.list": "none",
    "markdown.item.bullet": "bold",
    "markdown.hr": "dim",
    "markdown.h1": "bold underline",
    "markdown.h2": "bold underline",
    "markdown.h3": "bold",
    "markdown.h4": "bold",
    "markdown.h5": "bold italic",
    "markdown.h6": "italic",
    "markdown.link": "none",
    "markdown.link_url": "underline",
    "markdown.table.border": "dim",
    "markdown.table.header": "bold",
    "markdown.fence": "dim",
}
CODE = ANSISyntaxTheme(
    {  # by Pygments' kinds of tokens
        ("Comment",): Style(italic=True),
        ("Generic", "Deleted"): Style(color="red"),
        ("Generic", "Inserted"): Style(bold=True),
        ("Keyword",): Style(color="magenta", bold=True),
        ("Literal",): Style(color="red"),  # strings and numbers
        ("Name", "Class"): Style(bold=True),
        ("Name", "Decorator"): Style(color="magenta"),
        ("Name", "Function"): Style(bold=True),
        ("Name", "Tag"): Style(color="magenta", bold=True),
        ("Operator", "Word"): Style(color="magenta", bold=True),
    }
)
UNSHOWN = ("autolink", "html_block", "html_inline", "image", "reference")
"""Rules by which rich would leave something out: what they would take stays as it is written."""

_ESCAPE = re.compile(r"\x1b\[[\d;]*m")
_WIDE = "\u2e80-\uffef\U0001f000-\U0003ffff"
_WORD = re.compile(rf"\s*(?:[{_WIDE}]|[^\s{_WIDE}]+)\s*")  # wide scripts have no spaces
_TRAILING = re.compile(r" +((?:\x1b\[[\d;]*m)*)$")


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a list, a piece of code or another part of a text that stands by itself.

    Attributes:
        tokens: what markdown-it made of it.
        source: its lines.
        start: which line of the text is its first.
        is_apart: whether the line before it is blank.
    """

    tokens: Sequence[Token]
    source: Sequence[str]
    start: int
    is_apart: bool


def blocks(text: str) -> list[Block]:
    """Divide a text into its blocks; only the last one may become another one when the text goes on."""
    lines = text.split("\n")
    tokens = _parser().parse(text)
    _keep_line_breaks(tokens)
    found = []
    begin = 0
    for at, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0:  # the end of a block
            start, end = tokens[begin].map or (0, 0)
            apart = start > 0 and not lines[start - 1].strip()
            found.append(Block(tokens[begin : at + 1], lines[start:end], start, apart))
            begin = at + 1
    return found


def render(block: Block, console: Console, width: int) -> list[str]:
    """Return the lines of a block with escape sequences for their style.

    Lines have at most `width` columns, but for those of code and for long words, which can so be copied whole.
    """
    with console.capture() as capture:
        if block.tokens[0].type == "fence":
            console.print(_fenced(block), soft_wrap=True)
        else:
            console.print(_Document(block.tokens), width=width, crop=False)
    lines = [_TRAILING.sub(r"\1", line) for line in capture.get().split("\n")]
    while lines and not plain(lines[-1]).strip():
        lines.pop()
    while lines and not plain(lines[0]).strip():
        lines.pop(0)
    return lines


def plain(line: str) -> str:
    """Return a rendered line without its styles."""
    return _ESCAPE.sub("", line)


def console() -> Console | None:
    """Return what renders for stdout; None where it is a terminal that cannot move its cursor."""
    made = Console(file=sys.stdout, theme=Theme(STYLES), highlight=False)
    return None if made.is_dumb_terminal or made.legacy_windows else made


def _parser() -> MarkdownIt:
    return MarkdownIt().enable(["strikethrough", "table"]).disable(UNSHOWN)


def _keep_line_breaks(tokens: Sequence[Token]) -> None:
    """Let a line of a paragraph end where the model ended it: poems and addresses have lines."""
    for token in tokens:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"


def _fenced(block: Block) -> Text:
    """Return code with its fences, which name the language."""
    token = block.tokens[0]
    parts: list[Text] = [Text(block.source[0], "markdown.fence")]
    if token.content:
        parts.append(_highlighted(token.content.removesuffix("\n"), token.info))
    if len(block.source) > 1 and set(block.source[-1].strip()) == {token.markup[0]}:
        parts.append(Text(block.source[-1], "markdown.fence"))
    return Text("\n").join(parts)


def _highlighted(code: str, info: str) -> Text:
    """Return code in colours, in which a language that Pygments does not know has none."""
    language = info.split(maxsplit=1)[0] if info.strip() else "text"
    text = Syntax(code, language, theme=CODE).highlight(code)
    text.right_crop(len(text.plain) - len(text.plain.rstrip("\n")))  # a lexer ends the last line
    return text


def _unbroken(element: rich_markdown.MarkdownElement, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
    """Return the lines of what is in an element; rich would cut those off that are too long."""
    segments = console.render(element.elements, options)  # type: ignore[attr-defined]
    return list(Segment.split_lines(Segment.apply_style(segments, element.style)))  # type: ignore[attr-defined]


class _Code(rich_markdown.CodeBlock):
    """Code without fences, or within a list or a quotation."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = _highlighted(str(self.text), self.lexer_name)
        yield from console.render(code, options.update(no_wrap=True, overflow="ignore"))


class _Paragraph(rich_markdown.Paragraph):
    """A paragraph, of which words that are wider than a line stay whole; rich would break them."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.text.split("\n", allow_blank=True):
            breaks, column = [], 0
            for word in _WORD.finditer(line.plain):
                if column and column + cell_len(word[0].rstrip()) > options.max_width:
                    breaks.append(word.start())
                    column = 0
                column += cell_len(word[0])
            yield from (Text.assemble(part, no_wrap=True, overflow="ignore") for part in line.divide(breaks))


class _Heading(rich_markdown.Heading):
    """A heading at the left."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text.assemble(self.text, justify="left")


class _HorizontalRule(rich_markdown.HorizontalRule):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Rule(style="markdown.hr")


class _BlockQuote(rich_markdown.BlockQuote):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in _unbroken(self, console, options.update(width=options.max_width - 2)):
            yield from (Segment("▌ ", self.style), *line, Segment.line())


class _ListItem(rich_markdown.ListItem):
    def render_bullet(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._marked(" • ", console, options)

    def render_number(self, console: Console, options: ConsoleOptions, number: int, last_number: int) -> RenderResult:
        yield from self._marked(f"{number}.".rjust(len(str(last_number)) + 2) + " ", console, options)

    def _marked(self, mark: str, console: Console, options: ConsoleOptions) -> RenderResult:
        style = console.get_style("markdown.item.bullet")
        for line in _unbroken(self, console, options.update(width=options.max_width - len(mark))):
            yield from (Segment(mark, style), *line, Segment.line())
            mark = " " * len(mark)


class _Document(rich_markdown.Markdown):
    """Markdown that was parsed already."""

    elements: ClassVar[dict[str, type[rich_markdown.MarkdownElement]]] = rich_markdown.Markdown.elements | {
        "blockquote_open": _BlockQuote,
        "code_block": _Code,
        "fence": _Code,
        "heading_open": _Heading,
        "hr": _HorizontalRule,
        "list_item_open": _ListItem,
        "paragraph_open": _Paragraph,
    }

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = list(tokens)
