"""The scheduler: where requests are placed, which passes they share, and what their neighbours may do to them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scripted import Letters, ScriptedModel, V

from phiplug.engine import Engine
from phiplug.engine.logprobs import likeliest, log_normalizers
from phiplug.engine.scores import Score, score_continuations, score_text
from phiplug.engine.slots import Pieces, common_prefix
from phiplug.errors import BackendFailed, InvalidParameter, NonFiniteLogits
from phiplug.types import Completion, Request, SamplingParams

GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)
WARM = SamplingParams(temperature=3.0, top_p=1.0, repeat_penalty=1.0, seed=3)


def request(ids=(1, 2, 3), sampling=GREEDY, **changes):
    return Request(tuple(ids), sampling, **changes)


def finished(engine, *asked):
    streams = [engine.submit(each) for each in asked]
    return [stream.completion() for stream in streams]


def passes(model):
    return [entry[1] for entry in model.log if entry[0] == "forward"]


class Hashing(ScriptedModel):
    """Its logits depend on all the ids before them, so a slot that holds something else shows."""

    def rows(self, step):
        held = self.held[step.slot]
        for end in range(len(held) - step.rows + 1, len(held) + 1):
            yield np.random.default_rng([end, *held[:end]]).normal(0, 2, V).astype(np.float32)


class Copying(Hashing):
    """Can copy a prefix from one slot to another."""

    def __post_init__(self):
        super().__post_init__()
        self.features = frozenset({"copy", "autotune"})


def test_a_prefix_that_a_running_slot_holds_is_copied_and_not_computed():
    model = Copying(slots=2, chunk=64, context_length=200)
    engine = Engine(model, Letters())
    long = list(range(1, 15)) * 5
    first = engine.submit(request(long, max_tokens=30))
    next(first)
    second = engine.submit(request([*long, 7], max_tokens=2)).completion()
    assert second.usage.cached_tokens == 70
    assert ("copy", 0, 1, 70) in model.log


def test_a_request_waits_for_the_prefix_that_another_is_computing():
    model = Copying(slots=3, chunk=16, context_length=200)
    common = list(range(1, 15)) * 6
    done = finished(Engine(model, Letters()), *(request([*common, last], max_tokens=1) for last in (1, 2, 3)))
    assert [each.usage.cached_tokens for each in done] == [0, 84, 84]
    assert sum(len(step[1]) for steps in passes(model) for step in steps) == 85 + 2 * 1


def test_a_short_prefix_is_not_worth_a_copy():
    model = Copying(slots=2)
    engine = Engine(model, Letters())
    next(engine.submit(request((1, 2, 3))))
    held = engine.submit(request((1, 2, 3)))
    next(held)
    assert engine.submit(request((1, 2, 3, 4), max_tokens=1)).completion().usage.cached_tokens in (0, 3)
    assert not [entry for entry in model.log if entry[0] == "copy"]


def test_choices_draw_from_one_row_and_are_those_of_lone_requests():
    prompt = list(range(1, 15)) * 3
    asked = request(prompt, WARM, max_tokens=8, ignore_stop_ids=True, repeatable=True)
    model = Copying(slots=4, chunk=16, row_independence="decode")
    together = [stream.completion() for stream in Engine(model, Letters()).choices(asked, 4)]
    fed = sum(len(step[1]) for steps in passes(model) for step in steps)
    assert fed <= len(prompt) + 4 * 8
    for index, choice in enumerate(together):
        lone = replace(asked, sampling=replace(WARM, seed=3 + index))
        assert choice.tokens == Engine(Copying(chunk=16), Letters()).submit(lone).completion().tokens
    assert len({choice.tokens for choice in together}) > 1


def test_choices_go_on_where_the_first_one_is_cancelled_before_its_row():
    asked = request((1, 2, 3), WARM, max_tokens=3, ignore_stop_ids=True)
    first, second, third = Engine(Copying(slots=1), Letters()).choices(asked, 3)
    first.close()
    assert len(second.completion().tokens) == len(third.completion().tokens) == 3


@pytest.mark.parametrize(("equal_passes", "repeatable"), [(64, True), (1, False)])
def test_eight_requests_compute_a_common_prefix_once(equal_passes, repeatable):
    model = Copying(slots=8, chunk=64, context_length=1200, equal_passes=equal_passes, row_independence="all")
    common = [1 + at * at % 14 for at in range(1000)]
    prompts = [[*common, *([other] * 20)] for other in range(1, 9)]
    asked = [request(each, WARM, max_tokens=1, repeatable=repeatable) for each in prompts]
    finished(Engine(model, Letters()), *asked)
    fed = sum(len(step[1]) for steps in passes(model) for step in steps)
    assert 1000 + 8 * 20 <= fed <= 1000 + 8 * (20 + 64)


def test_where_only_whole_chunks_repeat_each_computes_at_most_one_more():
    model = Copying(slots=8, chunk=64, context_length=1200)
    common = [1 + at * at % 14 for at in range(1000)]
    finished(Engine(model, Letters()), *(request([*common, *([other] * 20)], max_tokens=1) for other in range(1, 9)))
    fed = sum(len(step[1]) for steps in passes(model) for step in steps)
    assert fed <= 1000 + 8 * (20 + 64 + 64)


def test_four_choices_of_a_long_prompt_compute_it_once():
    model = Copying(slots=4, chunk=64, context_length=600)
    prompt = [1 + at * at % 14 for at in range(400)]
    asked = request(prompt, WARM, max_tokens=10, ignore_stop_ids=True)
    assert all(len(stream.completion().tokens) == 10 for stream in Engine(model, Letters()).choices(asked, 4))
    assert sum(len(step[1]) for steps in passes(model) for step in steps) <= 400 + 4 * 10


def test_choices_beyond_the_slots_wait():
    asked = request((1, 2, 3), WARM, max_tokens=3, ignore_stop_ids=True)
    streams = Engine(Copying(slots=2), Letters()).choices(asked, 5)
    assert [len(stream.completion().tokens) for stream in streams] == [3] * 5


def test_no_choice_at_all_is_refused():
    with pytest.raises(InvalidParameter, match="0 is not at least 1"):
        Engine(ScriptedModel(), Letters()).choices(request(), 0)


def test_prompts_and_tokens_take_turns_so_that_a_long_prompt_stops_nobody():
    model = ScriptedModel(slots=2, chunk=4)
    engine = Engine(model, Letters())
    short = engine.submit(request((1, 2), max_tokens=20))
    next(short)
    model.log.clear()
    long = engine.submit(request(range(1, 15), max_tokens=1))
    long.completion()
    sizes = [len(steps[0][1]) for steps in passes(model)]
    assert all(1 in (a, b) for a, b in pairwise(sizes))


def test_short_prompts_share_a_pass_unless_they_must_repeat():
    free = ScriptedModel(slots=2, chunk=8)
    finished(Engine(free, Letters()), request((1, 2), max_tokens=1), request((3, 4), max_tokens=1))
    assert [len(steps) for steps in passes(free)] == [2]
    bound = ScriptedModel(slots=2, chunk=8, row_independence="decode")
    asked = (request((1, 2), max_tokens=1, repeatable=True), request((3, 4), max_tokens=1, repeatable=True))
    finished(Engine(bound, Letters()), *asked)
    assert [len(steps) for steps in passes(bound)] == [1, 1]


def test_where_neighbours_change_a_row_those_that_must_repeat_decode_alone():
    model = ScriptedModel(slots=3, row_independence="none")
    asked = [request((n, 2), max_tokens=4, repeatable=n == 1) for n in (1, 3, 4)]
    finished(Engine(model, Letters()), *asked)
    assert all(len(steps) == 1 for steps in passes(model) if any(step[0] == 0 for step in steps))


def test_what_was_computed_beside_others_does_not_serve_a_request_that_must_repeat():
    model = Hashing(slots=2, chunk=4)
    engine = Engine(model, Letters())
    finished(engine, request((1, 2), max_tokens=1), request((3, 4), max_tokens=1))
    assert engine.submit(request((1, 2, 5), repeatable=True, max_tokens=1)).completion().usage.cached_tokens == 0
    assert engine.submit(request((3, 4, 5), max_tokens=1)).completion().usage.cached_tokens == 2


def test_interchangeable_passes_serve_any_prefix():
    model = Hashing(chunk=4, equal_passes=4)
    engine = Engine(model, Letters())
    answer = engine.submit(request(range(1, 8), max_tokens=3, ignore_stop_ids=True)).completion()
    longer = request((*range(1, 8), *answer.tokens, 5), repeatable=True, max_tokens=1)
    assert engine.submit(longer).completion().usage.cached_tokens == 9


def test_running_slots_are_neighbours_and_steps_are_in_their_order():
    engine = Engine(ScriptedModel(slots=8), Letters())
    streams = [engine.submit(request((n, n), max_tokens=9)) for n in range(2, 6)]
    for stream in streams:
        next(stream)
    last = passes(engine.model)[-1]
    assert [step[0] for step in last] == [0, 1, 2, 3]


def test_all_sequences_draw_in_the_memory_of_their_loop(monkeypatch):
    engine = Engine(ScriptedModel(slots=4), Letters())
    monkeypatch.setattr("phiplug.sampling.sampler.Row", None)  # so none can be made for one of them
    assert len(finished(engine, *(request((1, seed), SamplingParams(seed=seed)) for seed in range(6)))) == 6


def test_a_row_that_is_no_number_ends_its_own_request_alone():
    class Bad(ScriptedModel):
        def rows(self, step):
            for row in super().rows(step):
                yield np.full(V, np.nan, np.float32) if self.held[step.slot][0] == 9 else row

    engine = Engine(Bad(slots=3), Letters(), backend="the backend scripted")
    good, bad, other = [engine.submit(request((n, 2), max_tokens=3)) for n in (1, 9, 3)]
    assert good.completion().tokens == other.completion().tokens == (1, 1, 1)
    with pytest.raises(NonFiniteLogits, match="a row of the backend scripted"):
        bad.completion()


def test_a_pass_that_fails_is_run_again_one_by_one_and_only_the_guilty_one_ends():
    class Bad(ScriptedModel):
        def settle(self):
            if self.pending and any(9 in step.tokens for step in self.pending.steps):
                self.pending = None
                raise RuntimeError("the engine does not like 9")
            super().settle()

    engine = Engine(Bad(slots=3, chunk=8), Letters())
    good, bad, other = [engine.submit(request((n, 2), max_tokens=3)) for n in (1, 9, 3)]
    assert good.completion().tokens == other.completion().tokens == (1, 1, 1)
    with pytest.raises(BackendFailed, match="does not like 9"):
        bad.completion()


# Log-probabilities and scores


def softmax(row):
    x = row.astype(np.float64)
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def test_log_probabilities_are_a_float64_log_softmax_of_the_untouched_row():
    model = Hashing()
    asked = request((1, 2, 3), WARM, max_tokens=4, ignore_stop_ids=True, logprobs=3)
    done = Engine(model, Letters()).submit(asked).completion()
    assert [entry.token for entry in done.logprobs] == list(done.tokens)
    for index, entry in enumerate(done.logprobs):
        ids = [1, 2, 3, *done.tokens[:index]]
        expected = softmax(np.random.default_rng([len(ids), *ids]).normal(0, 2, V).astype(np.float32))
        assert entry.logprob == pytest.approx(expected[entry.token], abs=1e-9)
        assert [each.token for each in entry.top] == np.argsort(-expected, kind="stable")[:3].tolist()


def test_none_are_computed_where_none_are_asked_for():
    assert Engine(Hashing(), Letters()).submit(request(max_tokens=2)).completion().logprobs == ()


def test_equals_among_the_likeliest_rank_by_the_lowest_id():
    assert likeliest(np.array([1, 3, 3, 3, 0], np.float32), 2) == [1, 2]
    assert likeliest(np.array([1, 3], np.float32), 9) == [1, 0]


def test_normalizers_of_rows_together_are_those_of_each():
    rows = np.random.default_rng(0).normal(0, 5, (8, 1000)).astype(np.float32)
    assert log_normalizers(rows).tolist() == [float(log_normalizers(row[None])[0]) for row in rows]


def test_a_common_context_is_computed_once_and_the_order_does_not_matter():
    context = list(range(1, 15)) * 3
    pairs = [(context, [n, n + 1, 3, 4, 5]) for n in range(1, 5)]
    model = Hashing(chunk=8, context_length=64)
    engine = Engine(model, Letters())
    scores = list(score_continuations(engine, pairs))
    assert sum(len(step[1]) for steps in passes(model) for step in steps) <= len(context) + 4 * 5
    assert list(score_continuations(Engine(Hashing(chunk=8), Letters()), pairs[::-1]))[::-1] == scores
    ids = [*context, 1, 2]
    expected = softmax(np.random.default_rng([len(ids), *ids]).normal(0, 2, V).astype(np.float32))
    assert scores[0].logprobs[2] == pytest.approx(expected[3], abs=1e-9)
    assert scores[0].total == pytest.approx(sum(scores[0].logprobs))


def test_who_waits_for_a_prefix_that_is_being_computed_waits_for_all_of_it():
    """With a short chunk, the last 31 tokens were computed once more by each who had waited."""
    context = [n % 15 + 1 for n in range(300)]
    model = Hashing(chunk=8, context_length=400, slots=4, features=frozenset({"copy"}))
    scores = list(score_continuations(Engine(model, Letters()), [(context, [n, 2, 3, 4, 5]) for n in range(1, 5)]))
    assert len(scores) == 4
    assert sum(len(step[1]) for steps in passes(model) for step in steps) <= 340


def test_a_score_says_whether_greedy_decoding_would_write_it():
    engine = Engine(ScriptedModel({2: 5, 3: 6}), Letters())
    assert [score.greedy for score in score_continuations(engine, [([1, 2], [5, 6]), ([1, 2], [5, 7])])] == [
        True,
        False,
    ]


def test_a_text_longer_than_the_context_is_scored_in_windows_each_token_once():
    ids = [n % 15 + 1 for n in range(40)]
    scored = score_text(Engine(Hashing(context_length=16), Letters()), ids, first=0)
    assert scored.tokens == tuple(ids)
    whole = score_text(Engine(Hashing(), Letters()), ids, first=0)
    assert scored.logprobs[:15] == whole.logprobs[:15]


@pytest.mark.parametrize("pair", [([], [1]), ([1], [])])
def test_nothing_cannot_be_scored(pair):
    with pytest.raises(InvalidParameter, match="has no token"):
        list(score_continuations(Engine(ScriptedModel(), Letters()), [pair]))


def test_a_scored_prompt_may_be_continued_as_an_echo_is():
    asked = request((1, 2, 3), max_tokens=2, logprobs=1, score_from=1)
    done = Completion.of(asked, Engine(ScriptedModel({1: 2, 2: 3, 3: 4, 4: 5}), Letters()).submit(asked))
    assert (Score.of(done.prompt_logprobs).tokens, done.tokens) == ((2, 3), (4, 5))
    assert Score.of(done.prompt_logprobs).greedy


# What a slot remembers


def grid(chunk, length):
    return lambda start: min((start // chunk + 1) * chunk, length) if start < length else start + 1


def test_pieces_that_were_cut_short_are_not_taken_for_ones_that_were_computed_so():
    pieces = Pieces()
    pieces.append(8)
    pieces.cut(5)
    assert pieces.equal_prefix(grid(5, 20), 5, 1) == 0
    assert pieces.equal_prefix(grid(5, 20), 5, 8) == 5


def test_decoded_tokens_stand_for_a_prompt_only_where_passes_are_interchangeable():
    pieces = Pieces()
    for size in (4, 4, 1, 1, 1):
        pieces.append(size)
    assert pieces.equal_prefix(grid(4, 12), 11, 1) == 8
    assert pieces.equal_prefix(grid(4, 12), 11, 4) == 11


def test_the_common_prefix_is_found_wherever_it_ends():
    a = list(range(100))
    assert [common_prefix(a, [*a[:n], -1], 200) for n in (0, 1, 50, 99, 100)] == [0, 1, 50, 99, 100]
    assert common_prefix(a, a, 7) == 7
