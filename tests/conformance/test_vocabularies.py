"""The vocabularies of llama.cpp's own tests: every text model's loads and gives the ids of its vectors.

They take 100 MB and are no part of this repository. `PHIPLUG_VOCABULARIES` names a folder with them: `models/` in
llama.cpp's source, which the source distribution of llama-cpp-python carries. Small vocabularies of each kind are
compared with llama.cpp itself in `test_tokenizer_llama_cpp.py`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phiplug.errors import ModelUnsupported
from phiplug.gguf import read_header
from phiplug.text.tokenizer import tokenizer_of

VARIABLE = "PHIPLUG_VOCABULARIES"
BETWEEN = "\n__ggml_vocab_test__\n"
WITH_VECTORS = (
    "command-r", "deepseek-coder", "deepseek-llm", "falcon", "gemma-4", "gpt-2", "llama-bpe", "llama-spm", "mpt",
    "phi-3", "qwen2", "qwen35", "refact", "starcoder",
)  # fmt: skip
WITHOUT = ("baichuan",)
REFUSED = {
    "aquila": "does not name its pre-tokenizer",
    "bert-bge": "a tokenizer of the kind 'bert'",
    "gpt-neox": "does not name its pre-tokenizer",
    "nomic-bert-moe": "a tokenizer of the kind 't5'",
}


def vocabulary(name):
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"{VARIABLE} names no folder with llama.cpp's vocabularies")
    path = Path(folder) / f"ggml-vocab-{name}.gguf"
    assert path.is_file(), f"{path} is missing"
    return path


@pytest.mark.parametrize("name", WITH_VECTORS)
def test_a_text_models_vocabulary_gives_the_ids_of_its_vectors(name):
    path = vocabulary(name)
    tokenizer = tokenizer_of(read_header(path))
    texts = path.with_name(f"{path.name}.inp").read_text(encoding="utf-8").removesuffix(BETWEEN).split(BETWEEN)
    lines = path.with_name(f"{path.name}.out").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    assert len(texts) == len(lines) > 40
    for text, line in zip(texts, lines, strict=True):
        assert tokenizer.encode(text, parse_special=False) == [*map(int, line.split())], repr(text)


@pytest.mark.parametrize("name", WITHOUT)
def test_a_vocabulary_without_vectors_spells_what_it_encodes(name):
    tokenizer = tokenizer_of(read_header(vocabulary(name)))
    ids = tokenizer.encode("Hello, w\u00f6rld 3.14 \u4f60\u597d\n")
    assert b"".join(map(tokenizer.token_bytes, ids)).decode().lstrip() == "Hello, w\u00f6rld 3.14 \u4f60\u597d\n"


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_text_model_or_says_too_little_is_refused_by_name(name):
    with pytest.raises(ModelUnsupported, match=REFUSED[name]):
        tokenizer_of(read_header(vocabulary(name)))
