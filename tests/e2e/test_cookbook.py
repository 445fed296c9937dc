"""Every page of the cookbook runs as it stands, block after block, on SmolLM2."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path

import pytest

COOKBOOK = Path(__file__).parents[2] / "docs" / "cookbook"
PAGES = sorted(page.stem for page in COOKBOOK.glob("*.md") if page.stem != "README")
NEEDS = {"fastapi": ("fastapi", "httpx"), "schema": ("llguidance",), "tools": ("llguidance",)}


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page, smollm2, tmp_path, monkeypatch, capsys):
    for module in NEEDS.get(page, ()):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page}
    for block in blocks(COOKBOOK / f"{page}.md"):
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if page == "jupyter" else 0
        made = eval(compile(block, f"{page}.md", "exec", flags, dont_inherit=True), namespace)
        if inspect.isawaitable(made):
            asyncio.run(made)
    assert capsys.readouterr().out.strip()


def test_the_contents_name_every_page():
    listed = re.findall(r"\]\(([\w-]+)\.md\)", (COOKBOOK / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == PAGES
    assert len(PAGES) == 10
