"""No Python that phiplug starts imports files from the folder where the user stands."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for folder in ("phiplug", "backends")
    for path in (ROOT / folder).rglob("*.py")
    if not {"tests", ".venv", "target"}.intersection(path.relative_to(ROOT).parts)
]


def is_interpreter(node):
    return isinstance(node, ast.Attribute) and node.attr == "executable" and getattr(node.value, "id", "") == "sys"


def starts(source):
    """Yield each list or tuple that begins with sys.executable, and the lines of every other mention of it."""
    tree = ast.parse(source)
    commands = [node for node in ast.walk(tree) if isinstance(node, ast.List | ast.Tuple) and node.elts]
    commands = [node for node in commands if is_interpreter(node.elts[0])]
    within = {id(node.elts[0]) for node in commands}
    others = [node.lineno for node in ast.walk(tree) if is_interpreter(node) and id(node) not in within]
    return commands, others


def test_every_start_of_a_python_has_the_flag_p():
    found = 0
    for path in SOURCES:
        commands, others = starts(path.read_text(encoding="utf-8"))
        found += len(commands)
        for command in commands:
            second = command.elts[1] if len(command.elts) > 1 else None
            assert getattr(second, "value", None) == "-P", f"{path}:{command.lineno} starts a Python without -P"
        assert not others, f"{path}:{others} uses sys.executable outside a command that this test can read"
    assert found >= 5


def test_no_python_is_started_in_another_way():
    """multiprocessing's spawn runs `python -c` without -P, so a file multiprocessing.py beside the user would run."""
    for path in SOURCES:
        names = {
            alias.name.partition(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
        }
        assert "multiprocessing" not in names, path


@pytest.mark.parametrize("source", ["[sys.executable, '-m', 'x']", "(sys.executable,)"])
def test_a_start_without_the_flag_would_be_found(source):
    ((command,), _) = starts(source)
    assert [getattr(each, "value", None) for each in command.elts][1:2] != ["-P"]
