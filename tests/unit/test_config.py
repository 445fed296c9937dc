"""The user's `config.toml`: what is read, what is refused by name, and that a changed line leaves the others alone."""

from __future__ import annotations

from dataclasses import fields

import pytest

from phiplug.config import KINDS, SAMPLING, ConfigFile, value_of
from phiplug.errors import InvalidParameter
from phiplug.types import SamplingParams


@pytest.fixture
def file(tmp_path):
    return ConfigFile(tmp_path / "deep" / "config.toml")


def written(file, text):
    file.path.parent.mkdir(exist_ok=True)
    file.path.write_text(text, encoding="utf-8")
    return file


def test_a_file_that_is_not_there_says_nothing(file):
    assert (file.read().values, file.read().aliases) == ({}, {})
    assert file.unset("seed") is False
    assert not file.path.exists()


def test_every_flat_sampling_parameter_can_be_set():
    assert set(SAMPLING) == {each.name for each in fields(SamplingParams)} - {"logit_bias", "dry_breakers"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0.5", 0.5),
        ("temperature", "1", 1.0),
        ("top_k", "40", 40),
        ("log", "off", False),
        ("offline", "TRUE", True),
        ("model", 'a "b" \\ é', 'a "b" \\ é'),
        ("seed", str(2**64 - 1), 2**64 - 1),
        ("reasoning", "hide", "hide"),
    ],
)
def test_what_is_set_is_read_back(file, name, text, value):
    assert file.set(name, text) == value
    assert file.read().values == {name: value}
    assert type(file.read().values[name]) is type(value)
    assert file.unset(name) is True
    assert file.read().values == {}


WRONG = {
    ("temprature", "1"): "temprature: there is no such value (did you mean temperature?)",
    ("max-token", "1"): "max-token: there is no such value (did you mean max_tokens?)",
    ("xyzzy", "1"): "xyzzy: there is no such value (there are model, backend, device,",
    ("temperature", "warm"): "temperature: 'warm' is not a number",
    ("top_k", "1.5"): "top_k: '1.5' is not an integer",
    ("log", "perhaps"): "log: 'perhaps' is not true or false",
    ("top_p", "3"): "top_p: 3.0 is outside [0.0, 1.0]",
    ("ctx_size", "0"): "ctx_size: 0 is outside [1, ...)",
    ("dialect", "ollama"): "dialect: 'ollama' is none of",
    ("reasoning", "maybe"): "reasoning: 'maybe' is neither show nor hide",
    ("model", " "): "model: is empty",
}


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_what_makes_no_sense_is_refused_and_not_written(file, name, text):
    with pytest.raises(InvalidParameter) as caught:
        file.set(name, text)
    assert str(caught.value).startswith(WRONG[name, text])
    assert not file.path.exists()


FAULTY = {
    "temprature = 1": "temprature: there is no such value (did you mean temperature?)",
    "top_p = 3": "top_p: 3 is outside [0.0, 1.0]",
    "top_k = 'many'": "top_k: 'many' is not an integer",
    "top_k = true": "top_k: True is not an integer",
    "log = 1": "log: 1 is not true or false",
    "seed = [1]": "seed: [1] is not an integer",
    "[model]\nname = 1": "model: {'name': 1} is not a text",
    "aliases = 1": "aliases: is no table",
    "[aliases]\nmine = 1": "alias: mine stands for 1, which is no text",
    "[aliases]\n'a b' = 'x'": "alias: 'a b' cannot be the name of a model",
    "[aliases]\nmine = ''": "model: the reference is empty",
}


@pytest.mark.parametrize("text", FAULTY)
def test_a_mistake_in_the_file_names_the_file_the_key_and_the_nearest(file, text):
    with pytest.raises(InvalidParameter) as caught:
        written(file, text).read()
    assert str(caught.value).startswith(f"config: {file.path}: {FAULTY[text]}")


