"""The package as a whole: what is public, what importing it costs, what must not be in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import phiplug

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("phiplug/**/*.py"), *ROOT.glob("backends/**/*.py")]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()


def test_every_public_name_is_there_and_they_are_sorted():
    assert all(hasattr(phiplug, name) for name in phiplug.__all__)
    assert phiplug.__all__ == sorted(phiplug.__all__, key=lambda name: (not name.isupper(), name.islower(), name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        phiplug.nothing  # noqa: B018  the access is the test


def test_importing_phiplug_imports_nothing_heavy():
    heavy = {"numpy", "tokenizers", "jinja2", "huggingface_hub", "llama_cpp", "mlx", "rich", "typer", "platformdirs"}
    script = f"import sys, phiplug; print({heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_begins_with_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_runs_a_models_code_or_unpickles(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"trust_remote_code\s*=\s*True|pickle\.load|torch\.load|(?<![.\w])(eval|exec)\(", text)


@pytest.mark.skipif(not TRACKED, reason="not a git checkout: what is committed cannot be listed")
def test_nothing_committed_names_a_machine():
    pattern = re.compile(r"(^|[^\w.])/(work|root|home)/\w")
    named = []
    for name in TRACKED:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".json", ".yml", "") and path.is_file() and path != Path(__file__):
            named += [name for line in path.read_text(encoding="utf-8").splitlines() if pattern.search(line)]
    assert named == []
