"""Markdown on a terminal: nothing of the text is lost, and what streams in pieces ends as what was rendered at once."""

from __future__ import annotations

import os
import re

import pytest
from rich.console import Console
from rich.theme import Theme

from phiplug.cli.markdown import CODE, STYLES, blocks, plain, render
from phiplug.cli.streamed import StreamedMarkdown, settled

TEXT = """\
# Tea

A *good* cup needs `water` and patience, for a while.
Roses are red

Steps:
1. Boil:
   ```bash
   kettle --on --temperature 95 --log /var/log/kettle
   ```
2. Wait a long time.
   - nested **two**

```python
def fib(n):
    return "a line of code that is long"  # comment

    # after a blank line
```
> said by somebody who is long

---
<b>html</b> ![pic](x.png) https://example.org/a/very/long/path
"""
WANTED = """\
Tea

A good cup needs water
and patience, for a
while.
Roses are red

Steps:
 1. Boil:
    kettle --on --temperature 95 --log /var/log/kettle
 2. Wait a long time.
     • nested two

```python
def fib(n):
    return "a line of code that is long"  # comment

    # after a blank line
```
▌ said by somebody who
▌ is long

────────────────────────
<b>html</b> !pic (x.png)
https://example.org/a/very/long/path"""
TABLE = """\
| Tea | Minutes |
|-----|--------:|
| Green | 2 |
| Black | **10** |

"""


@pytest.fixture
def console():
    return Console(force_terminal=True, color_system="standard", theme=Theme(STYLES), highlight=False, file=None)


def shown(text, console, width=24):
    lines = []
    for block in blocks(text):
        lines += [""] * (bool(lines) and block.is_apart)
        lines += [plain(line).rstrip() for line in render(block, console, width)]
    return lines


def test_each_kind_of_block_is_readable_at_a_narrow_edge(console):
    assert shown(TEXT, console) == WANTED.splitlines()


def test_a_table_has_its_columns(console):
    head, rule, *rows = shown(TABLE, console)
    assert head.split() == ["Tea", "Minutes"]
    assert set(rule.strip()) <= {"─", "━"}  # by the version of rich
    assert [row.split() for row in rows] == [["Green", "2"], ["Black", "10"]]
    assert {len(line) for line in (head, *rows)} == {len(head)}  # to the right


@pytest.mark.parametrize(
    "text",
    ["a <i>b</i>", "<div>\nx\n</div>", "[1]: http://a.b", "<http://a.b>", "a & b &c", "2 * 3 * 4", "snake_case_name"],
)
def test_what_rich_would_leave_out_stays_as_it_is_written(console, text):
    assert shown(text, console, 80) == text.split("\n")


def test_a_poem_keeps_its_lines_and_a_link_shows_where_it_leads(console):
    assert shown("one\ntwo\n[here](http://a.b)", console) == ["one", "two", "here (http://a.b)"]


def test_only_colours_that_can_be_read_on_white_and_on_black_are_used():
    used = set(re.findall(r"[a-z_]+", " ".join(STYLES.values())))
    used |= {style.color.name for style in CODE.style_map.values() if style.color}
    assert used <= {"red", "magenta", "bold", "italic", "underline", "dim", "none"}
    assert not any(style.bgcolor for style in CODE.style_map.values())


def test_code_is_coloured_by_its_language_and_an_unknown_one_has_no_colours(console):
    (known,) = blocks("```python\nreturn 1\n```")
    (unknown,) = blocks("```nosuch\nreturn 1\n```")
    assert render(known, console, 80)[1] == "\x1b[1;35mreturn\x1b[0m \x1b[31m1\x1b[0m"
    assert render(unknown, console, 80)[1] == "return 1"


