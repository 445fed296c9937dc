"""What a plugin gives is held to the contract: each wrong value is a typed error that names the plugin."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

import phiplug_toy
from phiplug.errors import BackendFailed, ContractMismatch, PluginError
from phiplug.load import assemble
from phiplug.plugins import Plugins, backends, calls, probe
from phiplug.spi import LoadOptions, ModelInfo, Probe

TOY = phiplug_toy.phiplug_register_backends()[0]
FILES = phiplug_toy.phiplug_find_model("toy")


def loaded(change):
    """Assemble the toy with a `load` that hands its model to `change` first."""

    def load(files, options):
        model = TOY.load(files, options)
        change(model)
        return model

    return assemble(FILES, replace(TOY, load=load), LoadOptions(), Plugins.installed())


def with_info(**changes):
    def change(model):
        model.info = replace(model.info, **changes)

    return change


def test_a_feature_that_the_contract_does_not_know_is_refused_by_name():
    with pytest.raises(ContractMismatch, match=r"backend toy names the feature 'teleport'; the contract knows copy, "):
        loaded(with_info(features=frozenset({"copy", "teleport"})))


@pytest.mark.parametrize(("feature", "method"), [("autotune", "autotune"), ("meter", "peak_memory")])
def test_a_feature_without_its_method_is_refused(feature, method):
    with pytest.raises(ContractMismatch, match=f"names the feature '{feature}', and its model has no method {method}"):
        loaded(with_info(features=frozenset({feature})))


def test_features_are_a_frozenset():
    with pytest.raises(ContractMismatch, match="which is not a frozenset"):
        loaded(with_info(features=["copy"]))


def test_a_model_info_of_another_version_names_the_backend_and_the_versions():
    def load(files, options):
        return ModelInfo(258, 512, 1, "cpu", "none", "1", can_copy=True)

    with pytest.raises(ContractMismatch, match=r"backend toy was written for version 1 .* accepts version 2") as caught:
        assemble(FILES, replace(TOY, load=load), LoadOptions(), Plugins.installed())
    assert "docs/plugins.md" in caught.value.hint


class NoModel:
    """Has nothing of a model but its info."""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", -1),
        ("context_length", 0),
        ("slots", 0),
        ("chunk", 0),
        ("chunk", 64.0),
        ("equal_passes", 0),
        ("threads", 0),
        ("device", None),
        ("metadata", {"flags": 5}),
        ("row_independence", "some"),
    ],
)
def test_a_model_info_of_a_wrong_value_is_refused_with_the_field(field, value):
    with pytest.raises(ContractMismatch, match=rf"backend toy: ModelInfo.{field} .*which is not"):
        loaded(with_info(**{field: value}))


@pytest.mark.parametrize("model", [None, 5, NoModel()])
def test_what_load_returns_is_a_model(model):
    with pytest.raises(ContractMismatch, match=r"backend toy: load\(\) returned .* no method forward"):
        assemble(FILES, replace(TOY, load=lambda *_: model), LoadOptions(), Plugins.installed())


def test_a_model_whose_attributes_raise_is_refused():
    class Endless:
        def __getattr__(self, name):
            return getattr(self.inner, name)

    with pytest.raises(BackendFailed, match="backend toy failed: RecursionError"):
        assemble(FILES, replace(TOY, load=lambda *_: Endless()), LoadOptions(), Plugins.installed())


def test_a_model_without_an_info_is_refused():
    with pytest.raises(ContractMismatch, match=r"backend toy: Model.info None, which is not a ModelInfo"):
        loaded(lambda model: setattr(model, "info", None))


@pytest.mark.parametrize(
    "returned",
    [5, None, Probe("yes"), Probe(True, devices="cpu"), Probe(True, devices=(1,)), Probe(True, versions=[1])],
)
def test_a_probe_of_a_wrong_value_is_refused(returned):
    broken = replace(TOY, probe=lambda: returned)
    with pytest.raises(ContractMismatch, match=r"backend toy: (probe\(\) returned|Probe\.)"):
        backends.probe(broken)


def test_accepts_returns_true_or_false():
    with pytest.raises(ContractMismatch, match=r"backend toy: accepts\(\) returned 1, which is not True or False"):
        backends.accepts(replace(TOY, accepts=lambda _: 1), FILES)


@pytest.mark.parametrize("verb", ["probe", "accepts", "load"])
@pytest.mark.parametrize("raised", [SystemExit(0), ValueError("no"), RecursionError()])
def test_whatever_a_backend_raises_is_an_error_that_names_it(verb, raised):
    def fail(*_):
        raise raised

    with pytest.raises(BackendFailed, match=f"backend toy failed: {type(raised).__name__}"):
        assemble(FILES, replace(TOY, **{verb: fail}), LoadOptions(), Plugins.installed())


@pytest.mark.parametrize("verb", ["probe", "accepts", "load"])
def test_what_a_backend_prints_while_it_is_asked_goes_to_stderr(verb, capsys):
    def chatty(*arguments):
        print("NOISE")
        return getattr(TOY, verb)(*arguments)

    plugins = Plugins.installed()
    plugins.backend("toy")  # whose plugin brings the tokenizer too
    assemble(FILES, replace(TOY, **{verb: chatty}), LoadOptions(), plugins).close()
    said = capsys.readouterr()
    assert "NOISE" in said.err
    assert "NOISE" not in said.out


def test_a_call_that_takes_too_long_is_given_up_and_stdout_is_as_before():
    before, forever = sys.stdout, threading.Event()
    with pytest.raises(PluginError, match=r"the slow one failed: it gave no answer within 0\.01 s"):
        calls.guarded("the slow one", forever.wait, PluginError, seconds=0.01)
    forever.set()
    assert sys.stdout is before


def test_calls_that_overlap_restore_stdout_after_the_last():
    before = sys.stdout
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(calls.quiet)
        second.enter_context(calls.quiet)
        first.close()
        assert sys.stdout is sys.stderr
    assert sys.stdout is before


def test_a_keyboard_interrupt_of_a_plugin_is_not_the_users():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(PluginError, match="KeyboardInterrupt"):
        calls.guarded("the plugin", interrupt, PluginError)


@pytest.mark.parametrize(
    ("stdout", "reason"),
    [
        ("[1]", "its probe printed no report"),
        ("5", "its probe printed no report"),
        ('{"availabel": true}', "its probe printed no report"),
        ('{"available": true}\n[1]', "its probe ended with code 0"),
        ("", "its probe ended with code 0"),
    ],
)
def test_a_report_that_is_none_is_a_reason(monkeypatch, stdout, reason):
    """A plugin that writes to the report's own stream says nothing about the others."""
    done = subprocess.CompletedProcess((), 0, stdout, "")
    monkeypatch.setattr(probe.subprocess, "run", lambda *_, **__: done)
    entry = EntryPoint("odd", "odd", "phiplug.backends")
    (report,) = probe.report_backends(Plugins([entry]))
    assert (report.name, report.available) == ("odd", False)
    assert report.reason.startswith(reason)
