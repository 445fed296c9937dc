"""Tests the page at `/` as files: what is served with which headers, and what may not be in it. Browsers: tests/e2e."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from served import ask, make

from phiplug.server import page

FOLDER = files("phiplug.server.page")
NAMES = sorted(page.FILES.values())
TEXTS = {name: FOLDER.joinpath(name).read_text(encoding="utf-8") for name in NAMES}


def policy(answer):
    directives = answer.headers["content-security-policy"].split("; ")
    return dict(directive.partition(" ")[::2] for directive in directives)


@pytest.mark.parametrize("path", page.FILES)
@pytest.mark.parametrize("key", [None, "secret"])
def test_every_file_is_served_without_a_key_and_with_its_type(path, key):
    answer = ask(make(key=key), "GET", path)
    assert answer.status_code == 200
    assert answer.text == TEXTS[page.FILES[path]]
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(kinds[page.FILES[path].rpartition(".")[2]])
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_only_this_server_gives_the_page_its_scripts_styles_and_answers():
    found = policy(ask(make(), "GET", "/"))
    assert found["default-src"] == found["base-uri"] == found["form-action"] == found["frame-ancestors"] == "'none'"
    assert {found[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}


def test_what_the_page_asks_for_needs_the_key():
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions")):
        assert ask(make(key="secret"), method, path, {}).status_code == 401


@pytest.mark.parametrize(
    "path", ["/page/", "/page/__init__.py", "/page/../guard.py", "/page/%2e%2e/guard.py", "/index.html"]
)
def test_no_other_file_is_served(path):
    assert ask(make(), "GET", path).status_code == 404


def test_every_file_of_the_folder_is_served():
    assert {
        each.name for each in FOLDER.iterdir() if each.is_file() and not each.name.endswith((".py", ".pyc"))
    } == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_a_file_names_is_served(name):
    named = re.findall(r'(?:src|href)="([^"#$]+)"|from "\./([^"]+)"', TEXTS[name])
    for from_root, beside in named:
        assert "/" + (from_root or f"page/{beside}") in page.FILES


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_another_server(name):
    text = TEXTS[name].replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|[\"'(=]\s*//|@import|url\(", text)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".html")])
def test_no_script_and_no_style_is_in_the_markup(name):
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", TEXTS[name])


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_scripts_insert_text_as_text_and_store_nothing(name):
    inserts = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\("
    stores = r"[lL]ocalStorage|sessionStorage|indexedDB|\.cookie"
    assert not re.search(f"{inserts}|{stores}", TEXTS[name])


@pytest.mark.parametrize("name", NAMES)
def test_no_file_is_long(name):
    lines = TEXTS[name].splitlines()
    assert len(lines) <= 320
    assert max(map(len, lines)) <= 120