class Screen:
    """The rows of a terminal, with its own wrapping, and those that left it at the top."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.rows = [""]
        self.at = 0
        self.column = 0

    def send(self, output):
        for part in re.findall(r"\x1b\[\d*[AK]|\x1b\[[\d;]*m|[^\x1b]", output):
            self.obey(part)

    def obey(self, part):
        if part.endswith("m") and part[0] == "\x1b":
            return
        if part.endswith("A") and part[0] == "\x1b":
            self.at = max(self.at - 1, len(self.rows) - self.height, 0)
        elif part.endswith("K") and part[0] == "\x1b":
            self.rows[self.at] = self.rows[self.at][: self.column]
        elif part == "\r":
            self.column = 0
        elif part == "\n" or self.column == self.width:
            self.at, self.column = self.at + 1, 0
            self.rows += [""] * (self.at == len(self.rows))
            if part != "\n":
                self.obey(part)
        else:
            row = self.rows[self.at]
            self.rows[self.at] = row[: self.column] + part + row[self.column + 1 :]
            self.column += 1


def streamed(text, console, size, *, width=24, height=50):
    """Return what a terminal shows of a text that came in pieces of this size."""
    screen, times = Screen(width, height), iter(range(100_000))
    stream = StreamedMarkdown(console, lambda: os.terminal_size((width, height)), lambda: 1000.0 * next(times))
    stream._next = -1.0
    for at in range(0, len(text), size):
        screen.send(stream.feed(text[at : at + size]))
        stream._next = -1.0
    screen.send(stream.end())
    assert screen.at == len(screen.rows) - 1 or not any(screen.rows[screen.at + 1 :])
    return [row.rstrip() for row in screen.rows[: screen.at + 1]]


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_pieces_of_any_size_end_as_the_whole_text(console, size):
    lines = shown(TABLE + TEXT, console)
    rows = [line[at : at + 24].rstrip() for line in lines for at in range(0, max(len(line), 1), 24)]
    assert streamed(TABLE + TEXT, console, size) == rows


def test_a_list_that_is_longer_than_the_screen_is_whole(console):
    text = "\n".join(f"- item **{number}** of many" for number in range(40))
    assert streamed(text, console, 2, height=5) == [f" • item {number} of many" for number in range(40)]


def test_plain_words_are_sent_as_they_come_and_nothing_is_sent_twice(console):
    stream = StreamedMarkdown(console, lambda: os.terminal_size((24, 50)), lambda: 0.0)
    sent = []
    for piece in ("the", " quick", " brown\n", "fox"):
        stream._next = 0.0
        sent.append(stream.feed(piece))
    assert sent == ["the", " quick", " brown", "\nfox"]


def test_pieces_that_come_faster_than_the_eye_are_drawn_together(console):
    now = [0.0]
    stream = StreamedMarkdown(console, lambda: os.terminal_size((24, 50)), lambda: now[0])
    assert stream.feed("a") == "a"
    assert stream.feed("b") == ""
    now[0] = 1.0
    assert stream.feed("c") == "bc"
    assert stream.feed("d") == ""
    assert stream.end() == "d"


def test_drawing_takes_at_most_a_tenth_of_the_time(console):
    now = [0.0]

    def size():
        now[0] += 1.0  # drawing takes a second
        return os.terminal_size((24, 50))

    stream = StreamedMarkdown(console, size, lambda: now[0])
    assert stream.feed("a") == "a"
    now[0] = 10.9
    assert stream.feed("b") == ""
    now[0] = 11.0
    assert stream.feed("c") == "bc"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\n-", "a"),
        ("a\n- b", "a\n- b"),
        ("1.", ""),
        ("1. a", "1. a"),
        ("a\n| b | c", "a"),
        ("| b |\n|--", ""),
        ("| b |\n|---|\n| x", "| b |\n|---|"),
        ("| b |\n|---|\n| x |\n", "| b |\n|---|\n| x |\n"),
        ("1 2 3", "1 2 3"),
    ],
)
def test_an_end_that_the_next_character_may_change_waits(text, kept):
    assert settled(text) == kept
