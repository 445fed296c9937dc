"""The sizes of the house: short files, short functions, few parameters, few layers."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for top in ("phiplug", "backends", "bench", "docs") for path in (ROOT / top).rglob("*.py"))
LONG_FILE, LONG_FUNCTION, MANY_PARAMETERS, MANY_LAYERS = 320, 45, 7, 12
USER_FACING = {"phiplug/load.py:load", "phiplug/llm.py:stream", "phiplug/llm.py:generate"}
"""Functions that name every option, so that an editor can show them."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONG_FILE


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_user_facing_functions_are_long_or_take_many_parameters(path):
    large = {
        f"{path.relative_to(ROOT).as_posix()}:{function.name}" for function in functions(path) if is_large(function)
    }
    assert large <= USER_FACING


def test_the_user_facing_functions_are_there():
    files = {ROOT / name.split(":")[0] for name in USER_FACING}
    assert {f"{path.relative_to(ROOT).as_posix()}:{f.name}" for path in files for f in functions(path)} >= USER_FACING


def test_there_are_few_layers():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    assert all(len(contract["layers"]) <= MANY_LAYERS for contract in contracts if contract["type"] == "layers")


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def is_large(function):
    taken = function.args
    named = [argument.arg for argument in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)]
    parameters = len(named) - (named[:1] in (["self"], ["cls"]))
    return function.end_lineno - function.lineno >= LONG_FUNCTION or parameters > MANY_PARAMETERS
