"""The site of docs/: links lead to its own pages, all pages are in its navigation, nothing is loaded from elsewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("mkdocs_hooks", ROOT / "docs" / "mkdocs_hooks.py")
hooks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hooks)
CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("source", "written", "shown"),
    [
        ("README.md", "[a](docs/sampling.md#constraints)", "[a](sampling.md#constraints)"),
        ("README.md", "[a](docs/examples/llm-phiplug)", "[a](examples/llm-phiplug/README.md)"),
        ("README.md", "[a](CONTRIBUTING.md)", "[a](contributing.md)"),
        ("docs/features.md", "[a](../README.md#the-tree)", "[a](index.md#the-tree)"),
        ("docs/cookbook/README.md", "[a](../tools.md)", "[a](../tools.md)"),
        ("docs/examples/phiplug-numpy/README.md", "[phiplug](../../..)", "[phiplug](../../index.md)"),
        ("docs/from-the-seed.md", "[`phiplug.gguf`](../phiplug/gguf) checks", "`phiplug.gguf` checks"),
        ("README.md", "[a](https://example.org) [b](#try-it)", "[a](https://example.org) [b](#try-it)"),
        ("README.md", "`f(x)[0](nothing)`", "`f(x)[0](nothing)`"),
    ],
)
def test_a_link_of_github_leads_to_a_page_of_the_site(source, written, shown):
    assert hooks.site_links(written, source) == shown


def test_a_pipe_in_the_code_of_a_table_is_written_as_each_needs_it():
    assert hooks.bare_pipes("| a | `<\\|b\\|>` |\n`\\|`") == "| a | `<|b|>` |\n`\\|`"


def test_since_when_something_is_there_is_said_in_words():
    assert hooks.on_page_content("<p>.. versionadded:: 0.1</p>", None, None, None) == (
        "<p><em>Since version 0.1.</em></p>"
    )


def test_a_table_shows_its_pipes_on_github():
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
        for row in rows:
            cut = [code for code in re.findall(r"`[^`]+`", row) if re.search(r"[^\\ ]\||(?<!\\)\|[^ ]", code)]
            assert not cut, f"{path.name}: {cut}"


def test_every_page_is_in_the_navigation():
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    made = {*hooks.OUTSIDE.values(), *(f"api/{module}.md" for module in hooks.REFERENCE)}
    named = re.findall(r"- (?:[^:\n]+: )?(\S+\.md)$", CONFIG.split("\nnav:")[1], re.MULTILINE)
    assert sorted(named) == sorted(there | made)


def test_every_module_of_the_reference_is_there():
    for module in hooks.REFERENCE:
        assert importlib.util.find_spec(module)


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path))
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = [*tmp_path.rglob("*.html")]
    assert len(pages) > 60
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|link|img|iframe|source)\b[^>]*(?:https?:)?//[\w.]+/", html), page
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import\s*)[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet
