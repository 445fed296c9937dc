"""What is said on a terminal while something takes long."""

from __future__ import annotations

import threading

from phiplug.cli import waiting as module
from phiplug.cli.waiting import Reading, awaited, waiting
from phiplug.types import PromptProgress

NOTHING = PromptProgress(0, 0, 9)


class Terminal:
    """A stderr that somebody looks at."""

    def __init__(self, encoding="utf-8"):
        self.encoding = encoding
        self.text = ""
        self.came = threading.Event()

    def isatty(self):
        return True

    def write(self, text):
        self.text += text
        self.came.set()

    def flush(self):
        pass


def test_what_takes_long_is_named_and_its_line_goes_away(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr(module, "AFTER_S", 0.0)
    with waiting("reading 9 tokens"):
        assert shown.came.wait(60)
    assert shown.text.startswith("\r⠋ reading 9 tokens, 0 s\x1b[K")
    assert shown.text.endswith("\r\x1b[K")


def test_a_line_never_meets_the_edge_and_turns_in_ascii_where_there_is_no_more(monkeypatch):
    shown = Terminal("ascii")
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr(module, "AFTER_S", 0.0)
    monkeypatch.setenv("COLUMNS", "10")
    with waiting(lambda seconds: "reading all of it"):
        assert shown.came.wait(60)
    assert shown.text.startswith("\r| reading\x1b[K")


def test_how_far_a_prompt_is_counts_what_was_reused_and_the_rate_does_not():
    done = iter([0, 600, 750, 750, 900])
    line = Reading(lambda: PromptProgress(next(done), 600, 1000))
    assert [line(seconds) for seconds in (1.0, 2.0, 3.0, 4.0, 5.0)] == [
        "reading 1000 tokens",
        "reading 1000 tokens",
        "reading 1000 tokens, 75% at 50/s",
        "reading 1000 tokens, 75% at 50/s",  # nothing has come since
        "reading 1000 tokens, 90% at 60/s",
    ]


def test_what_is_quick_shows_nothing(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr(module, "AFTER_S", 600.0)
    assert list(awaited(iter("abc"), lambda: NOTHING)) == ["a", "b", "c"]
    assert shown.text == ""


def test_where_nobody_looks_nothing_is_shown(capfd, monkeypatch):
    monkeypatch.setattr(module, "AFTER_S", 0.0)
    assert list(awaited(iter(""), lambda: NOTHING)) == []
    assert capfd.readouterr().err == ""
