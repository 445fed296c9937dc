"""The documentation says what the code does: every hook is there with its signature, and every example runs."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phiplug import spi
from phiplug.cli.flags import command_app
from phiplug.plugins import Plugins, hookspecs
from phiplug.spi import ModelFiles
from phiplug.types import Request, SamplingParams, Timings, Usage

DOCS = Path(__file__).parents[2] / "docs"
PLUGINS = (DOCS / "plugins.md").read_text(encoding="utf-8")
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("phiplug_")}


def section(hook):
    return PLUGINS.split(f"### `{hook}(")[1].split("\n### ")[0]


def example(hook):
    return re.search(r"```python\n(.*?)```", section(hook), re.DOTALL)[1]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_signature(hook):
    signature = str(inspect.signature(HOOKS[hook])).replace("'", "")
    assert f"### `{hook}{signature}`" in PLUGINS


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_since_when_it_is_there(hook):
    assert ".. versionadded:: " in HOOKS[hook].__doc__


def test_no_hook_is_documented_that_is_not_there():
    assert set(re.findall(r"^### `(\w+)\(", PLUGINS, re.MULTILINE)) == set(HOOKS)


@pytest.fixture
def plugins(request, tmp_path, monkeypatch):
    """The example of a hook in docs/plugins.md, as an installed plugin."""
    hook, group = request.param
    name = f"example_of_{hook}"
    (tmp_path / f"{name}.py").write_text(example(hook), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return Plugins([EntryPoint("hello" if group == "phiplug.commands" else "nothing", name, group)])


def of(hook, group="phiplug"):
    return pytest.mark.parametrize("plugins", [(hook, group)], indirect=True, ids=[hook])


@of("phiplug_register_backends", "phiplug.backends")
def test_the_example_of_a_backend_registers(plugins):
    assert plugins.backend("nothing").probe().reason == "there is no such engine"


@of("phiplug_find_model")
def test_the_example_of_a_model_source_finds(plugins):
    assert plugins.find_model("shelf:phi").path.name == "phi.gguf"
    assert plugins.find_model("phi") is None


@of("phiplug_tool_formats")
def test_the_example_of_a_form_of_calls_is_one(plugins):
    assert plugins.tool_formats()["mine"].begin == "<call>"


@of("phiplug_model_aliases")
def test_the_example_of_aliases_has_one(plugins):
    assert plugins.model_aliases() == {"tiny": ["hf:someone/tiny-GGUF:Q8_0"]}


@of("phiplug_tokenizer")
def test_the_example_of_a_tokenizer_leaves_it_to_others(plugins):
    assert plugins.tokenizer(ModelFiles("x", Path("x"), "x")) is None


@of("phiplug_chat_template")
def test_the_example_of_a_template_replaces_some(plugins):
    assert "message.content" in plugins.chat_template(ModelFiles("x", Path("some-base.gguf"), "gguf"))
    assert plugins.chat_template(ModelFiles("x", Path("some.gguf"), "gguf")) is None


@of("phiplug_add_commands", "phiplug.commands")
def test_the_example_of_a_command_runs(plugins):
    app = command_app()
    plugins.add_command("hello", app)
    assert CliRunner().invoke(app, ["--name", "Ada"]).output == "hello, Ada\n"


@of("phiplug_hardware_info")
def test_the_example_of_a_hardware_fact_is_told(plugins):
    assert plugins.hardware_info() == {"rack": "B7"}


@of("phiplug_request_finished")
def test_the_example_of_an_observer_hears(plugins):
    import sys

    request = Request((1,), SamplingParams(seed=0))
    plugins.request_finished(request, Usage(1, 5), Timings(0.1, 0.1, 0.1, 10.0, 40.0))
    assert sys.modules["example_of_phiplug_request_finished"].SEEN == [(5, 40.0)]


def test_the_contract_in_the_docs_is_the_contract():
    text = (DOCS / "writing-a-backend.md").read_text(encoding="utf-8")
    for method in ("forward", "rewind", "copy", "close"):
        signature = str(inspect.signature(getattr(spi.Model, method))).replace("'", "")
        assert f"def {method}{signature}: ..." in text


@pytest.mark.parametrize("path", [*DOCS.rglob("*.md"), DOCS.parent / "README.md"], ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_tree_in_the_readme_is_the_tree_on_disk():
    root = DOCS.parent
    tree = (root / "README.md").read_text(encoding="utf-8").split("## The tree")[1].split("```")[1]
    named = {
        word.rstrip("/")
        for line in tree.splitlines()
        if line.startswith("  ")
        for word in re.split(r" {2,}", line.strip())[0].split()
    }
    there = {path.name for path in (root / "phiplug").iterdir()} - {"__pycache__", "py.typed"}
    assert named == there
