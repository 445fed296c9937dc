"""The values that travel refuse what makes no sense, each with the name of what is wrong."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.errors import InvalidParameter, RequestError
from phiplug.types import Chunk, Completion, Message, Request, SamplingParams, Timings, Usage

SEEDED = SamplingParams(seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", math.nan),
        ("temperature", -1.0),
        ("temperature", math.inf),
        ("temperature", "hot"),
        ("temperature", True),
        ("temperature", 10**400),
        ("top_p", 2.0),
        ("top_p", -0.1),
        ("top_k", -1),
        ("top_k", 1.5),
        ("min_p", 1.01),
        ("repeat_penalty", 0.0),
        ("repeat_penalty", math.nan),
        ("repeat_last_n", -2),
        ("frequency_penalty", math.inf),
        ("presence_penalty", math.nan),
        ("seed", 2**64),
        ("seed", 2**70),
        ("seed", -1),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {1: math.nan}),
        ("logit_bias", {1: 1e39}),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(InvalidParameter, match=f"^{name}: ") as caught:
        SamplingParams(**{name: value})
    assert caught.value.name == name


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0), ("top_p", 0), ("top_p", 1), ("repeat_last_n", -1), ("seed", 2**64 - 1), ("min_p", 1)],
)
def test_the_ends_of_a_range_belong_to_it(name, value):
    assert getattr(SamplingParams(**{name: value}), name) == value


def test_a_seed_is_kept_and_a_missing_one_is_drawn():
    assert SamplingParams(seed=7).seeded().seed == 7
    drawn = {SamplingParams().seeded().seed for _ in range(8)}
    assert len(drawn) == 8


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"prompt_ids": ()}, "prompt"),
        ({"sampling": SamplingParams()}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"stop": ("",)}, "stop"),
        ({"stop": ("\udc80",)}, "stop"),
    ],
)
def test_a_request_that_cannot_be_carried_out_is_refused(changes, name):
    with pytest.raises(InvalidParameter, match=f"^{name}: "):
        Request(**{"prompt_ids": (1,), "sampling": SEEDED} | changes)


def test_a_lone_surrogate_is_named_with_its_place():
    with pytest.raises(InvalidParameter, match=r"character 2 is a lone surrogate \(U\+DC80\)"):
        Message("user", "ab\udc80")


def test_an_unknown_role_is_refused():
    with pytest.raises(InvalidParameter, match="'robot' is none of"):
        Message("robot", "hello")


def test_content_that_is_no_text_is_refused():
    with pytest.raises(InvalidParameter, match="int is not text"):
        Message("user", 3)


@given(st.text())
def test_any_text_that_utf8_can_hold_is_content(text):
    sound = not any(0xD800 <= ord(character) <= 0xDFFF for character in text)
    if sound:
        assert Message("user", text).content == text
    else:
        with pytest.raises(InvalidParameter):
            Message("user", text)


def test_a_completion_is_the_sum_of_its_chunks():
    usage, timings = Usage(1, 2), Timings(0.1, 0.1, 0.1, 10.0, 10.0)
    chunks = [Chunk("a", (1,)), Chunk("", (2,)), Chunk("b", (), "stop", usage, timings)]
    whole = Completion.of(Request((9,), SEEDED), chunks)
    assert (whole.text, whole.tokens, whole.prompt_ids, whole.finish_reason) == ("ab", (1, 2), (9,), "stop")


def test_a_stream_that_was_cut_off_makes_no_completion():
    for chunks in ([], [Chunk("a", (1,))]):
        with pytest.raises(RequestError, match="closed before its last chunk"):
            Completion.of(Request((9,), SEEDED), chunks)
