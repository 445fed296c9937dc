"""Lookahead changes no token: answers are equal with and without, however often guesses are wrong."""

from __future__ import annotations

import dataclasses
import json
import random
from types import SimpleNamespace

import pytest

from bench.simulated import DRAW_S, PASS_S, SimulatedModel, VirtualClock, seconds_per_pass
from phiplug.engine import Engine
from phiplug.engine.autotune import settle_lookahead
from phiplug.errors import BackendFailed, UnsupportedParameter
from phiplug.spi import LoadOptions, ModelFiles
from phiplug.types import Constraint, Request, SamplingParams
from phiplug_toy import CORPUS, FORMAT
from phiplug_toy.model import load
from phiplug_toy.tokenizer import ByteTokenizer

PROMPTS = [b": Ice hockey is", b": The", b": A puck", b": assistant: "]
SAMPLING = {
    "greedy": {"temperature": 0.0, "repeat_penalty": 1.0},
    "default": {},
    "penalties": {"repeat_penalty": 1.3, "frequency_penalty": 0.4, "presence_penalty": 0.2, "penalize_prompt": True},
    "filters": {"top_k": 20, "top_p": 0.7, "min_p": 0.02, "logit_bias": {101: 2.0, 32: -1.0}},
    "cold": {"temperature": 0.3, "top_p": 0.1},
}
SCHEMA = {"type": "object", "properties": {"ab": {"type": "boolean"}}, "required": ["ab"]}
REST = {
    "plain": {},
    "stop strings": {"stop": ("e", "th")},
    "constraint": {"constraint": Constraint("regex", "[a-z ]{3,30}")},
    "form": {"constraint": Constraint("json_schema", json.dumps(SCHEMA))},
    "log-probabilities": {"logprobs": 2},
}


def engine(slots=1, wrong_every=0, on=True, **info):
    model = load(ModelFiles("toy", CORPUS, FORMAT), LoadOptions(slots=slots))
    model.info = dataclasses.replace(model.info, **info)
    model.wrong_every = wrong_every
    made = Engine(model, ByteTokenizer())
    made.scheduler.lookahead.is_on = on
    return made


def request(index):
    """One of many kinds of request; equal indices give equal requests."""
    chance = random.Random(index)
    sampling = SamplingParams(seed=index, **SAMPLING[chance.choice(list(SAMPLING))])
    rest = REST[chance.choice(list(REST))]
    ids = (256, *chance.choice(PROMPTS))
    return Request(ids, sampling, max_tokens=chance.choice((1, 2, 7, 24)), repeatable=chance.random() < 0.5, **rest)


def answers(made, requests, cancelled=None):
    """What each request got, with one reader that takes turns and goes away from those that are `cancelled`."""
    streams, found = [made.submit(each) for each in requests], [[] for _ in requests]
    cancelled = cancelled or {}
    open_ones = list(range(len(streams)))
    while open_ones:
        for index in [*open_ones]:
            chunk = next(streams[index], None)
            if chunk is not None:
                found[index].append((chunk.text, chunk.tokens, chunk.finish_reason, chunk.logprobs, chunk.constraint))
            if chunk is None or chunk.finish_reason or len(found[index]) == cancelled.get(index):
                streams[index].close()
                open_ones.remove(index)
    return found


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("independence", ["none", "decode", "all"])
@pytest.mark.parametrize("wrong_every", [0, 100, 3, 1])
def test_answers_are_equal_with_and_without(slots, independence, wrong_every):
    requests = [request(index) for index in range(200 if independence == "all" else 50)]
    cancelled = {index: 1 + index % 5 for index in range(0, len(requests), 7)}
    equal = 0
    for start in range(0, len(requests), 10):  # more than there are slots
        batch = requests[start : start + 10]
        gone = {index: cancelled[start + index] for index in range(10) if start + index in cancelled}
        known = [engine(slots, on=on, wrong_every=wrong_every, row_independence=independence) for on in (False, True)]
        without, with_guesses = (answers(made, batch, gone) for made in known)
        equal += sum(a == b for a, b in zip(without, with_guesses, strict=True))
    assert equal == len(requests)


@pytest.mark.parametrize(
    ("slots", "draw_s", "without", "best"),
    [(1, DRAW_S, 3.8e-3, PASS_S), (8, DRAW_S / 8, 3.8e-3, PASS_S), (8, DRAW_S, 5.9e-3, 3.4e-3)],
    ids=["one row", "eight rows", "the host draws for longer than the device computes"],
)
def test_the_device_waits_for_the_host_no_more(slots, draw_s, without, best):
    times = [
        seconds_per_pass(SimulatedModel(slots, VirtualClock()), draw_s=draw_s, ahead=ahead, count=100)
        for ahead in (False, True)
    ]
    assert times == pytest.approx([without, best], rel=0.03)  # the first and the last pass have no other beside them


def test_a_guess_that_is_wrong_costs_its_own_pass_and_the_next_one_is_right():
    model = SimulatedModel(1, VirtualClock(), wrong_every=10)
    usage = answered(model, max_tokens=50).usage
    assert (usage.guesses_asked, usage.guesses_right, usage.guesses_wrong) == (49, 45, 4)
    assert model.passes == 50 + 4


def answered(model, **changes):
    """An answer with lookahead."""
    engine_ = Engine(model, ByteTokenizer())
    engine_.scheduler.lookahead.is_on = True
    return engine_.submit(Request((256, 97), SamplingParams(seed=0, temperature=0.0), **changes)).completion()


def test_no_pass_is_guessed_behind_the_last_one():
    model = SimulatedModel(1, VirtualClock())
    usage = answered(model, max_tokens=9).usage
    assert (usage.guesses_asked, usage.guesses_right, model.passes) == (8, 8, 9)


