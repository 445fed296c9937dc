"""A reference is taken apart by its text alone."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.errors import InvalidParameter
from phiplug.models.reference import Reference, is_inside, parse


def test_a_text_with_a_slash_is_a_path():
    assert parse("models/phi.gguf") == Reference("models/phi.gguf", "path", "models/phi.gguf")


@pytest.mark.parametrize("text", ["phi.gguf", "PHI.GGUF", "./phi", "~/phi", "..", r"C:\models\phi.gguf"])
def test_what_looks_like_a_path_is_one(text):
    assert parse(text).kind == "path"


def test_a_bare_word_is_a_name():
    assert parse("phi-3.5-mini") == Reference("phi-3.5-mini", "name", "phi-3.5-mini")


def test_a_package_reference_names_a_package_and_a_file():
    assert parse("package:weights/q4/phi.gguf") == Reference(
        "package:weights/q4/phi.gguf", "package", "weights", "q4/phi.gguf"
    )


@pytest.mark.parametrize(
    ("text", "file", "quant", "revision"),
    [
        ("hf:microsoft/phi-3", None, None, None),
        ("hf:microsoft/phi-3:Q4_K_M", None, "Q4_K_M", None),
        ("hf:microsoft/phi-3@v1.0", None, None, "v1.0"),
        ("hf:microsoft/phi-3:q4@refs/pr/1", None, "q4", "refs/pr/1"),
        ("hf:microsoft/phi-3/q4/phi.gguf", "q4/phi.gguf", None, None),
        ("hf:microsoft/phi-3/phi.gguf@main", "phi.gguf", None, "main"),
    ],
)
def test_a_hub_reference_names_a_repository_and_what_of_it(text, file, quant, revision):
    assert parse(text) == Reference(text, "hub", "microsoft/phi-3", file, quant, revision)


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:phi-3",
        "hf:/phi-3",
        "hf:a/b/",
        "hf:a/b:",
        "hf:a/b@",
        "hf:a/b/../c.gguf",
        "hf:a/b//c.gguf",
        "hf:a/b:Q4/c.gguf",
        "hf:a/b@../../x",
        "hf:../b",
        "hf:a/b c",
        "hf:a/b..c",
    ],
)
def test_a_malformed_hub_reference_says_how_one_is_written(text):
    with pytest.raises(InvalidParameter, match=r"is not a reference to the hub \(hf:owner/repo"):
        parse(text)


@pytest.mark.parametrize("text", ["package:weights", "package:a.b/c.gguf", "package:/c.gguf", "package:a/../c.gguf"])
def test_a_malformed_package_reference_says_how_one_is_written(text):
    with pytest.raises(InvalidParameter, match=r"\(package:import_name/file.gguf\)"):
        parse(text)


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_reference_is_refused(text):
    with pytest.raises(InvalidParameter, match="the reference is empty"):
        parse(text)


def test_control_characters_are_refused_in_a_name_and_nul_everywhere():
    for text in ("phi\x1b[31m", "phi\0.gguf", "hf:a/b\x1b"):
        with pytest.raises(InvalidParameter, match="model: "):
            parse(text)


@pytest.mark.parametrize(
    "folder", ["\u30de\u30a4\u3000\u30e2\u30c7\u30eb", "a\u00a0b", "\U0001f468\u200d\U0001f469", "\udcff", "tab\there"]
)
def test_a_path_may_hold_every_character_that_a_file_system_takes(folder):
    assert parse(f"/{folder}/m.gguf").kind == "path"


@given(st.text(max_size=40))
def test_any_text_is_taken_apart_or_refused(text):
    with contextlib.suppress(InvalidParameter):
        parsed = parse(text)
        assert parsed.text == text
        assert parsed.kind in ("path", "package", "hub", "name")


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b.gguf", "c:d", "e\\f"]), min_size=1, max_size=4))
def test_a_file_that_is_inside_stays_below_its_folder(parts):
    file = "/".join(parts)
    assert is_inside(file) == all(part in ("a", "b.gguf") for part in parts)
