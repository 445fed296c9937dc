"""What is said on a terminal while something takes long."""

from __future__ import annotations

import threading

from phiplug.cli import waiting as module
from phiplug.cli.waiting import awaited, waiting


class Terminal:
    """A stderr that somebody looks at."""

    def __init__(self):
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
    assert shown.text.startswith("\rreading 9 tokens, 0 s")
    assert shown.text.endswith("\r\x1b[K")


def test_what_is_quick_shows_nothing(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr(module, "AFTER_S", 600.0)
    assert list(awaited(iter("abc"), "reading")) == ["a", "b", "c"]
    assert shown.text == ""


def test_where_nobody_looks_nothing_is_shown(capfd, monkeypatch):
    monkeypatch.setattr(module, "AFTER_S", 0.0)
    assert list(awaited(iter(""), "reading")) == []
    assert capfd.readouterr().err == ""
