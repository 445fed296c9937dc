"""Makes a site of the pages as GitHub shows them: mkdocs calls this file, which mkdocs.yml names.

README.md and two pages beside it are outside docs/, and the reference of a public module is one line: these pages are
made here. Links are followed as GitHub follows them, and lead to the site's pages.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
REFERENCE = {
    # mkdocstrings misses `load` in the package, because a module has the same name
    "phiplug": "::: phiplug.load.load\n    options: {show_root_heading: true, show_root_full_path: false}\n\n"
    "::: phiplug",
    "phiplug.types": "Those that have no name in [phiplug](phiplug.md) itself.\n\n"
    "::: phiplug.types\n    options: {members: [ParameterMarks, PromptProgress, TokenLogprob, ToolFormat]}",
    "phiplug.errors": "::: phiplug.errors",
    "phiplug.spi": "::: phiplug.spi",
    "phiplug.plugins.hookspecs": "::: phiplug.plugins.hookspecs\n    options: {filters: ['!^refuse']}",
    "phiplug.testing": "::: phiplug.testing",
}
"""By the module: what its page says."""

_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")
_SINCE = re.compile(r"\.\. versionadded:: ([\w.]+)")
_CODE = re.compile(r"`[^`\n]+`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    from mkdocs.structure.files import File

    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for module, content in REFERENCE.items():
        files.append(File.generated(config, f"api/{module}.md", content=f"# {module}\n\n{content}\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Change what a page has for GitHub into what the site needs."""
    uri = page.file.src_uri
    has_parts = "\n## " in markdown or "\n::: " in markdown
    page.meta["hide"] = ["navigation"] * (uri == "index.md") + ["toc"] * (not has_parts)
    source = next((name for name, made in OUTSIDE.items() if made == uri), f"docs/{uri}")
    return bare_pipes(site_links(markdown, source))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Say in words what Sphinx's directive says in a docstring."""
    return _SINCE.sub(r"<em>Since version \1.</em>", html)


def site_links(markdown: str, source: str) -> str:
    """Let the links of a file lead to pages of the site; of one to a file that is no page, its text stays.

    Args:
        markdown: its text.
        source: its path below the root.
    """
    here = posixpath.dirname(page_of(source) or "")

    def changed(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            return link[0]
        page = page_of(path)
        return f"[{text}]({posixpath.relpath(page, here or '.')}{anchor})" if page else text

    return _LINK.sub(changed, markdown)


def page_of(path: str) -> str | None:
    """Return the site's file for a path below the root: the README of a folder, and nothing for what is no page."""
    if path == ".":
        return OUTSIDE["README.md"]
    if (ROOT / path).is_dir():
        path = f"{path}/README.md"
    if path in OUTSIDE:
        return OUTSIDE[path]
    return path.removeprefix("docs/") if path.startswith("docs/") and (ROOT / path).exists() else None


def bare_pipes(markdown: str) -> str:
    r"""Write `|` for `\|` in the code of tables, as Python-Markdown wants it and GitHub does not."""
    lines = markdown.split("\n")
    for at, line in enumerate(lines):
        if line.startswith("|"):
            lines[at] = _CODE.sub(lambda code: code[0].replace(r"\|", "|"), line)
    return "\n".join(lines)
