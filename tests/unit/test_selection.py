"""Of many names, those of one model are chosen, or what there is is listed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.errors import ModelCorrupt, ModelError, ModelNotFound
from phiplug.models.selection import Selection, first_parts, parts, select, shards, spell

FOLDER = ["config.json", "model.safetensors", "tokenizer.json"]
SPLIT = ["q8/phi-Q8_0-00001-of-00002.gguf", "q8/phi-Q8_0-00002-of-00002.gguf"]


def gguf(*files):
    return Selection(files, "gguf")


@pytest.mark.parametrize(
    ("quant", "chosen"),
    [("q4", "Phi-3-q4.gguf"), ("Q4", "Phi-3-q4.gguf"), ("Q4_K_M", "Phi-3-Q4_K_M.gguf"), ("FP16", "Phi-3.fp16.gguf")],
)
def test_a_quantization_is_a_whole_word_in_any_case(quant, chosen):
    assert select(["Phi-3-q4.gguf", "Phi-3-Q4_K_M.gguf", "Phi-3.fp16.gguf"], quant=quant) == gguf(chosen)


@pytest.mark.parametrize("quant", ["K_M", "Q4_K", "phi", "gguf", "4"])
def test_a_part_of_a_word_chooses_nothing(quant):
    with pytest.raises(ModelNotFound, match=f"no GGUF files are called '{quant}'; there is x-Q4_K_M.gguf"):
        select(["x-Q4_K_M.gguf"], quant=quant)


def test_two_files_of_one_quantization_are_listed():
    with pytest.raises(ModelNotFound, match=r"2 GGUF files are called 'q4'; there is a-q4.gguf, b-q4.gguf \(name one"):
        select(["a-q4.gguf", "b-q4.gguf", "b-q8.gguf"], quant="q4")


def test_every_part_of_a_split_belongs_to_it():
    assert select([*SPLIT, "phi-q4.gguf"], quant="q8_0") == gguf(*SPLIT)
    assert select([*SPLIT, "phi-q4.gguf"], file=SPLIT[1]) == gguf(*SPLIT)
    assert select(SPLIT) == gguf(*SPLIT)


def test_a_split_that_lacks_a_part_is_corrupt():
    with pytest.raises(ModelCorrupt, match=r"1 of the 2 parts of .* are missing: q8/phi-Q8_0-00002-of-00002.gguf"):
        select(SPLIT[:1])


@pytest.mark.parametrize(
    "name", ["mmproj-model-f16.gguf", "phi.mmproj-Q8_0.gguf", "imatrix.gguf", "ggml-vocab-phi.gguf"]
)
def test_a_gguf_without_a_language_model_is_passed_over(name):
    assert select([name, "phi.gguf"]) == gguf("phi.gguf")


def test_a_file_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ModelNotFound, match=r"there is no file b.gguf; there is a.gguf"):
        select(["a.gguf"], file="b.gguf")


def test_only_a_gguf_can_be_named():
    with pytest.raises(ModelNotFound, match=r"model.safetensors is not a GGUF file"):
        select(FOLDER, file="model.safetensors")


def test_without_a_gguf_the_folder_is_the_model():
    assert select([*FOLDER, "README.md"]) == Selection(("config.json", "tokenizer.json", "model.safetensors"), "folder")


@pytest.mark.parametrize(
    "name",
    ["modeling_phi.py", "pytorch_model.bin", "training_args.bin", "onnx/model.onnx", "original/model.safetensors"],
)
def test_code_pickles_and_other_formats_are_left_behind(name):
    assert name not in select([*FOLDER, name]).files


def test_weights_that_are_there_twice_are_taken_once():
    assert "consolidated.safetensors" not in select([*FOLDER, "consolidated.safetensors"]).files


def test_a_repository_of_pickles_is_refused():
    with pytest.raises(ModelNotFound, match=r"no \*.safetensors \(pickled weights \(\*.bin\) are not read\)"):
        select(["config.json", "pytorch_model.bin"])


def test_an_index_gives_its_shards_once_each():
    assert shards({"a": "y.safetensors", "b": "x.safetensors", "c": "y.safetensors"}) == [
        "x.safetensors",
        "y.safetensors",
    ]


@pytest.mark.parametrize("weight_map", [None, [], {"a": 1}, {"a": "../x.safetensors"}, {"a": "x.bin"}, {"a": ["x"]}])
def test_an_index_of_anything_else_is_refused(weight_map):
    with pytest.raises(ModelCorrupt, match="is not an index of safetensors"):
        shards(weight_map)


@pytest.mark.parametrize("name", ["x-00000-of-00002.gguf", "x-00003-of-00002.gguf", "x-00001-of-00000.gguf", "x.gguf"])
def test_a_number_outside_its_count_makes_no_split(name):
    assert parts(name) == [name]


def test_a_long_list_is_cut():
    assert spell([]) == "none"
    assert spell([f"{number}" for number in range(14)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"


WORDS = st.from_regex(
    re.compile(r"[a-z]{1,3}(-q[48])?(-0000[0-3]-of-0000[0-3])?\.(gguf|safetensors|json)"), fullmatch=True
)


@given(st.sets(WORDS, max_size=8), st.none() | st.sampled_from(["q4", "q8"]), st.none() | WORDS)
def test_what_is_chosen_is_always_there(names, quant, file):
    try:
        chosen = select(names, quant=quant, file=file)
    except ModelError as error:
        message = error.message
        assert "\n" not in message
    else:
        assert set(chosen.files) <= names
        assert len(set(chosen.files)) == len(chosen.files)


@given(st.sets(WORDS, max_size=8))
def test_every_model_that_is_listed_can_be_chosen_or_lacks_a_part(names):
    for first in first_parts(names):
        try:
            assert select(names, file=first).files[0] == first
        except ModelCorrupt:
            assert not set(parts(first)) <= names
