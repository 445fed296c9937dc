"""Plugins: loaded when needed, set aside when broken, never chosen by the order they came in."""

from __future__ import annotations

import itertools
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer

from phiplug.errors import (
    BackendAmbiguous,
    BackendNotFound,
    ContractMismatch,
    PluginError,
    PluginLoadError,
)
from phiplug.plugins import Plugins
from phiplug.spi import ModelFiles

HEAD = "from pathlib import Path\nfrom phiplug.spi import Backend, ModelFiles, Probe, hookimpl\n"
SOUND = """
def no_engine(files, options): raise AssertionError("not in this test")

@hookimpl
def phiplug_register_backends():
    probe = Probe({available}, reason="no engine", install="pip install it", devices={devices})
    return [Backend("{name}", "a test's", lambda: probe, lambda files: files.format == "gguf", no_engine, api={api})]
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Write a plugin module and return its entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))
    numbers = itertools.count()
    written = []

    def write(name, body, *, group="phiplug.backends"):
        module = f"phiplug_test_plugin_{tmp_path.name.replace('-', '_')}_{next(numbers)}"
        (tmp_path / f"{module}.py").write_text(HEAD + textwrap.dedent(body))
        written.append(module)
        return EntryPoint(name, module, group)

    yield write
    for module in written:
        sys.modules.pop(module, None)


def sound(name, *, available=True, devices=("cpu",), api=2):
    return SOUND.format(name=name, available=available, devices=devices, api=api)


def test_a_backend_is_found_by_name_and_only_its_plugin_is_imported(plugin):
    plugins = Plugins([plugin("one", sound("one")), plugin("two", "raise AssertionError('imported')")])
    assert plugins.backend("one").name == "one"
    assert [entry.status for entry in plugins] == ["loaded", "not loaded"]


def test_an_unknown_backend_is_refused_and_the_known_ones_are_named(plugin):
    with pytest.raises(BackendNotFound, match=r"'three' is not installed \(installed: one, two\)"):
        Plugins([plugin("one", ""), plugin("two", "")]).backend("three")


def test_a_disabled_plugin_is_said_to_be_disabled(plugin):
    plugins = Plugins([plugin("one", sound("one"))], disabled={"one"})
    with pytest.raises(BackendNotFound, match="'one' is disabled by PHIPLUG_DISABLE_PLUGINS"):
        plugins.backend("one")
    assert plugins.backends() == []


BROKEN = {
    "raises at import": ("raise RuntimeError('no')", "RuntimeError: no"),
    "imports what is not there": ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
    "is no Python": ("def (:", "SyntaxError"),
    "exits at import": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "misspells a hook": ("@hookimpl\ndef phiplug_register_backend(): return []", "unknown hook"),
    "has an argument too many": ("@hookimpl\ndef phiplug_register_backends(x): return []", "Argument"),
    "raises when it registers": ("@hookimpl\ndef phiplug_register_backends(): raise KeyError('k')", "KeyError: 'k'"),
}


@pytest.mark.parametrize(("body", "said"), BROKEN.values(), ids=BROKEN)
def test_a_plugin_that_is_broken_says_so_by_name_and_harms_no_other(plugin, body, said):
    plugins = Plugins([plugin("bad", body), plugin("good", sound("good"))])
    with pytest.raises(PluginLoadError, match="plugin bad") as caught:
        plugins.backend("bad")
    assert said in str(caught.value)
    assert [backend.name for backend in plugins.backends()] == ["good"]


def test_a_plugin_for_another_version_of_the_contract_is_refused(plugin):
    for version in (1, 99, "'2'"):
        with pytest.raises(ContractMismatch) as caught:
            Plugins([plugin("old", sound("old", api=version))]).backend("old")
        assert f"plugin old was written for version {version} of the contract" in caught.value.message
        assert "this phiplug accepts version 2" in caught.value.message
        assert "docs/plugins.md" in caught.value.hint


def test_a_plugin_that_states_no_version_is_refused_by_name(plugin):
    body = sound("old").replace(", api=2", "")
    with pytest.raises(ContractMismatch, match=r"plugin old.* accepts version 2: .*argument: 'api'") as caught:
        Plugins([plugin("old", body)]).backend("old")
    assert "docs/plugins.md" in caught.value.hint


def test_every_backend_here_states_its_version_as_a_literal():
    root = Path(__file__).parents[2]
    sources = [*root.glob("backends/phiplug*/**/__init__.py"), *root.glob("docs/examples/*/*/__init__.py")]
    backends = [source.read_text() for source in sources if "Backend(\n" in source.read_text()]
    assert len(backends) >= 4
    assert all("    api=2,\n" in source for source in backends)


BARE = sound("named").replace("return [", "return (").replace(")]", "))")  # a backend, and not a list of one


@pytest.mark.parametrize("body", ["", sound("another"), BARE])
def test_a_plugin_must_register_the_backend_that_its_entry_point_names(plugin, body):
    with pytest.raises(ContractMismatch, match="registers no list with one backend"):
        Plugins([plugin("named", body)]).backend("named")


def test_two_plugins_of_one_name_are_ambiguous_and_the_others_are_not(plugin):
    plugins = Plugins([plugin("twin", sound("twin")), plugin("twin", sound("twin")), plugin("one", sound("one"))])
    with pytest.raises(BackendAmbiguous, match="'twin'"):
        plugins.backend("twin")
    assert [backend.name for backend in plugins.backends()] == ["one"]


ASKED = "@hookimpl\ndef phiplug_find_model(reference): {}"


def test_a_plugin_may_find_a_model(plugin):
    body = ASKED.format("return ModelFiles(reference, Path('m'), 'gguf') if reference == 'mine' else None")
    plugins = Plugins([plugin("source", body, group="phiplug")])
    assert plugins.find_model("mine").reference == "mine"
    assert plugins.find_model("other") is None


def test_two_answers_where_one_is_wanted_are_an_error_that_names_both(plugin):
    body = ASKED.format("return ModelFiles(reference, Path('m'), 'gguf')")
    plugins = Plugins([plugin("one", body, group="phiplug"), plugin("two", body, group="phiplug")])
    with pytest.raises(PluginError, match=r"plugins one.* and two.* both answer phiplug_find_model for 'mine'"):
        plugins.find_model("mine")


def test_a_hook_that_raises_names_its_plugin(plugin):
    plugins = Plugins([plugin("one", ASKED.format("raise OSError('gone')"), group="phiplug")])
    with pytest.raises(PluginError, match=r"plugin one.* failed in phiplug_find_model: OSError: gone"):
        plugins.find_model("mine")


def test_plugins_bring_aliases(plugin):
    body = "@hookimpl\ndef phiplug_model_aliases(): return {'tiny': ['hf:a/b']}"
    assert Plugins([plugin("names", body, group="phiplug")]).model_aliases() == {"tiny": ["hf:a/b"]}


def test_two_plugins_that_say_the_same_are_an_error(plugin):
    alias = "@hookimpl\ndef phiplug_model_aliases(): return {'tiny': ['hf:a/b']}"
    entries = [plugin(name, alias, group="phiplug") for name in ("one", "two")]
    with pytest.raises(PluginError, match=r"plugin two.* answers phiplug_model_aliases for 'tiny', as another"):
        Plugins(entries).model_aliases()


@pytest.mark.parametrize("body", ["return ['a fact']", "raise SystemExit(3)"])
def test_a_hook_that_answers_with_no_mapping_or_exits_is_an_error_that_names_it(plugin, body):
    source = f"@hookimpl\ndef phiplug_hardware_info(): {body}"
    with pytest.raises(PluginError, match="plugin one"):
        Plugins([plugin("one", source, group="phiplug")]).hardware_info()


def test_a_plugin_knows_which_hooks_it_implements(plugin):
    plugins = Plugins([plugin("one", sound("one"))])
    plugins.backend("one")
    assert next(iter(plugins)).hooks == ("phiplug_register_backends",)


def test_the_environment_disables_plugins(monkeypatch):
    monkeypatch.setenv("PHIPLUG_DISABLE_PLUGINS", "toy, llama-cpp")
    disabled = {entry.name for entry in Plugins.installed() if entry.status == "disabled"}
    assert disabled == {"toy", "llama-cpp"}


@pytest.mark.parametrize("option", ["wrapper", "hookwrapper", "tryfirst", "trylast"])
def test_an_option_of_a_hook_that_is_not_honoured_is_refused_by_name(plugin, option):
    body = f"@hookimpl({option}=True)\ndef phiplug_chat_template(files): yield"
    plugins = Plugins([plugin("outer", body, group="phiplug"), plugin("good", sound("good"))])
    assert plugins.chat_template(ModelFiles("x", Path("x"), "gguf")) is None
    (outer,) = plugins.of("phiplug")
    assert "plugin outer of an unknown distribution could not be loaded" in str(outer.error)
    assert f"phiplug_chat_template has the option {option}, which phiplug does not honour" in str(outer.error)
    assert plugins.backend("good").name == "good"


@pytest.mark.parametrize(
    ("hook", "value"),
    [
        ("phiplug_find_model(reference)", "42"),
        ("phiplug_find_model(reference)", "'/etc/passwd'"),
        ("phiplug_find_model(reference)", "ModelFiles(reference, '/etc', 'gguf')"),
        ("phiplug_find_model(reference)", "[]"),
        ("phiplug_model_aliases()", "[1]"),
        ("phiplug_model_aliases()", "{'zz': 5}"),
        ("phiplug_model_aliases()", "{7: ['a']}"),
        ("phiplug_model_aliases()", "{'zz': 'hf:a/b'}"),
        ("phiplug_tokenizer(files)", "42"),
        ("phiplug_chat_template(files)", "42"),
        ("phiplug_chat_template(files)", "['{{ messages }}']"),
        ("phiplug_hardware_info()", "{1: object()}"),
    ],
)
def test_a_hook_that_returns_something_else_is_a_typed_error_that_names_plugin_and_hook(plugin, hook, value):
    name = hook.partition("(")[0]
    plugins = Plugins([plugin("odd", f"@hookimpl\ndef {hook}: return {value}", group="phiplug")])
    asked = {
        "phiplug_find_model": lambda: plugins.find_model("x"),
        "phiplug_model_aliases": plugins.model_aliases,
        "phiplug_tokenizer": lambda: plugins.tokenizer(ModelFiles("x", Path("x"), "gguf")),
        "phiplug_chat_template": lambda: plugins.chat_template(ModelFiles("x", Path("x"), "gguf")),
        "phiplug_hardware_info": plugins.hardware_info,
    }
    with pytest.raises(ContractMismatch, match=rf"plugin odd .*: {name} returned .* which is not"):
        asked[name]()


@pytest.mark.parametrize("field", ["summary=5", "probe=None", "load='x'", "default_model=7", "accepts=True"])
def test_a_backend_of_a_wrong_field_is_refused(plugin, field):
    body = sound("odd").replace("    return [", "    made =").replace(", api=2)]", ", api=2)")
    body += f"    import dataclasses\n    return [dataclasses.replace(made, {field})]\n"
    with pytest.raises(ContractMismatch, match=rf"plugin odd: Backend.{field.partition('=')[0]} "):
        Plugins([plugin("odd", body)]).backend("odd")


def test_what_a_plugin_prints_at_import_goes_to_stderr(plugin, capsys):
    Plugins([plugin("loud", "print('HELLO')\n" + sound("loud"))]).backend("loud")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "HELLO\n")


def test_a_plugin_whose_import_takes_for_ever_is_set_aside(plugin, monkeypatch):
    monkeypatch.setattr("phiplug.plugins.manager.TIMEOUT_S", 0.05)
    plugins = Plugins([plugin("slow", "import threading; threading.Event().wait()", group="phiplug")])
    assert plugins.find_model("toy") is None
    (slow,) = plugins
    assert "could not be loaded: it gave no answer within 0.05 s" in str(slow.error)


def test_a_command_that_its_plugin_does_not_add_is_an_error(plugin):
    plugins = Plugins([plugin("none", "@hookimpl\ndef phiplug_add_commands(app): pass", group="phiplug.commands")])
    with pytest.raises(PluginError, match=r"plugin none .*adds no command"):
        plugins.add_command("none", typer.Typer())
