"""A user's own step: where it stands, what it is given, and that what it does wrong is its own request's alone."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scripted import Letters, ScriptedModel, V

from phiplug.engine import Engine
from phiplug.engine.stream import _as_meant
from phiplug.errors import InvalidParameter, LogitsProcessorFailed, NonFiniteLogits, UnsupportedParameter, outcome_of
from phiplug.load import load
from phiplug.sampling import Sampler
from phiplug.types import Completion, Constraint, Request, SamplingParams

PLAIN = SamplingParams(temperature=1.0, top_p=1.0, repeat_penalty=1.0, seed=1)
GREEDY = replace(PLAIN, temperature=0.0)
ROWS = arrays.arrays(np.float32, st.integers(2, 40), elements=st.floats(-30, 30, width=32))
SETTINGS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_p=st.sampled_from([0.5, 0.95, 1.0]),
    top_k=st.sampled_from([0, 1, 3]),
    repeat_penalty=st.sampled_from([1.0, 1.1, 2.0]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    dialect=st.sampled_from(["phiplug", "llama.cpp"]),
    seed=st.integers(0, 2**64 - 1),
)


def nothing(ids, logits):
    """Change nothing."""


def distribution(row, *processors, params=PLAIN, prompt=(), sampled=(), forbidden=None):
    return Sampler(params, prompt, sampled, processors=processors).distribution(row, forbidden)


# Where it stands among the steps


@given(SETTINGS, ROWS, st.lists(st.integers(0, 1), max_size=5))
def test_one_that_changes_nothing_changes_no_token_and_no_probability(params, row, sampled):
    for same in (nothing, lambda ids, logits: logits, lambda ids, logits: logits.astype(np.float64)):
        assert distribution(row, same, params=params, sampled=sampled) == distribution(
            row, params=params, sampled=sampled
        )
        drawn = Sampler(params, [1], sampled, processors=[same])
        plain = Sampler(params, [1], sampled)
        assert [drawn(row) for _ in range(4)] == [plain(row) for _ in range(4)]


@given(SETTINGS, ROWS, st.data())
def test_it_changes_what_a_changed_row_would_change_where_nothing_stands_before_it(params, row, data):
    params = replace(params, repeat_penalty=1.0, frequency_penalty=0.0)
    change = data.draw(arrays.arrays(np.float32, len(row), elements=st.floats(-5, 5, width=32)))
    assert distribution(row, lambda ids, x: x + change, params=params) == distribution(row + change, params=params)


@given(ROWS, st.data())
def test_it_sees_the_logits_after_bias_and_penalties_and_before_the_temperature(row, data):
    token = data.draw(st.integers(0, len(row) - 1))
    seen = []
    params = replace(PLAIN, temperature=0.25, top_k=1, logit_bias={token: 2.0}, presence_penalty=0.5)
    distribution(row, lambda ids, x: seen.append(x.copy()), params=params, sampled=[token])
    expected = row.copy()
    expected[token] = (expected[token] + np.float32(2.0)) - np.float32(0.5)
    np.testing.assert_array_equal(seen[0], expected)


@given(ROWS, st.lists(st.booleans(), min_size=40, max_size=40), st.floats(-40, 40, width=32))
def test_what_a_constraint_forbids_stays_forbidden(row, flags, value):
    forbidden = np.array(flags[: len(row)])
    assume(not forbidden.all())

    def level(ids, logits):
        return np.full_like(logits, value)

    found = distribution(row, level, forbidden=forbidden)
    assert set(found) == set(np.flatnonzero(~forbidden).tolist())


def test_several_are_called_in_their_order_each_with_what_the_last_one_left():
    seen = []

    def add(ids, logits):
        seen.append(float(logits[0]))
        logits += 1

    distribution(np.zeros(4, np.float32), add, lambda ids, logits: logits * 10, add)
    assert seen == [0.0, 10.0]


def test_it_is_called_for_a_greedy_draw_too():
    row = np.array([3.0, 2.0, 1.0], np.float32)
    sampler = Sampler(GREEDY, (), processors=[lambda ids, logits: -logits])
    assert (sampler(row), Sampler(GREEDY, ())(row)) == (2, 0)


# What it is given


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6), ROWS)
def test_it_is_given_all_ids_so_far(prompt, sampled, row):
    seen = []
    sampler = Sampler(PLAIN, prompt, sampled, processors=[lambda ids, _: seen.append([*ids])])
    first = sampler(row)
    sampler.remember(1)
    sampler(row)
    assert seen == [[*prompt, *sampled], [*prompt, *sampled, first, 1]]


def test_the_row_is_its_own_whatever_it_does_with_it_later():
    kept = []
    first = Sampler(PLAIN, (), processors=[lambda ids, logits: kept.append(logits)])
    row = np.array([1.0, 2.0], np.float32)
    before = row.copy()
    first(row)
    kept[0][:] = np.nan
    np.testing.assert_array_equal(row, before)
    assert Sampler(PLAIN, ())(row) in (0, 1)


# What it does wrong


class Callable:
    def __call__(self, ids, logits):
        return logits[:1]


WRONG = [
    (lambda ids, logits: logits[:-1], r"returned shape \(3,\), and the logits are \(4,\)"),
    (lambda ids, logits: 5, "returned a single value"),
    (lambda ids, logits: logits[None], r"returned shape \(1, 4\)"),
    (lambda ids, logits: logits > 0, "returned bool values"),
    (lambda ids, logits: ["a"] * 4, "returned <U1 values"),
    (lambda ids, logits: logits * np.float32(np.nan), "left NaN"),
    (lambda ids, logits: logits + np.float32(np.inf), r"left \+inf"),
    (lambda ids, logits: np.full(4, 1e300), r"left \+inf"),
    (lambda ids, logits: logits - np.float32(np.inf), "left no token that may be drawn"),
    (lambda ids, logits: logits.fill(-np.inf), "left no token that may be drawn"),
    (lambda ids, logits: 1 // 0, "raised ZeroDivisionError: integer"),
    (lambda ids: ids, "raised TypeError"),
    (lambda ids, logits: (_ for _ in ()).throw(SystemExit), "raised SystemExit"),
]


@pytest.mark.parametrize(("wrong", "told"), WRONG, ids=[told for _, told in WRONG])
@pytest.mark.parametrize("params", [PLAIN, GREEDY], ids=["drawn", "greedy"])
def test_what_no_token_can_be_drawn_from_is_refused_and_names_it(wrong, told, params):
    with pytest.raises(LogitsProcessorFailed, match=rf"^the logits processor <lambda> {told}") as caught:
        Sampler(params, (), processors=[nothing, wrong])(np.arange(4, dtype=np.float32))
    assert caught.value.name == "<lambda>"
    assert outcome_of(caught.value).exit_code == 1


def test_one_without_a_name_is_named_by_its_class():
    for wrong, name in ((Callable(), "Callable"), (functools.partial(Callable()), "partial")):
        with pytest.raises(LogitsProcessorFailed, match=f"^the logits processor {name} "):
            Sampler(PLAIN, (), processors=[wrong])(np.arange(4, dtype=np.float32))


def test_a_row_that_came_broken_is_not_blamed_on_it():
    with pytest.raises(NonFiniteLogits):
        Sampler(PLAIN, (), processors=[nothing])(np.array([np.nan, 1], np.float32))


# In the loop


def request(*processors, ids=(1, 2, 3), sampling=PLAIN, **options):
    return Request(tuple(ids), sampling, logits_processors=processors, **options)


def forbid(token):
    def forbidding(ids, logits):
        logits[token] = -np.inf

    return forbidding


def broken(ids, logits):
    raise ValueError("no\nway")


def broken_later(ids, logits):
    if len(ids) > 4:
        raise ValueError("late")


def test_it_ends_its_own_request_and_no_other():
    engine = Engine(ScriptedModel(slots=3, features=frozenset()), Letters())
    good, bad, late = (engine.submit(request(each, max_tokens=4)) for each in (nothing, broken, broken_later))
    with pytest.raises(LogitsProcessorFailed, match="the logits processor broken raised ValueError: no way"):
        bad.completion()
    assert len(next(late).tokens) == 1
    assert len(good.completion().tokens) == 4
    with pytest.raises(LogitsProcessorFailed, match="late"):
        next(iter(late)), next(iter(late))
    assert len(engine.submit(request(max_tokens=4)).completion().tokens) == 4


def test_of_several_choices_those_go_on_whose_processor_does():
    calls = []

    def second_is_broken(ids, logits):
        calls.append(len(ids))
        if len(calls) == 2:
            raise ValueError("second")

    engine = Engine(ScriptedModel(slots=3), Letters())
    first, second, third = engine.choices(request(second_is_broken, max_tokens=3), 3)
    with pytest.raises(LogitsProcessorFailed, match="second"):
        second.completion()
    assert [len(each.completion().tokens) for each in (first, third)] == [3, 3]


def test_a_prefix_is_reused_with_it_and_the_seed_decides_as_without():
    model = ScriptedModel(slots=1)
    engine = Engine(model, Letters())
    plain = engine.submit(request(max_tokens=4)).completion()
    again = engine.submit(request(nothing, max_tokens=4)).completion()
    assert again.tokens == plain.tokens
    assert again.usage.cached_tokens == 2


def test_a_request_that_goes_on_after_an_interruption_repeats_its_tokens():
    asked = request(forbid(1), max_tokens=6)
    whole = Engine(ScriptedModel(), Letters()).submit(asked).completion()
    later = replace(asked, replayed=whole.tokens[:3])
    assert Engine(ScriptedModel(), Letters()).submit(later).completion().tokens == whole.tokens
    assert 1 not in whole.tokens


def test_one_that_asks_the_model_that_calls_it_is_refused_and_nothing_hangs():
    engine = Engine(ScriptedModel(slots=2), Letters())
    for ask in (lambda: engine.submit(request(max_tokens=1)).completion(), engine.close):
        with pytest.raises(LogitsProcessorFailed, match="asks the model that calls it"):
            engine.submit(request(lambda ids, logits, ask=ask: ask(), max_tokens=1)).completion()
    assert engine.submit(request(max_tokens=1)).completion().tokens


def test_ctrl_c_within_one_interrupts_the_reader_and_leaves_the_model_ready():
    def slow(ids, logits):
        raise KeyboardInterrupt

    engine = Engine(ScriptedModel(), Letters())
    with pytest.raises(KeyboardInterrupt):
        engine.submit(request(slow)).completion()
    assert engine.submit(request(max_tokens=2)).completion().tokens
    error = LogitsProcessorFailed("slow", "raised")
    assert _as_meant(error) is error


# Through Python's interface


@pytest.fixture(scope="module")
def toy():
    with load("toy", backend="toy", slots=2) as llm:
        yield llm


def test_every_way_to_ask_takes_it(toy):
    (e,) = toy.tokenizer.encode("e", parse_special=False)[-1:]
    options = {"seed": 3, "max_tokens": 12, "logits_processors": forbid(e)}

    async def collected():
        return [token async for chunk in toy.astream("Hello", **options) for token in chunk.tokens]

    expected = toy.generate("Hello", **options).tokens
    assert e not in expected
    assert e in toy.generate("Hello", seed=3, max_tokens=12).tokens
    assert Completion.of(toy.stream("Hello", **options).request, toy.stream("Hello", **options)).tokens == expected
    assert toy.generate_all(["Hello"], **options)[0].tokens == expected
    assert toy.best_of("Hello", 1, **options).tokens == expected
    assert tuple(token for i, chunk in toy.choices("Hello", 1, **options) for token in chunk.tokens) == expected
    assert tuple(asyncio.run(collected())) == expected


def test_log_probabilities_stay_those_of_the_untouched_logits(toy):
    options = {"temperature": 0.0, "max_tokens": 3, "logprobs": 2, "repeat_penalty": 1.0}
    plain = toy.generate("Hello", **options)
    scaled = toy.generate("Hello", **options, logits_processors=[lambda ids, logits: logits * 3])
    assert scaled.logprobs == plain.logprobs


def test_it_and_a_constraint_hold_together(toy):
    pytest.importorskip("llguidance")
    choice = Constraint("choice", ("yes", "no"), force=False)
    (y,) = toy.tokenizer.encode("y", parse_special=False)[-1:]
    for seed in range(4):
        answer = toy.generate("Sure?", constraint=choice, seed=seed, logits_processors=forbid(y))
        assert (answer.text, answer.constraint) == ("no", "complete")


@pytest.mark.parametrize("value", ["text", 5, [5], None, {"a": len}])
def test_what_cannot_be_called_is_refused_at_once(toy, value):
    with pytest.raises(InvalidParameter, match=r"^logits_processors: "):
        toy.stream("Hello", logits_processors=value)


def test_the_servers_worker_refuses_it():
    from phiplug.server.ports import Work
    from phiplug.server.worker.supervisor import Supervisor
    from phiplug.server.worker.wire import Load

    supervisor = Supervisor(Load("toy"))
    supervisor._info = type("Info", (), {"model": ScriptedModel().info})()
    with pytest.raises(UnsupportedParameter, match=r"^logits_processors: a function cannot go"):
        asyncio.run(supervisor.submit(Work("1", request(nothing))))


def test_a_row_has_the_vocabularys_width():
    seen = []
    engine = Engine(ScriptedModel(), Letters())
    engine.submit(
        request(lambda ids, logits: seen.append((len(ids), logits.shape, logits.dtype)), max_tokens=2)
    ).completion()
    assert seen == [(3, (V,), np.float32), (4, (V,), np.float32)]
