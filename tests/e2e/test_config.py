"""`phiplug config` and own aliases: a flag beats the environment, which beats the file."""

from __future__ import annotations

import importlib
import json

import pytest
import typer
from tiny import byte_tokens, write_vocabulary

from phiplug.cli import WITH_DEFAULTS
from phiplug.config import ENGINE, KINDS


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config" / "phiplug" / "config.toml"


def test_a_flag_beats_the_environment_which_beats_the_file(phiplug, monkeypatch, file):
    phiplug("config", "set", "backend", "nothing")
    phiplug("config", "set", "max-tokens", "3")
    assert "'nothing' is not installed" in phiplug("run", "hello").err
    monkeypatch.setenv("PHIPLUG_BACKEND", "toy")
    assert len(phiplug("run", "hello").out) == 4
    assert len(phiplug("run", "hello", "-n", "5").out) == 6
    monkeypatch.setenv("PHIPLUG_BACKEND", "neither")
    assert len(phiplug("run", "hello", "-b", "toy").out) == 4
    assert phiplug("config", "list").out == 'backend = "nothing"  (PHIPLUG_BACKEND says neither)\nmax_tokens = 3\n'


def test_every_value_is_a_parameter_of_the_commands_that_take_it():
    for command in WITH_DEFAULTS:
        app = importlib.import_module(f"phiplug.cli.{command}").app
        taken = {each.name for each in typer.main.get_command(app).params}
        if command == "serve":
            assert set(ENGINE) - taken <= {"backend", "model"}
        else:
            assert set(KINDS) <= taken


def test_a_chat_does_as_the_file_says_and_a_measuring_command_does_not(phiplug):
    phiplug("config", "set", "max_tokens", "3")
    phiplug("config", "set", "model", "none.gguf")
    assert "cut off after max_tokens, 3" in phiplug("chat", "-b", "toy", "-m", "toy", stdin="hello\n").err
    assert "none.gguf" in phiplug("run", "hello", "-b", "toy").err
    assert "none.gguf" not in phiplug("parity", "-b", "toy", "-b", "toy", "--prompts", "none.txt").err


def test_values_are_shown_set_and_unset(phiplug, file):
    assert phiplug("config", "path").out == f"{file}\n"
    assert phiplug("config", "list").err == "nothing is set; `phiplug config list --all` names what can be\n"
    assert phiplug("config", "set", "--", "temp", "0.5").err == f"temperature = 0.5 is set in {file}\n"
    assert phiplug("config", "get", "temperature").out == "0.5\n"
    assert json.loads(phiplug("config", "list", "--json").out) == {"temperature": 0.5}
    assert phiplug("config", "list", "--all").out.count("not set") == len(KINDS) - 1
    assert phiplug("config", "unset", "temp").err == "temperature is no longer set\n"
    again = phiplug("config", "unset", "temp")
    assert (again.code, again.err) == (2, "error: temperature: is not set [InvalidParameter]\n")
    assert phiplug("config", "get", "temp").code == 1
    assert "did you mean seed?" in phiplug("config", "get", "sed").err


@pytest.mark.parametrize("command", [("run", "hi"), ("chat",), ("serve",)])
def test_a_mistake_in_the_file_is_one_line(phiplug, file, command):
    file.parent.mkdir(parents=True)
    file.write_text("max_token = 3\n")
    ran = phiplug(*command, "-b", "toy")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        f"error: config: {file}: max_token: there is no such value (did you mean max_tokens?) [InvalidParameter]\n"
    )
    assert phiplug("config", "unset", "max_token").code == 0
    assert phiplug(*command[:1], "--help").code == 0


def test_an_alias_stands_for_a_model_wherever_it_is_used(phiplug, tmp_path, monkeypatch):
    path = write_vocabulary(tmp_path / "tiny.gguf", byte_tokens())
    monkeypatch.chdir(tmp_path)
    assert phiplug("models", "alias", "mine", "./tiny.gguf").err == f"mine stands for {path}\n"
    assert phiplug("models", "alias", "again", "mine").err == f"again stands for {path}\n"
    monkeypatch.chdir("/")
    assert json.loads(phiplug("models", "info", "again", "--json").out)["path"] == str(path)
    phiplug("models", "unalias", "mine")
    ran = phiplug("models", "info", "mine")
    assert "[ModelNotFound]" in ran.err
    gone = phiplug("models", "unalias", "mine")
    assert (gone.code, gone.err) == (2, "error: alias: mine is no short name of your own (again) [InvalidParameter]\n")


def test_an_alias_of_an_alias_of_ours_is_listed_with_its_model(phiplug, smollm2):
    phiplug("models", "alias", "mine", "smollm2")
    rows = json.loads(phiplug("models", "list", "--json").out)
    assert sorted(next(row["aliases"] for row in rows if row["path"] == str(smollm2))) == ["mine", "smollm2"]


def test_a_name_of_ours_stays_ours(phiplug):
    ran = phiplug("models", "alias", "smollm2", "hf:a/b")
    assert ran.err == "error: alias: smollm2 is the name of another model (choose another) [InvalidParameter]\n"


def test_what_the_makers_wish_of_sampling_is_shown_and_said_to_be_unused(phiplug, tmp_path):
    wishes = {"general.sampling.temp": 0.6, "general.sampling.top_k": 20}
    path = write_vocabulary(tmp_path / "wishes.gguf", byte_tokens(), wishes)
    shown = " ".join(phiplug("models", "info", str(path)).out.split())
    assert "sampling temp 0.6, top_k 20: its makers' wish, which is not used" in shown
    found = json.loads(phiplug("models", "info", str(path), "--json").out)["metadata"]["sampling"]
    assert found == {"temp": pytest.approx(0.6), "top_k": 20}
    plain = write_vocabulary(tmp_path / "plain.gguf", byte_tokens())
    assert "sampling" not in phiplug("models", "info", str(plain)).out


def test_the_cache_lists_the_file_and_leaves_it(phiplug, file):
    phiplug("config", "set", "seed", "1")
    row = next(row for row in json.loads(phiplug("cache", "--json").out) if row["name"] == "config")
    assert (row["path"], row["bytes"]) == (str(file), len("seed = 1\n"))
    phiplug("cache", "clear", "--yes")
    assert file.exists()
