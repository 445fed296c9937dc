"""Several answers of one model at once: choices, batches, asyncio, scores and log-probabilities, on the toy backend."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import statistics
import threading

import numpy as np
import pytest

import phiplug
from phiplug.engine.scheduler import QUEUE
from phiplug.errors import InvalidParameter, NonFiniteLogits, PromptTooLong
from phiplug.llm import Score

PROMPT = "Tell me about the toy."
WARM = {"temperature": 1.5, "max_tokens": 12}


@pytest.fixture(scope="module")
def llm():
    with phiplug.load("toy", backend="toy", slots=3) as model:
        yield model


@pytest.fixture(scope="module")
def alone():
    """A model that does one thing at a time: what it says is what each request must get."""
    with phiplug.load("toy", backend="toy") as model:
        yield model


@pytest.fixture(autouse=True)
def idle(llm):
    """Whatever a test did to its streams, the next step leaves nothing in the scheduler, and answers go on."""
    yield
    llm.generate("still there?", seed=1, max_tokens=1)
    assert llm.engine.scheduler.is_idle


# Choices


def gathered(pairs, count):
    chunks = [[] for _ in range(count)]
    for index, chunk in pairs:
        chunks[index].append(chunk)
    return ["".join(chunk.text for chunk in each) for each in chunks], chunks


def test_each_choice_is_what_a_request_of_its_own_with_the_seed_plus_its_number_gives(llm, alone):
    texts, chunks = gathered(llm.choices(PROMPT, 5, seed=40, **WARM), 5)
    assert texts == [alone.generate(PROMPT, seed=40 + index, **WARM).text for index in range(5)]
    assert len(set(texts)) > 1
    assert all(
        [chunk.finish_reason is not None for chunk in each] == [False] * (len(each) - 1) + [True] for each in chunks
    )


def test_the_seeds_of_choices_go_round_at_64_bits(llm, alone):
    texts, _ = gathered(llm.choices(PROMPT, 2, seed=2**64 - 1, **WARM), 2)
    assert texts[1] == alone.generate(PROMPT, seed=0, **WARM).text


def test_choices_that_are_left_half_read_are_cancelled(llm):
    pairs = llm.choices(PROMPT, 3, seed=1, max_tokens=500)
    next(pairs)
    pairs.close()


def test_an_observer_hears_of_each_choice(llm, monkeypatch):
    heard = []
    monkeypatch.setattr(llm, "finished", lambda request, usage, timings: heard.append(request.sampling.seed))
    gathered(llm.choices(PROMPT, 3, seed=7, **WARM), 3)
    assert sorted(heard) == [7, 8, 9]


@pytest.mark.parametrize("logprobs", [None, 3])
def test_the_best_of_several_answers_has_the_highest_mean_log_probability(llm, logprobs):
    best = llm.best_of(PROMPT, 6, seed=40, logprobs=logprobs, **WARM)
    alone = [llm.generate(PROMPT, seed=40 + index, logprobs=0, **WARM) for index in range(6)]
    means = [statistics.fmean(entry.logprob for entry in answer.logprobs) for answer in alone]
    assert best.tokens == alone[means.index(max(means))].tokens
    assert best.mean_logprob == pytest.approx(max(means))
    assert {len(entry.top) for entry in best.logprobs} == {logprobs or 0}


def test_an_answer_without_a_token_is_never_the_best(llm):
    stops = dict.fromkeys(llm.tokenizer.stop_ids, 18.0)  # some seeds stop at once
    options = WARM | {"params": phiplug.SamplingParams(logit_bias=stops)}
    counts = [len(llm.generate(PROMPT, seed=seed, **options).tokens) for seed in range(8)]
    assert 0 in counts
    assert any(counts)
    assert llm.best_of(PROMPT, 8, seed=0, **options).tokens


# Batches


def test_a_batch_has_the_answers_that_its_prompts_have_alone_in_their_order(llm, alone):
    prompts = [f"{PROMPT} {'again ' * (index % 4)}{index}" for index in range(20)]
    answers = llm.generate_all(prompts, seed=3, **WARM)
    assert [answer.text for answer in answers] == [alone.generate(prompt, seed=3, **WARM).text for prompt in prompts]


def test_with_a_seed_equal_prompts_of_a_batch_have_equal_answers_and_without_one_each_draws_its_own(llm):
    seeded = llm.generate_all([PROMPT] * 3, seed=3, **WARM)
    assert len({answer.text for answer in seeded}) == 1
    free = llm.generate_all([PROMPT] * 3, **WARM)
    assert len({answer.sampling.seed for answer in free}) == 3


def test_a_batch_may_have_more_prompts_than_requests_may_wait(llm):
    count = QUEUE + 2 * 3
    assert len(llm.generate_all([PROMPT] * count, temperature=0.0, max_tokens=1)) == count


def test_a_batch_with_a_prompt_that_is_too_long_is_refused_before_anything_is_computed(llm, monkeypatch):
    monkeypatch.setattr(llm.engine._guarded, "forward", lambda steps: pytest.fail("something was computed"))
    with pytest.raises(PromptTooLong):
        llm.generate_all([PROMPT, "a" * 5000])


def test_a_batch_of_nothing_is_nothing(llm):
    assert llm.generate_all([]) == []


# asyncio


async def answered(llm, number, on_chunk=lambda: None):
    """Return the tokens of an answer that is read in a task."""
    tokens = ()
    async with contextlib.aclosing(llm.astream(f"{PROMPT} {number % 7}", seed=number, **WARM)) as chunks:
        async for chunk in chunks:
            tokens += chunk.tokens
            on_chunk()
    return tokens


def test_forty_tasks_over_three_slots_of_which_some_are_cancelled_get_no_wrong_token(llm, alone):
    chance = random.Random(5)
    doomed = {number: chance.randint(0, 6) for number in range(40) if chance.random() < 0.4}

    async def main():
        tasks = []

        def start(number):
            left = iter(range(doomed.get(number, 1000)))

            def on_chunk():
                if next(left, None) is None:
                    tasks[number].cancel()

            return asyncio.create_task(answered(llm, number, on_chunk))

        tasks += [start(number) for number in range(40)]
        for number in list(doomed)[::3]:  # some never begin, or end in their first step
            tasks[number].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(main())
    finished = {number: tokens for number, tokens in enumerate(found) if not isinstance(tokens, BaseException)}
    assert {type(found[number]) for number in range(40) if number not in finished} == {asyncio.CancelledError}
    assert set(range(40)) - set(doomed) <= set(finished)
    for number, tokens in finished.items():
        assert tokens == alone.generate(f"{PROMPT} {number % 7}", seed=number, **WARM).tokens


def test_the_event_loop_goes_on_while_an_answer_is_computed(llm, monkeypatch):
    """The pass waits for something that only the event loop can do."""
    loop_went_on = threading.Event()
    logits = llm.engine._guarded.logits

    def patient(asked, rows):
        assert loop_went_on.wait(60)
        return logits(asked, rows)

    monkeypatch.setattr(llm.engine._guarded, "logits", patient)

    async def main():
        task = asyncio.create_task(answered(llm, 1))
        await asyncio.sleep(0)
        loop_went_on.set()
        return await task

    assert asyncio.run(main())


def test_what_is_asked_wrongly_is_raised_in_the_task(llm):
    async def main():
        async for _ in llm.astream(PROMPT, top_p=2.0):
            pass

    with pytest.raises(InvalidParameter, match="top_p"):
        asyncio.run(main())


# Log-probabilities


def test_each_token_has_its_log_probability_and_the_likeliest_beside_it(llm):
    answer = llm.generate(PROMPT, seed=2, logprobs=4, **WARM)
    assert [entry.token for entry in answer.logprobs] == list(answer.tokens)
    for entry in answer.logprobs:
        assert entry.bytes == llm.tokenizer.token_bytes(entry.token)
        assert len(entry.top) == 4
        assert [each.logprob for each in entry.top] == sorted((each.logprob for each in entry.top), reverse=True)
        assert entry.logprob <= entry.top[0].logprob <= 0.0
    assert answer.text == llm.generate(PROMPT, seed=2, **WARM).text


def test_log_probabilities_are_those_that_a_score_gives_to_the_same_tokens(llm):
    answer = llm.generate("The toy", raw=True, seed=2, logprobs=0, **WARM)
    (score,) = llm.score("The toy", [answer.text])
    assert score.tokens == answer.tokens
    assert score.logprobs == pytest.approx([entry.logprob for entry in answer.logprobs], abs=1e-9)
    assert all(entry.top == () for entry in answer.logprobs)


def test_log_probabilities_are_not_computed_where_nobody_asks(llm):
    assert llm.generate(PROMPT, seed=2, **WARM).logprobs == ()


@pytest.mark.parametrize("count", [-1, 21, 1.5])
def test_at_most_twenty_may_be_asked_for(llm, count):
    with pytest.raises(InvalidParameter, match="logprobs"):
        llm.stream(PROMPT, logprobs=count)


# Scores


def expected(llm, ids, start):
    """The log-softmax in float64 of the rows that a pass over the same ids returns, at the ids from `start` on."""
    rows = np.concatenate(list(llm.engine.rows(ids))).astype(np.float64)
    peaks = rows.max(axis=1, keepdims=True)
    logs = rows - peaks - np.log(np.exp(rows - peaks).sum(axis=1, keepdims=True))
    return [logs[at - 1, ids[at]] for at in range(start, len(ids))]


def test_a_score_is_a_log_softmax_of_the_models_rows_in_any_order(llm):
    continuations = [" a page.", " text", " text that is long enough to take several passes of the toy." * 2]
    scores = llm.score("The toy is", continuations)
    assert llm.score("The toy is", continuations[::-1]) == scores[::-1]
    context = [llm.tokenizer.bos_id, *b"The toy is"]
    for score, text in zip(scores, continuations, strict=True):
        assert score.logprobs == pytest.approx(expected(llm, [*context, *text.encode()], len(context)), abs=1e-9)
        assert score.total == pytest.approx(sum(score.logprobs))


def test_a_score_says_whether_greedy_decoding_would_write_it(llm):
    written = llm.generate("The toy", raw=True, temperature=0.0, repeat_penalty=1.0, max_tokens=5).text
    assert [score.greedy for score in llm.score("The toy", [written, written[:-1] + "\x01"])] == [True, False]


def test_spaces_at_the_end_of_a_prompt_are_scored_with_the_continuation(llm):
    (spaced,), (plain,) = llm.score("The toy ", ["is"]), llm.score("The toy", [" is"])
    assert spaced == plain


def test_a_conversation_is_rendered_before_it_is_scored(llm):
    messages = [{"role": "user", "content": "hello"}]
    assert llm.score(messages, ["hi"]) == llm.score(llm.render(messages), ["hi"])


def test_an_empty_prompt_is_scored_after_the_beginning_of_a_sequence(llm):
    (score,) = llm.score("", ["The toy"])
    assert score == llm.score_text("The toy")


def test_more_continuations_are_scored_than_requests_may_wait(llm):
    scores = llm.score("The toy", [" is"] * (QUEUE + 20))
    assert len(scores) == QUEUE + 20
    assert len(set(scores)) == 1


def test_a_text_of_many_windows_is_scored_each_token_once():
    text = "The toy is a page of text. " * 200
    told = []
    with phiplug.load("toy", backend="toy", ctx_size=16) as small:
        score = small.score_text(text, told.append)
    assert len(text) // 15 > QUEUE
    assert score.tokens == tuple(text.encode())
    assert sum(told) == len(text)


NOTHING = {
    "an empty continuation": lambda llm: llm.score("The toy", [""]),
    "a continuation that is no text": lambda llm: llm.score("The toy", [None]),
    "an empty text": lambda llm: llm.score_text(""),
    "a lone surrogate": lambda llm: llm.score_text("a\udc80"),
}


@pytest.mark.parametrize("call", NOTHING.values(), ids=NOTHING)
def test_what_is_no_text_or_an_empty_one_cannot_be_scored(llm, call):
    with pytest.raises(InvalidParameter):
        call(llm)


def test_a_pair_that_is_too_long_is_refused(llm):
    with pytest.raises(PromptTooLong):
        llm.score("a" * 4000, ["b" * 200])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_has_no_score(llm, monkeypatch, bad):
    logits = llm.engine._guarded.logits
    with monkeypatch.context() as patched:
        patched.setattr(llm.engine._guarded, "logits", lambda asked, rows: logits(asked, rows) * np.float32(bad))
        with pytest.raises(NonFiniteLogits, match="a row of the backend toy"):
            llm.score("The toy", [" is"])


def test_the_perplexity_of_a_score_comes_with_its_standard_error():
    logprobs = (-1.0, -2.0, -4.0)
    score = Score((1, 2, 3), logprobs, sum(logprobs), greedy=False)
    assert score.perplexity == pytest.approx(math.exp(7 / 3))
    error = statistics.stdev(logprobs) / math.sqrt(3)
    assert score.perplexity_error == pytest.approx(math.exp(7 / 3) * error)
    assert Score((1,), (-1.0,), -1.0, greedy=False).perplexity_error is None


def test_the_perplexity_of_what_is_impossible_is_infinite_and_has_no_error():
    for worst in (-math.inf, -1e6):
        score = Score((1, 2), (-1.0, worst), worst - 1.0, greedy=False)
        assert (score.perplexity, score.perplexity_error) == (math.inf, None)
