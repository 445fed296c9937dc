"""Any order of requests, cancellations, failures and threads: each answer is the one that the request has alone."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scripted import Letters, ScriptedModel, V

from phiplug.engine import Engine
from phiplug.errors import BackendFailed
from phiplug.spi import LoadOptions, ModelFiles
from phiplug.types import Request, SamplingParams
from phiplug_toy import CORPUS, FORMAT
from phiplug_toy.model import ToyModel, load
from phiplug_toy.tokenizer import ByteTokenizer

WARM = {"temperature": 2.0, "top_p": 1.0, "repeat_penalty": 1.0}


class Hashing(ScriptedModel):
    """Its logits depend on every id before them, so an id of another prompt left in a slot changes the answer."""

    def __post_init__(self):
        super().__post_init__()
        self.broken = 0
        self.keeps_less = False

    def settle(self):
        if self.pending and self.broken:
            self.broken -= 1
            self.pending = None
            raise RuntimeError("the engine broke")
        super().settle()

    def rewind(self, slot, length):
        return super().rewind(slot, length // 2 if self.keeps_less else length)

    def rows(self, step):
        held = self.held[step.slot]
        for end in range(len(held) - step.rows + 1, len(held) + 1):
            yield np.random.default_rng([end, *held[:end]]).normal(0, 2, V).astype(np.float32)


def alone(request):
    return Engine(Hashing(), Letters()).submit(request).completion().tokens


PROMPTS = st.lists(st.integers(1, 3), min_size=1, max_size=14)  # few ids, so that prompts share beginnings


class AnyOrder(RuleBasedStateMachine):
    """Streams of one engine that are read, closed and dropped in any order."""

    alone = staticmethod(alone)

    def __init__(self):
        super().__init__()
        self.model = Hashing(slots=2, chunk=4, features=frozenset({"copy", "autotune"}), row_independence="all")
        self.engine = Engine(self.model, Letters())
        self.open = []

    @rule(
        prompt=PROMPTS, seed=st.integers(0, 5), count=st.integers(1, 6), flags=st.tuples(st.booleans(), st.booleans())
    )
    def submit(self, prompt, seed, count, flags):
        reuse, repeatable = flags
        request = Request(
            tuple(prompt), SamplingParams(**WARM, seed=seed), max_tokens=count, reuse=reuse, repeatable=repeatable
        )
        self.open.append((self.engine.submit(request), self.alone(request), []))

    @rule(prompt=PROMPTS, count=st.integers(1, 4))
    def choose(self, prompt, count):
        request = Request(tuple(prompt), SamplingParams(**WARM, seed=9), max_tokens=3)
        for stream in self.engine.choices(request, count):
            self.open.append((stream, self.alone(stream.request), []))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def read(self, data):
        entry = data.draw(st.sampled_from(self.open))
        stream, expected, tokens = entry
        try:
            chunk = next(stream)
        except BackendFailed:
            self.open.remove(entry)
            return
        tokens += chunk.tokens
        assert tokens == list(expected[: len(tokens)])
        if chunk.finish_reason:
            assert tokens == list(expected)
            self.open.remove(entry)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), drop=st.booleans())
    def cancel(self, data, drop):
        entry = data.draw(st.sampled_from(self.open))
        self.open.remove(entry)
        if drop:
            entry[0].__del__()  # the collector's call: hypothesis itself still holds the stream
        else:
            entry[0].close()

    @rule(times=st.integers(1, 2))
    def break_passes(self, times):
        self.model.broken = times

    @rule(less=st.booleans())
    def keep_less(self, less):
        self.model.keeps_less = less

    @invariant()
    def slots_hold_what_the_engine_believes(self):
        if self.model.pending is None:
            for index, held in enumerate(self.model.held):
                assert self.engine.scheduler._slots[index].ids == held[: len(self.engine.scheduler._slots[index].ids)]

    def teardown(self):
        self.model.broken, self.model.keeps_less = 0, False
        for stream, expected, tokens in self.open:
            try:
                tokens += [token for chunk in stream for token in chunk.tokens]
            except BackendFailed:
                continue
            assert tokens == list(expected)
        self.open.clear()
        self.engine.scheduler.step()
        self.engine.scheduler.step()
        assert self.engine.scheduler.is_idle


class BreakableToy(ToyModel):
    """It guesses, every third time wrongly, and breaks when it is told to."""

    broken, keeps_less = 0, False

    def _compute(self, steps):
        if self.broken:
            self.broken -= 1
            raise RuntimeError("the engine broke")
        return super()._compute(steps)

    def rewind(self, slot, length):
        return super().rewind(slot, length // 2 if self.keeps_less else length)


class WithLookahead(AnyOrder):
    """The same, with a pass ahead of the loop."""

    def __init__(self):
        super().__init__()
        self.model = self._toy()
        self.model.wrong_every = 3
        self.engine = Engine(self.model, ByteTokenizer())
        self.engine.scheduler.lookahead.is_on = True

    @staticmethod
    def _toy(slots=2):
        model = load(ModelFiles("toy", CORPUS, FORMAT), LoadOptions(slots=slots))
        model.__class__ = BreakableToy
        return model

    @staticmethod
    def alone(request):
        return Engine(WithLookahead._toy(1), ByteTokenizer()).submit(request).completion().tokens

    @invariant()
    def slots_hold_what_the_engine_believes(self):
        for slot, held in zip(self.engine.scheduler._slots._slots, self.model._slots, strict=True):
            assert slot.ids == held[: len(slot.ids)]


WithLookahead.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestWithLookahead = WithLookahead.TestCase
AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_forty_threads_over_three_slots_get_their_own_answers():
    engine = Engine(Hashing(slots=3, chunk=4, features=frozenset({"copy"}), row_independence="all"), Letters())
    source = np.random.default_rng(0)
    wrong = []

    def client(number):
        request = Request(
            tuple(source_ids[number]), SamplingParams(**WARM, seed=number), max_tokens=8, repeatable=number % 2 == 0
        )
        stream = engine.submit(request)
        tokens = []
        for chunk in stream:
            tokens += chunk.tokens
            if number % 5 == 4 and len(tokens) == 3:
                break
        stream.close()
        if tokens != list(alone(request)[: len(tokens)]):
            wrong.append(number)

    source_ids = [source.integers(1, 4, source.integers(1, 14)).tolist() for _ in range(40)]
    threads = [threading.Thread(target=client, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    engine.scheduler.step()
    engine.scheduler.step()
    assert (wrong, engine.scheduler.is_idle) == ([], True)