def test_off_asks_for_no_guess_and_a_model_that_cannot_is_asked_for_none():
    made = engine(on=False)
    usage = made.submit(Request((256, 97), SamplingParams(seed=0))).completion().usage
    assert usage.guesses_asked == 0
    settle_lookahead(made, "on")
    assert made.scheduler.lookahead.is_on
    settle_lookahead(made, "off")
    assert not made.scheduler.lookahead.is_on
    with pytest.raises(UnsupportedParameter, match="does not guess"):
        settle_lookahead(engine(features=frozenset()), "on")
    settle_lookahead(engine(features=frozenset()), "auto")


class Costly(SimulatedModel):
    """Its guesses take longer to draw than they save."""

    def guess(self, asked, draws):
        self.clock.spend(5e-3)
        return super().guess(asked, draws)


class Unable(SimulatedModel):
    """It says that it guesses, and its device lacks an operation."""

    def guess(self, asked, draws):
        raise RuntimeError("no such kernel")


@pytest.mark.parametrize(
    ("kind", "pass_s", "pays"),
    [(SimulatedModel, PASS_S, True), (Costly, PASS_S, False), (SimulatedModel, 0.2, False), (Unable, PASS_S, False)],
    ids=["it pays", "it does not", "the pass is so long that it hardly could", "it fails"],
)
def test_auto_measures_whether_it_pays_and_remembers(kind, pass_s, pays, monkeypatch):
    clock = VirtualClock()
    monkeypatch.setattr("phiplug.engine.answer.time.perf_counter", clock.now)
    kept = {}
    made = Engine(kind(1, clock, pass_s), ByteTokenizer())
    settle_lookahead(made, "auto", SimpleNamespace(get=kept.get, set=kept.__setitem__), "key")
    assert (kept, made.scheduler.lookahead.is_on) == ({"key": pays}, pays)
    settle_lookahead(made, "auto", SimpleNamespace(get=lambda _: not pays, set=kept.__setitem__), "key")
    assert made.scheduler.lookahead.is_on is not pays


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": SamplingParams(seed=0, dialect="llama.cpp")},
        {"sampling": SamplingParams(seed=0, dialect="llama.cpp", dry_multiplier=0.8)},
        {"sampling": SamplingParams(seed=0, dialect="llama.cpp", xtc_probability=0.5)},
        {"logits_processors": (lambda _, row: row,)},
        {"replayed": (97, 98, 99)},
    ],
    ids=["dialect", "dry", "xtc", "processor", "replayed"],
)
def test_what_only_the_host_can_draw_is_not_guessed(changes):
    usage = engine().submit(Request((256, 97), max_tokens=3, **{"sampling": SamplingParams(seed=0)} | changes))
    assert usage.completion().usage.guesses_asked == 0


def test_nothing_is_guessed_while_somebody_waits():
    made = engine()
    streams = [made.submit(Request((256, 97 + index), SamplingParams(seed=0), max_tokens=6)) for index in range(2)]
    first, second = (stream.completion().usage for stream in streams)
    assert (first.guesses_asked, second.guesses_asked > 0) == (0, True)


def test_after_an_answer_its_slot_holds_no_guess():
    made = engine()
    stream = made.submit(Request((256, 97), SamplingParams(seed=0), max_tokens=60, stop=("e",)))
    stream.completion()
    made.scheduler.step()
    slot = made.scheduler._slots[0]
    assert made.model.rewind(0, 4096) == len(slot.ids)


class Failing:
    """A guess whose tokens cannot be drawn."""

    def __init__(self, guess):
        self.logits = guess.logits

    def tokens(self):
        raise RuntimeError("the device broke")


def test_a_guess_that_cannot_be_drawn_is_dropped_and_the_answer_goes_on(monkeypatch):
    asked = Request((256, 97), SamplingParams(seed=3), max_tokens=12)
    made = engine()
    guess = made.model.guess
    monkeypatch.setattr(made.model, "guess", lambda *given: Failing(guess(*given)))
    found = made.submit(asked).completion()
    assert found.tokens == engine(on=False).submit(asked).completion().tokens
    assert (found.usage.guesses_asked, found.usage.guesses_right) == (len(found.tokens) - 1, 0)


def test_a_pass_that_fails_fails_its_guess_and_each_runs_again_alone(monkeypatch):
    made = engine(2)
    compute, calls = made.model._passes._compute, []

    def breaks_once(steps):
        calls.append(steps)
        if len(calls) == 6:
            raise RuntimeError("the engine broke")
        return compute(steps)

    monkeypatch.setattr(made.model._passes, "_compute", breaks_once)
    requests = [Request((256, 97 + index), SamplingParams(seed=index), max_tokens=12) for index in range(2)]
    found = [answer.tokens for answer in made.completions(requests)]
    assert found == [engine(on=False).submit(each).completion().tokens for each in requests]


def test_a_failing_pass_of_one_ends_with_its_own_error(monkeypatch):
    made = engine()
    compute = made.model._passes._compute

    def breaks(steps):
        if len(made.model._slots[0]) > 8:
            raise RuntimeError("the engine broke")
        return compute(steps)

    monkeypatch.setattr(made.model._passes, "_compute", breaks)
    with pytest.raises(BackendFailed, match="the engine broke"):
        made.submit(Request((256, 97), SamplingParams(seed=0), ignore_stop_ids=True)).completion()
    monkeypatch.setattr(made.model._passes, "_compute", compute)
    asked = Request((256, 98), SamplingParams(seed=0), max_tokens=5)
    assert made.submit(asked).completion().tokens == engine(on=False).submit(asked).completion().tokens
