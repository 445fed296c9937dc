"""docs/features.md: every command that it shows for phiplug runs, here with the toy model, and it counts right."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
TABLE = [[cell.strip() for cell in line.split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = {cells[1]: cells[2] for cells in TABLE[2:]}
HAS = {name: cell for name, cell in ROWS.items() if cell != "no"}
FAILS = {"phiplug rnu": "did you mean phiplug run?"}  # as it says
TYPED = {"/retry": "/retry\n", "/undo": "/undo\n", "/model toy": "/model toy\n", '"""': '"""one\ntwo"""\n'}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The files that the commands name, the toy model, and a chat in the log."""
    (tmp_path / "question.txt").write_text("The capital of France?")
    (tmp_path / "editor.txt").write_text("Be brief.")
    (tmp_path / "dog.json").write_text('{"enum": ["Rex"]}')
    tool = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    (tmp_path / "tools.json").write_text(json.dumps([{"type": "function", "function": tool}]))
    (tmp_path / "tools.jinja").write_text('{{ tools | tojson }}{{ messages[0].content }}{# <tool_call> "arguments" #}')
    (tmp_path / "config" / "phiplug").mkdir(parents=True)
    (tmp_path / "config" / "phiplug" / "config.toml").write_text(
        'model = "toy"\nbackend = "toy"\nmax_tokens = 40\nlog = true\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PHIPLUG_NO_LOG", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # whose .bashrc is changed
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "bash"))


def ran(phiplug, command, typed):
    arguments, _, file = command.replace("smollm2", "toy").partition(" < ")
    stdin = Path(file).read_text() if file else typed
    return phiplug(*shlex.split(arguments)[1:], stdin=stdin)


@pytest.mark.parametrize("name", HAS)
def test_each_command_runs(phiplug, desk, name):
    commands = [span for span in re.findall(r"`([^`]+)`", HAS[name]) if span.startswith("phiplug ")]
    typed = "".join(TYPED.get(span.replace("smollm2", "toy"), "") for span in re.findall(r"`([^`]+)`", HAS[name]))
    assert commands
    if "logs" in HAS[name] or "--continue" in HAS[name]:
        phiplug("chat", stdin="hello\n")
    for shown in commands:
        command = shown.replace("phiplug serve", "phiplug serve --help")  # tests/e2e/test_serve.py has one that serves
        done = ran(phiplug, command, f"hello\n{typed}")
        expected = next((words for start, words in FAILS.items() if command.startswith(start)), "")
        assert done.code == (2 if expected else 0), done.err
        assert expected in done.err
        assert "error" not in done.err or expected


def test_the_table_counts_right():
    part = sum(cell.startswith("in part") for cell in HAS.values())
    assert len(ROWS) == 26
    assert f"phiplug has {len(HAS) - part} of them, a part of one, and not the\nother four" in PAGE
    assert (part, len(ROWS) - len(HAS)) == (1, 4)
    assert len(HAS) - part >= 20
