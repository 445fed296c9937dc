"""Our tokenizer against llama.cpp's own, on the same file: the same ids, the same bytes, the same stops.

SmolLM2 is real; of every other kind there is a small vocabulary, trained here on the same sort of strings. `-s` prints
the counts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from varied import CONTROL_TOKENS, varied

from phiplug.gguf import read_header
from phiplug.text.pretokenizers import PRE_TOKENIZERS
from phiplug.text.tokenizer import tokenizer_of

STRINGS = 2000
WHOLE_WORD = "\u0120unmergeable"  # a token that no merge leads to: only where merges are ignored is it found
SPECIALS = {
    "<|endoftext|>": tiny.CONTROL,
    "<|im_start|>": tiny.CONTROL,
    "<|im_end|>": tiny.CONTROL,
    "<|user|>": tiny.CONTROL,
}
FAMILIES = {way: [name for name, its in PRE_TOKENIZERS.items() if its == way] for way in PRE_TOKENIZERS.values()}
RUNS = {run * count: tiny.USER_DEFINED for run in ("\n", "\t", " ") for count in range(2, 9)}  # as Gemma has them


class LlamaCpp:
    """llama.cpp's tokenizer of a file."""

    def __init__(self, path: Path) -> None:
        import llama_cpp

        self.api = llama_cpp
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert self.model, f"llama.cpp cannot load {path}"
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocab)

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 16
        ids = (self.api.llama_token * room)()
        count = self.api.llama_tokenize(self.vocab, data, len(data), ids, room, False, parse_special)
        return ids[:count]

    def token_bytes(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(1024)
        count = self.api.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
        return buffer.raw[:count]

    @property
    def stop_ids(self) -> set[int]:
        return {token for token in range(self.size) if self.api.llama_vocab_is_eog(self.vocab, token)}

    def close(self) -> None:
        self.api.llama_model_free(self.model)


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return varied(2000, seed=1, more=("plain",))


@pytest.fixture(scope="module")
def strings() -> list[str]:
    return varied(STRINGS, seed=2, more=(*CONTROL_TOKENS, " unmergeable", "<0x41>"))


@pytest.fixture
def peer(llama_cpp) -> Iterator:
    import llama_cpp as api

    quiet = api.llama_log_callback(lambda level, text, data: None)
    api.llama_log_set(quiet, ctypes.c_void_p(0))
    opened = []

    def open_(path: Path) -> LlamaCpp:
        opened.append(LlamaCpp(path))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()
    api.llama_log_set(api.llama_log_callback(0), ctypes.c_void_p(0))


def compare(path: Path, theirs: LlamaCpp, strings: list[str]) -> None:
    """Hold the tokenizer of a file to llama.cpp's, string by string and token by token."""
    ours = tokenizer_of(read_header(path))
    controls = {token for token in range(ours.vocab_size) if not theirs.token_bytes(token)}
    parsed = plain = joined = 0
    for text in strings:
        assert ours.encode(text) == theirs.encode(text, parse_special=True), repr(text)
        parsed += 1
        ids, peer_ids = ours.encode(text, parse_special=False), theirs.encode(text, parse_special=False)
        assert controls.isdisjoint(ids), repr(text)
        if controls.isdisjoint(peer_ids):  # llama.cpp joins parts of a text to a control token; nobody else does
            assert ids == peer_ids, repr(text)
            plain += 1
        joined += spells(ours, ids, text)
    assert parsed == joined == len(strings)
    assert plain > 0.95 * len(strings)
    assert [ours.token_bytes(token) for token in range(theirs.size)] == [*map(theirs.token_bytes, range(theirs.size))]
    assert ours.stop_ids == theirs.stop_ids
    print(f"{path.stem}: {parsed} + {plain} strings, {theirs.size} tokens, {len(ours.stop_ids)} stop ids: identical")


def spells(tokenizer, ids: list[int], text: str) -> bool:
    """Tell whether the bytes of the ids are the text's; SentencePiece writes its mark for a space as a space."""
    spelled = b"".join(map(tokenizer.token_bytes, ids))
    return spelled in (
        text.encode(),
        text.replace("\u2581", " ").encode(),
        (" " + text.replace("\u2581", " ")).encode(),
    )


def test_smollm2_is_tokenized_as_llama_cpp_does(smollm2, peer, strings):
    compare(smollm2, peer(smollm2), strings)


@pytest.mark.parametrize("way", FAMILIES, ids=lambda way: FAMILIES[way][0])
def test_byte_level_bpe_is_tokenized_as_llama_cpp_does(way, tmp_path, peer, corpus, strings):
    specials = SPECIALS | {WHOLE_WORD: tiny.NORMAL, "<start_of_turn>": tiny.USER_DEFINED}
    name, *others = FAMILIES[way]
    tokens = tiny.trained_bpe(name, corpus, 1500, specials)
    path = tiny.write_vocabulary(tmp_path / f"{name}.gguf", tokens)
    compare(path, peer(path), strings)
    for other in others:  # llama.cpp knows these names as well, and means the same by them
        path = tiny.write_vocabulary(tmp_path / f"{other}.gguf", replace(tokens, keys={**tokens.keys, "pre": other}))
        compare(path, peer(path), strings[:100])


SENTENCEPIECE = {
    "llama-2": (SPECIALS, {}),
    "phi-3": (SPECIALS | {"<|end|>": tiny.CONTROL}, {"general.name": "Phi 3 Mini (Phi-3)"}),
    "gemma": (
        SPECIALS | RUNS | {"<start_of_turn>": tiny.USER_DEFINED, "<unused1>": tiny.UNUSED},
        {"tokenizer.ggml.add_space_prefix": False},
    ),
}


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_sentencepiece_is_tokenized_as_llama_cpp_does(kind, tmp_path, peer, corpus, strings):
    specials, metadata = SENTENCEPIECE[kind]
    tokens = tiny.trained_sentencepiece(corpus, 1500, specials)
    path = tiny.write_vocabulary(tmp_path / f"{kind}.gguf", tokens, metadata)
    compare(path, peer(path), strings)
