"""The toy backend, apart from its contract: what it says, what it refuses, and that it is worth copying."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import phiplug_toy
from phiplug.errors import BackendFailed, ModelCorrupt, ModelNotFound, UnsupportedParameter
from phiplug.spi import LoadOptions, ModelFiles, Step
from phiplug_toy.model import load
from phiplug_toy.tokenizer import BOS, CONTROL, STOP, ByteTokenizer

FILES = phiplug_toy.phiplug_find_model("toy")
TOKENIZER = ByteTokenizer()


@pytest.fixture
def model():
    model = load(FILES, LoadOptions(slots=2))
    yield model
    model.close()


def greedy(model, prompt: str, limit: int = 500) -> str:
    """Continue `prompt` with the largest logit each time, up to the stop token."""
    model.rewind(0, 0)
    tokens = TOKENIZER.encode(prompt)
    said = []
    while len(said) < limit:
        token = int(model.forward([Step(0, tokens)]).logits()[-1].argmax())
        if token == STOP:
            break
        said.append(token)
        tokens = [token]
    return b"".join(map(TOKENIZER.token_bytes, said)).decode()


# The tokenizer


@given(st.text())
def test_bytes_are_tokens_and_come_back(text):
    tokens = TOKENIZER.encode(text, parse_special=False)
    assert bytes(tokens) == b"".join(map(TOKENIZER.token_bytes, tokens)) == text.encode()


@given(st.lists(st.sampled_from([*CONTROL, "a", "<|", "é"])))
def test_control_tokens_are_found_in_their_order(pieces):
    text = "".join(pieces)
    found = TOKENIZER.control_tokens_in(text)
    assert found == [piece for piece in pieces if piece in CONTROL]
    assert [token for token in TOKENIZER.encode(text) if token >= BOS] == [CONTROL[piece] for piece in found]


def test_a_control_token_stands_for_no_bytes():
    assert TOKENIZER.token_bytes(BOS) == TOKENIZER.token_bytes(STOP) == b""


def test_the_texts_of_special_tokens_encode_to_their_ids():
    assert TOKENIZER.encode(TOKENIZER.special_tokens["bos_token"]) == [TOKENIZER.bos_id]
    assert set(TOKENIZER.encode(TOKENIZER.special_tokens["eos_token"])) == TOKENIZER.stop_ids


# The model


def test_an_answer_is_made_of_words_and_ends(model):
    answer = greedy(model, "<|begin|>user: hello<|end|>\nassistant: ")
    assert answer == "Skates carve thin whistle blue lines tell small small decision."


@pytest.mark.parametrize("prompt", ["", "x", "What is a puck?", "été", "<|end|>" * 3])
def test_every_answer_ends_within_the_context(model, prompt):
    answer = greedy(model, f"<|begin|>user: {prompt}<|end|>\nassistant: ")
    assert answer.isascii()
    assert 0 < len(answer) < 500


def test_another_prompt_gives_another_answer(model):
    answers = {greedy(model, f"<|begin|>user: {prompt}<|end|>\nassistant: ") for prompt in "abcdefgh"}
    assert len(answers) > 4


@given(st.lists(st.integers(0, 257), min_size=1, max_size=40), st.data())
def test_any_other_token_in_the_prefix_changes_every_row_after_it(tokens, data):
    at = data.draw(st.integers(0, len(tokens) - 1))
    changed = [*tokens[:at], (tokens[at] + data.draw(st.integers(1, 257))) % 258, *tokens[at + 1 :]]
    model = load(FILES, LoadOptions(slots=2))
    asked = model.forward([Step(0, tokens, len(tokens)), Step(1, changed, len(tokens))])
    left, right = np.split(asked.logits(), 2)
    np.testing.assert_array_equal(left[:at], right[:at])
    assert all((a != b).any() for a, b in zip(left[at:], right[at:], strict=True))


def test_a_pass_is_put_off_until_it_is_read(model, monkeypatch):
    rows = []
    monkeypatch.setattr(model, "_row", lambda prefix: rows.append(prefix) or np.zeros(258, np.float32))
    asked = model.forward([Step(0, [1, 2])])
    assert rows == []
    asked.logits()
    asked.logits()
    assert rows == [[1, 2]]


def test_a_pass_that_is_read_after_close_says_so(model):
    asked = model.forward([Step(0, [1])])
    model.close()
    with pytest.raises(BackendFailed, match="the model was closed before this pass was read"):
        asked.logits()


# Loading


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (LoadOptions(device="cuda"), "device"),
        (LoadOptions(threads=2), "threads"),
        (LoadOptions(gpu_layers=1), "gpu_layers"),
        (LoadOptions(ctx_size=5000), "ctx_size"),
    ],
)
def test_what_a_toy_cannot_do_is_refused(options, name):
    with pytest.raises(UnsupportedParameter, match=f"^{name}: the toy backend cannot do") as caught:
        load(FILES, options)
    assert caught.value.name == name


def test_what_a_toy_can_do_is_done():
    info = load(FILES, LoadOptions(device="cpu", ctx_size=17, slots=5, threads=1, gpu_layers=0)).info
    assert (info.device, info.context_length, info.slots, info.threads) == ("cpu", 17, 5, 1)


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (None, ModelNotFound, "cannot be read"),
        (b"", ModelCorrupt, "is empty or cut off"),
        (b"The puck sli", ModelCorrupt, "is empty or cut off: its last line has no end"),
        (b"The puck \xff\n", ModelCorrupt, "is not a page of ASCII text: byte 9 is not a character"),
    ],
)
def test_a_bad_page_is_named(tmp_path: Path, content, error, says):
    page = tmp_path / "page.txt"
    if content is not None:
        page.write_bytes(content)
    with pytest.raises(error, match=f"page.txt {says}"):
        load(ModelFiles("mine", page, "toy"), LoadOptions())


def test_another_page_makes_another_model(tmp_path: Path):
    page = tmp_path / "page.txt"
    page.write_text("Honk.\n")
    assert greedy(load(ModelFiles("mine", page, "toy"), LoadOptions()), ": ") == "Honk."


# The hooks


def test_the_hooks_answer_for_the_toy_alone():
    other = ModelFiles("other", Path("model.gguf"), "gguf")
    assert phiplug_toy.phiplug_find_model("smollm2") is None
    assert phiplug_toy.phiplug_tokenizer(other) is None
    assert phiplug_toy.phiplug_chat_template(other) is None
    assert phiplug_toy.phiplug_tokenizer(FILES).vocab_size == load(FILES, LoadOptions()).info.vocab_size
    assert "assistant: " in phiplug_toy.phiplug_chat_template(FILES)


def test_registering_it_imports_no_numpy():
    code = "import sys, phiplug_toy; phiplug_toy.phiplug_register_backends()[0].probe(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_it_is_short_enough_to_copy():
    lines = sum(len(file.read_text().splitlines()) for file in Path(phiplug_toy.__file__).parent.glob("*.py"))
    assert lines <= 300
