"""Constraints on every engine and vocabulary: the verdicts of `jsonschema`, valid answers, the same ids everywhere."""

from __future__ import annotations

import json
from importlib import import_module

import jsonschema
import pytest
import tiny
from conftest import absent
from schemas import accepts, cases
from varied import varied

from phiplug.gguf import read_header
from phiplug.load import load
from phiplug.text.constraint import Grammars
from phiplug.text.tokenizer import tokenizer_of
from phiplug.types import Constraint, Request, SamplingParams
from phiplug_toy.tokenizer import ByteTokenizer

MODULES = {
    "llama-cpp": "llama_cpp",
    "mlx": "mlx_lm",
    "numpy": "phiplug_numpy",
    "candle": "phiplug_candle._native",
}
SETTINGS = {
    "default": SamplingParams(seed=1),
    "greedy": SamplingParams(temperature=0.0, seed=1),
    "hot with penalties": SamplingParams(temperature=2.0, top_p=1.0, repeat_penalty=1.3, frequency_penalty=0.5, seed=1),
}
TEXTS = {"enum": ["é\n", "日本語", '😀 "x"', "\\"]}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "count": {"type": "integer", "minimum": 0, "maximum": 999},
        "tags": {"type": "array", "items": TEXTS, "minItems": 2, "maxItems": 3},
    },
    "required": ["name", "count", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Tiny models with random weights: a vocabulary of bytes and SentencePiece's; and one cut as Llama 3's is."""
    folder = tmp_path_factory.mktemp("tiny")
    words = varied(500, seed=1, more=("plain",))
    bpe = tiny.trained_bpe("llama-bpe", words, 900, {"<end>": tiny.CONTROL})
    sentencepiece = tiny.trained_sentencepiece(words, 900, {})
    return {
        "byte-level": tiny.write_llama(folder / "bytes.gguf", tiny.byte_tokens()),
        "SentencePiece": tiny.write_llama(folder / "sentencepiece.gguf", sentencepiece),
        "Llama 3": tiny.write_vocabulary(folder / "llama3.gguf", bpe),
    }


def opened(path, backend, **options):
    try:
        import_module(MODULES[backend])
    except ImportError:
        absent(backend)
    return load(str(path), backend=backend, threads=1 if backend in ("llama-cpp", "candle") else None, **options)


def asked(schema, sampling, **options):
    constraint = Constraint("json_schema", json.dumps(schema), compact=True)
    return Request((5, 6, 7), sampling, max_tokens=200, constraint=constraint, **options)


@pytest.mark.parametrize("vocabulary", ["byte-level", "SentencePiece"])
@pytest.mark.parametrize("backend", MODULES)
def test_random_weights_give_valid_answers_and_the_same_on_every_engine(backend, vocabulary, files):
    with opened(files[vocabulary], backend) as llm, load(str(files[vocabulary]), backend="numpy") as reference:
        for sampling in SETTINGS.values():
            done = llm.engine.submit(asked(SCHEMA, sampling)).completion()
            assert done.constraint == "complete"
            jsonschema.validate(json.loads(done.text), SCHEMA)
            assert done.tokens == reference.engine.submit(asked(SCHEMA, sampling)).completion().tokens
            assert done.usage.forced_tokens > 0


@pytest.mark.parametrize("backend", MODULES)
def test_random_schemas_on_random_weights_are_never_broken(backend, files):
    whole = 0
    with opened(files["SentencePiece"], backend) as llm:
        for case in cases(12, seed=5):
            for sampling in SETTINGS.values():
                done = llm.engine.submit(asked(case.schema, sampling)).completion()
                if done.constraint == "complete":
                    jsonschema.validate(json.loads(done.text), case.schema)
                    whole += 1
    assert whole >= 12


@pytest.mark.parametrize("backend", MODULES)
def test_in_a_batch_of_slots_each_answer_is_what_it_is_alone(backend, files):
    requests = [asked(case.schema, SETTINGS["default"], repeatable=True) for case in cases(4, seed=6)]
    with opened(files["byte-level"], backend, slots=3) as llm:
        together = [stream.completion() for stream in [llm.engine.submit(each) for each in requests]]
        alone = [llm.engine.submit(each).completion() for each in requests]
    assert [each.tokens for each in together] == [each.tokens for each in alone]


def verdicts(tokenizer, count):
    """The verdict and the label of every document of `count` schemas, by the masks of this tokenizer's ids."""
    grammars = Grammars(tokenizer, tokenizer.vocab_size)
    found = []
    for case in cases(count, seed=1):
        constraint = Constraint("json_schema", json.dumps(case.schema))
        for text, label in case.documents:
            ids = tokenizer.encode(text, parse_special=False)
            if tokenizer.token_bytes(ids[0]).startswith(b" "):  # SentencePiece: cut as in the middle of a text
                ids = tokenizer.encode("\x02" + text, parse_special=False)[len(tokenizer.encode("\x02")) :]
            assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
            found.append((accepts(grammars.guide(constraint), ids), label))
    return found


@pytest.mark.parametrize("vocabulary", ["bytes", "SmolLM2", "Llama 3", "SentencePiece"])
def test_every_vocabulary_has_the_verdict_of_the_label(vocabulary, smollm2, files):
    path = {"SmolLM2": smollm2, "SentencePiece": files["SentencePiece"], "Llama 3": files["Llama 3"]}.get(vocabulary)
    found = verdicts(tokenizer_of(read_header(path)) if path else ByteTokenizer(), 100)
    sound, unsound = [verdict for verdict, label in found if label], [verdict for verdict, label in found if not label]
    print(
        f"{vocabulary}: accepted {sum(sound)} of {len(sound)} valid documents, {sum(unsound)} of {len(unsound)} others"
    )
    assert all(sound)
    assert not any(unsound)