@pytest.mark.parametrize("text", ["model = ", "= 1", "[" * 5000, "a = '\x00'"])
def test_what_is_no_toml_is_named(file, text):
    with pytest.raises(InvalidParameter, match=r"config\.toml is no TOML"):
        written(file, text).read()


def test_what_is_no_text_is_named(file):
    file.path.parent.mkdir()
    file.path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidParameter, match=r"config\.toml is not UTF-8"):
        file.read()


KEPT = """# mine
temperature = 0.2  # cool

[aliases] # short
"qwen3.x" = "hf:a/b"
"""


def test_a_change_leaves_comments_and_other_lines(file):
    written(file, KEPT).set("top_k", "9")
    file.set("temperature", "0.3")
    file.set_alias("tiny", "hf:c/d:Q4_0")
    assert file.path.read_text() == (
        '# mine\ntemperature = 0.3\ntop_k = 9\n\n[aliases] # short\n"qwen3.x" = "hf:a/b"\ntiny = "hf:c/d:Q4_0"\n'
    )
    assert file.unset_alias("qwen3.x") is True
    assert file.unset_alias("qwen3.x") is False
    assert file.read().aliases == {"tiny": "hf:c/d:Q4_0"}


def test_a_value_and_an_alias_of_one_name_are_two_things(file):
    file.set_alias("model", "hf:a/b")
    file.set("model", "phi-3-mini")
    assert file.read().values == {"model": "phi-3-mini"}
    assert file.read().aliases == {"model": "hf:a/b"}


def test_a_wrong_value_can_be_unset_although_the_file_cannot_be_used(file):
    written(file, "temprature = 1\n").unset("temprature")
    assert file.path.read_text() == "\n"


def test_a_file_of_another_form_is_left_as_it_is(file):
    text = 'aliases = { mine = "hf:a/b" }\nmodel = """\nx"""\n'
    written(file, text)
    for change in (lambda: file.set_alias("mine", "hf:c/d"), lambda: file.set("model", "y")):
        with pytest.raises(InvalidParameter, match="cannot be changed from here"):
            change()
        assert file.path.read_text() == text


@pytest.mark.parametrize("name", ["", "a/b", "a b", ".hidden", "x.gguf", "é", "x" * 101, "a:b"])
def test_what_cannot_be_told_from_a_reference_is_no_alias(file, name):
    with pytest.raises(InvalidParameter, match="cannot be the name of a model"):
        file.set_alias(name, "hf:a/b")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidParameter, match="cannot be written"):
        ConfigFile(tmp_path / "file" / "x" / "config.toml").set("seed", "1")


def test_without_a_home_folder_nothing_is_set():
    assert ConfigFile(None).read().values == {}
    with pytest.raises(InvalidParameter, match="there is no folder for it"):
        ConfigFile(None).set("seed", "1")


def test_what_a_dialect_lacks_can_be_set_beside_one_that_has_it(file):
    with pytest.raises(InvalidParameter, match="the phiplug dialect does not have it"):
        file.set("xtc_probability", "0.5")
    file.set("dialect", "llama.cpp")
    file.set("xtc_probability", "0.5")
    file.unset("dialect")
    with pytest.raises(InvalidParameter, match=r"config\.toml: xtc_probability: the phiplug dialect does not have it"):
        file.read()


LLAMA_CPP = {name for name in KINDS if name.startswith(("xtc_", "dry_", "top_n_", "typical"))}


def test_every_value_has_a_kind_that_a_text_can_be_read_as():
    samples = {str: "toy", int: "1", float: "1", bool: "on"}
    taken = {"reasoning": "show", "dialect": "candle", "xtc_threshold": "0.5"}
    for name, kind in KINDS.items():
        beside = {"dialect": "llama.cpp"} if name in LLAMA_CPP else {}
        assert type(value_of(name, taken.get(name, samples[kind]), beside=beside)) is kind
