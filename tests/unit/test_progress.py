"""The bar of a download: one for each file, and nothing heavy before the first."""

from __future__ import annotations

import subprocess
import sys

import pytest

from phiplug.cli.progress import DownloadBar


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


def test_a_file_has_a_bar_that_ends_full(terminal, capfd):
    bar = DownloadBar()
    bar.start("folder/[bold]model.gguf", 2000)
    bar.advance(500)
    bar.advance(1500)
    bar.finish()
    out, err = capfd.readouterr()
    assert out == ""
    assert "[bold]model.gguf" in err
    assert "2.0/2.0 kB" in err
    assert "folder" not in err


def test_a_file_that_begins_anew_empties_its_bar(terminal, capfd):
    bar = DownloadBar()
    bar.start("model.gguf", 2000)
    bar.advance(1500)
    bar.start("model.gguf", 2000)
    bar.advance(500)
    bar.finish()
    assert "0.5/2.0 kB" in capfd.readouterr().err.rpartition("model.gguf")[2]


def test_the_next_file_has_the_next_bar(terminal, capfd):
    bar = DownloadBar()
    for name in ("one.gguf", "two.gguf"):
        bar.start(name, 1000)
        bar.advance(1000)
    bar.finish()
    bar.finish()
    err = capfd.readouterr().err
    assert err.index("one.gguf") < err.rindex("two.gguf")


def test_where_stderr_is_no_terminal_each_file_is_a_line(monkeypatch, capfd):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    bar = DownloadBar()
    for name in ("one.gguf", "two.gguf"):
        bar.start(name, 1000)
        bar.advance(1000)
        bar.finish()
    assert capfd.readouterr().err == "fetching one.gguf (1.0 kB)\nfetching two.gguf (1.0 kB)\n"


def test_nothing_heavy_is_imported_before_a_download():
    script = "import sys, phiplug.cli.progress as it; it.DownloadBar().finish(); print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
