"""A dialect says what it has, and a parameter that it lacks is refused by name."""

from __future__ import annotations

import pytest

from phiplug.dialects import OFF, RULES, those_with
from phiplug.errors import InvalidParameter, UnsupportedParameter
from phiplug.types import SamplingParams

ON = dict.fromkeys(OFF, 0.5) | {
    "dry_base": 2.0,
    "dry_allowed_length": 3,
    "dry_last_n": 64,
    "logit_bias": {1: 1.0},
    "dry_breakers": ((198,),),
}


@pytest.mark.parametrize("dialect", RULES)
@pytest.mark.parametrize("name", ON)
def test_a_parameter_is_taken_or_refused_by_name(dialect, name):
    if dialect in those_with(name):
        assert getattr(SamplingParams(dialect=dialect, **{name: ON[name]}), name) == ON[name]
        return
    with pytest.raises(UnsupportedParameter, match=f"^{name}: the {dialect} dialect does not have it") as caught:
        SamplingParams(dialect=dialect, **{name: ON[name]})
    assert caught.value.name == name
    assert all(other in caught.value.hint for other in those_with(name))


@pytest.mark.parametrize("dialect", RULES)
def test_what_is_off_is_never_refused(dialect):
    assert SamplingParams(dialect=dialect, **OFF).dialect == dialect


def test_an_unknown_dialect_is_refused_with_those_there_are():
    with pytest.raises(InvalidParameter, match=r"'gguf' is none of phiplug, candle, llama.cpp, mlx-lm, hf"):
        SamplingParams(dialect="gguf")


@pytest.mark.parametrize(
    ("dialect", "name", "value"),
    [
        ("candle", "repeat_last_n", -1),
        ("llama.cpp", "repeat_last_n", -1),
        ("hf", "repeat_last_n", 64),
        ("mlx-lm", "penalize_prompt", False),
        ("hf", "temperature", 0.0),
    ],
)
def test_a_value_that_the_peer_does_not_take_is_refused(dialect, name, value):
    with pytest.raises(UnsupportedParameter, match=f"^{name}: the {dialect} dialect"):
        SamplingParams(dialect=dialect, **{name: value})


@pytest.mark.parametrize(
    ("dialect", "window", "prompt"),
    [("phiplug", 64, False), ("candle", 64, False), ("llama.cpp", 64, True), ("mlx-lm", 20, True), ("hf", -1, True)],
)
def test_seeding_settles_the_window_and_the_scope(dialect, window, prompt):
    settled = SamplingParams(dialect=dialect).seeded()
    assert (settled.repeat_last_n, settled.penalize_prompt) == (window, prompt)
    assert settled.seeded() == settled


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("typical_p", 0.0),
        ("xtc_probability", 1.5),
        ("xtc_threshold", 0.6),
        ("top_n_sigma", -1.0),
        ("dry_multiplier", -0.1),
        ("dry_base", 0.5),
        ("dry_allowed_length", 0),
        ("dry_last_n", -2),
        ("dry_breakers", ((),)),
        ("dry_breakers", ((-1,),)),
        ("penalize_prompt", "yes"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_dialect_is_asked(name, value):
    with pytest.raises(InvalidParameter, match=f"^{name}: "):
        SamplingParams(dialect="llama.cpp", **{name: value})
