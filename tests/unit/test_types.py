"""The values that travel refuse what makes no sense, each with the name of what is wrong."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.errors import InvalidParameter, RequestError, UnsupportedParameter
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
        ("logit_bias", {1: math.inf}),
        ("logit_bias", None),
        ("logit_bias", [1, 2]),
        ("dry_breakers", 5),
        ("dry_breakers", (5,)),
        ("dry_breakers", ((),)),
        ("dialect", 3),
        ("dialect", ["hf"]),
        ("temperature", None),
        ("temperature", np.bool_(True)),
        ("temperature", np.float64("nan")),
        ("seed", np.float64(1.0)),
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
        ({"stop": None}, "stop"),
        ({"stop": b"x"}, "stop"),
        ({"stop": (5,)}, "stop"),
        ({"prompt_ids": (-1,)}, "prompt_ids"),
        ({"prompt_ids": "abc"}, "prompt_ids"),
        ({"prompt_ids": (1.5,)}, "prompt_ids"),
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


VALUES = [
    SamplingParams(),
    SamplingParams(logit_bias={5: 1.0, 7: -math.inf}, dry_breakers=[[1, 2]], dialect="llama.cpp"),
    Request((1, 2), SEEDED, stop=("a",)),
    Message("user", "hello"),
    Completion("a", (1,), (2,), "stop", Usage(1, 1), Timings(0.1, None, 0.1, 1.0, None), SEEDED),
]


@pytest.mark.parametrize("value", VALUES)
def test_what_travels_can_be_pickled_copied_and_hashed(value):
    for twin in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value), copy.copy(value)):
        assert twin == value
        assert hash(twin) == hash(value)


@pytest.mark.parametrize("value", VALUES)
def test_what_travels_becomes_a_dict_that_json_takes(value):
    assert json.loads(json.dumps(dataclasses.asdict(value)))


def test_the_biases_of_parameters_cannot_be_changed():
    given = {5: 1.0}
    sampling = SamplingParams(logit_bias=given)
    given[5] = 2.0
    for change in (
        lambda bias: bias.update({1: 1.0}),
        lambda bias: bias.__setitem__(1, 1.0),
        lambda bias: bias.clear(),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change(sampling.logit_bias)
    assert sampling.logit_bias == {5: 1.0}


def test_numpy_numbers_become_plain_ones():
    sampling = SamplingParams(
        temperature=np.float32(0.5), top_k=np.int64(5), logit_bias={np.int64(3): np.float64(1.0)}, seed=np.uint64(9)
    )
    request = Request(tuple(np.arange(1, 3)), sampling, max_tokens=np.int32(4))
    plain = (sampling.temperature, sampling.top_k, *sampling.logit_bias, *sampling.logit_bias.values(), sampling.seed)
    assert plain == (0.5, 5, 3, 1.0, 9)
    assert {type(value) for value in (*plain, *request.prompt_ids, request.max_tokens)} == {int, float}


def test_one_stop_string_is_one_and_not_its_letters():
    assert Request((1,), SEEDED, stop="END").stop == ("END",)
    assert Request([1], SEEDED, stop=["a", "b"]).stop == ("a", "b")


def test_a_message_may_have_openais_form():
    assert Message.of({"role": "user", "content": "hi", "name": None}) == Message("user", "hi")
    with pytest.raises(UnsupportedParameter, match="nothing reads the entry 'audio'"):
        Message.of({"role": "assistant", "content": "", "audio": [{}]})
    with pytest.raises(InvalidParameter, match=r"tool_calls: \{.* is no call"):
        Message.of({"role": "assistant", "content": "", "tool_calls": [{}]})


@pytest.mark.parametrize("value", [{"role": "user"}, ("user", "hi"), "hi", None, {"role": "user", "content": None}])
def test_what_is_no_message_is_refused_by_our_own_error(value):
    with pytest.raises(InvalidParameter):
        Message.of(value)


def test_an_integer_that_python_does_not_write_is_refused_too():
    with pytest.raises(InvalidParameter, match=r"an integer of 16610 bits is outside \[0, "):
        SamplingParams(seed=10**5000)
