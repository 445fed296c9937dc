"""The token loop: what it asks of a backend, in which order, and what it yields."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scripted import Letters, ScriptedModel, V

from phiplug.engine import Engine
from phiplug.engine.scheduler import QUEUE
from phiplug.errors import (
    BackendFailed,
    ContractMismatch,
    InvalidParameter,
    ModelBusy,
    NonFiniteLogits,
    OutOfMemory,
    PhiplugWarning,
    PromptTooLong,
    RequestError,
)
from phiplug.types import Completion, PromptProgress, Request, SamplingParams

GREEDY = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)


def request(ids=(1, 2, 3), **changes):
    return Request(tuple(ids), changes.pop("sampling", GREEDY), **changes)


def answer(engine, asked):
    return Completion.of(asked, engine.submit(asked))


def script(start, *tokens):
    """The model prefers these ids at the positions from `start` on."""
    return {start + n: token for n, token in enumerate(tokens)}


def test_text_is_streamed_a_chunk_per_token_and_the_last_one_says_why_it_ended():
    engine = Engine(ScriptedModel(script(3, 4, 5, 6, 0)), Letters())
    chunks = list(engine.submit(request()))
    assert [(chunk.text, chunk.tokens) for chunk in chunks] == [("d", (4,)), ("e", (5,)), ("f", (6,)), ("", ())]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, None, "stop"]
    assert chunks[-1].usage.completion_tokens == 3
    assert chunks[0].usage is None


def test_a_stop_id_is_neither_text_nor_among_the_tokens():
    done = answer(Engine(ScriptedModel(script(3, 4, 0)), Letters()), request())
    assert (done.text, done.tokens, done.finish_reason) == ("d", (4,), "stop")


def test_an_answer_of_nothing_but_control_tokens_is_warned_of():
    engine = Engine(ScriptedModel(script(3, 4, 5, 6, 0)), Letters(dict.fromkeys(range(V), b"")))
    with pytest.warns(PhiplugWarning, match=r"no text: each of its tokens \(3\) is a control token"):
        assert answer(engine, request()).text == ""


def test_benchmarks_may_go_on_past_a_stop_id():
    done = answer(Engine(ScriptedModel(script(3, 4, 0, 5)), Letters()), request(max_tokens=3, ignore_stop_ids=True))
    assert (done.tokens, done.finish_reason) == ((4, 0, 5), "length")


def test_an_answer_ends_at_max_tokens_and_nothing_is_computed_beyond():
    model = ScriptedModel(script(3, 4, 5, 6))
    done = answer(Engine(model, Letters()), request(max_tokens=2))
    assert (done.tokens, done.finish_reason) == ((4, 5), "length")
    assert model.forwarded() == [1, 2, 3, 4]


def test_an_answer_ends_where_the_context_does():
    done = answer(Engine(ScriptedModel(context_length=5), Letters()), request(max_tokens=50))
    assert (len(done.tokens), done.finish_reason) == (3, "length")  # the last one is not fed any more


def test_a_stop_string_ends_the_answer_wherever_tokens_cut_it():
    engine = Engine(ScriptedModel(script(3, 4, 5, 6, 7)), Letters())
    done = answer(engine, request(stop=("ef",)))
    assert (done.text, done.tokens, done.finish_reason) == ("d", (4, 5, 6), "stop")


def test_the_beginning_of_a_stop_string_that_never_completes_is_text_after_all():
    done = answer(Engine(ScriptedModel(script(3, 4, 5, 0)), Letters()), request(stop=("exx",)))
    assert done.text == "de"


def test_a_character_that_spans_tokens_is_shown_when_it_is_whole_and_a_cut_one_is_replaced():
    spelling = {4: "é".encode()[:1], 5: "é".encode()[1:], 6: b"\xf0\x9f"}
    engine = Engine(ScriptedModel(script(3, 4, 5, 6, 0)), Letters(spelling))
    assert [chunk.text for chunk in engine.submit(request())] == ["", "é", "", "�"]


def test_a_prompt_is_prefilled_in_chunks_and_only_its_last_row_is_asked_for():
    model = ScriptedModel(script(9, 0), chunk=4)
    answer(Engine(model, Letters()), request(range(1, 10)))
    assert [entry[1] for entry in model.log if entry[0] == "forward"] == [
        ((0, (1, 2, 3, 4), 0),),
        ((0, (5, 6, 7, 8), 0),),
        ((0, (9,), 1),),
    ]


def test_the_next_pass_is_asked_for_before_the_text_of_the_last_is_handed_out():
    model = ScriptedModel(script(3, 4, 5, 0))
    stream = Engine(model, Letters()).submit(request())
    assert next(stream).tokens == (4,)
    assert model.forwarded() == [1, 2, 3, 4]
    stream.close()


def test_a_second_turn_computes_only_what_is_new():
    model = ScriptedModel(script(3, 4, 5, 0) | script(7, 0))
    engine = Engine(model, Letters())
    answer(engine, request((1, 2, 3)))
    model.log.clear()
    done = answer(engine, request((1, 2, 3, 4, 5, 6, 7)))
    assert model.forwarded() == [6, 7]
    assert done.usage.cached_tokens == 5


def test_the_last_id_of_a_prompt_is_always_computed_again():
    model = ScriptedModel(script(3, 0))
    engine = Engine(model, Letters())
    first, second = answer(engine, request()), answer(engine, request())
    assert second.usage.cached_tokens == 2
    assert first.tokens == second.tokens


def test_a_repeatable_request_reuses_only_whole_chunks_that_were_prefilled_as_such():
    model = ScriptedModel(script(10, 5, 0), chunk=4)
    engine = Engine(model, Letters())
    answer(engine, request(range(1, 11)))
    done = answer(engine, request(range(1, 11), repeatable=True))
    assert done.usage.cached_tokens == 8
    grown = answer(engine, request((*range(1, 11), 5, 7, 8), repeatable=True))
    assert grown.usage.cached_tokens == 8  # the ninth to the eleventh were not computed as one chunk


def test_a_benchmark_reuses_nothing():
    engine = Engine(ScriptedModel(script(3, 0)), Letters())
    answer(engine, request())
    assert answer(engine, request(reuse=False)).usage.cached_tokens == 0


def test_a_prompt_that_goes_another_way_is_cut_back_to_where_they_part():
    model = ScriptedModel()
    engine = Engine(model, Letters())
    answer(engine, request((1, 2, 3), max_tokens=1))
    answer(engine, request((1, 9, 3), max_tokens=1))
    assert model.held[0] == [1, 9, 3]


def test_several_prompts_are_decoded_side_by_side_in_one_pass_each():
    model = ScriptedModel(script(2, 4, 5, 0), slots=3, chunk=8)
    engine = Engine(model, Letters())
    asked = [request((1, 2)), request((3, 4)), request((5, 6))]
    chunks = list(engine.stream_all(asked))
    assert [[chunk.tokens for who, chunk in chunks if who == n] for n in range(3)] == [[(4,), (5,), ()]] * 3
    decoding = [entry[1] for entry in model.log if entry[0] == "forward"]
    assert [len(steps) for steps in decoding] == [3, 3, 3]  # the prompts share a pass, too


def test_a_sequence_that_ends_leaves_the_others_going():
    model = ScriptedModel(script(2, 4, 5, 6), slots=2)
    asked = [request((1, 2), max_tokens=1), request((3, 4), max_tokens=3)]
    chunks = list(Engine(model, Letters()).stream_all(asked))
    assert [who for who, _ in chunks] == [0, 1, 1, 1]


def test_each_request_takes_the_slot_that_holds_most_of_it():
    model = ScriptedModel(slots=2)
    engine = Engine(model, Letters())
    list(engine.stream_all([request((1, 2, 3), max_tokens=1), request((7, 8, 9), max_tokens=1)]))
    model.log.clear()
    answer(engine, request((7, 8, 9), max_tokens=1))
    assert model.forwarded(slot=1) == [9]


def test_more_requests_than_slots_wait_for_one():
    engine = Engine(ScriptedModel(script(3, 4, 0)), Letters())
    chunks = list(engine.stream_all([request(), request(), request()]))
    assert [who for who, chunk in chunks if chunk.finish_reason] == [0, 1, 2]


def test_a_prompt_beyond_the_context_is_refused_at_once_with_both_numbers():
    model = ScriptedModel(context_length=8)
    with pytest.raises(PromptTooLong, match="9 tokens long and the context holds 8"):
        Engine(model, Letters()).submit(request(range(9)))
    assert model.log == []


@pytest.mark.parametrize("wrong", [-1, V])
def test_an_id_that_the_model_does_not_have_is_refused(wrong):
    with pytest.raises(InvalidParameter, match=r"vocabulary of 16|-1 is outside"):
        Engine(ScriptedModel(), Letters()).submit(request((1, wrong)))


def test_closing_a_stream_cancels_it_and_the_next_one_starts_clean():
    model = ScriptedModel(script(3, 4, 5, 6, 0))
    engine = Engine(model, Letters())
    stream = engine.submit(request())
    next(stream)
    stream.close()
    assert answer(engine, request()).tokens == (4, 5, 6)


def test_a_stream_that_nobody_reads_is_carried_to_its_end_and_keeps_its_chunks():
    engine = Engine(ScriptedModel(script(3, 4, 5, 6, 0)), Letters())
    first = engine.submit(request())
    assert next(first).tokens == (4,)
    assert answer(engine, request()).tokens == (4, 5, 6)
    assert [chunk.tokens for chunk in first] == [(5,), (6,), ()]


def test_a_stream_that_was_dropped_before_it_began_is_no_burden():
    model = ScriptedModel(script(3, 4, 5, 6, 0))
    engine = Engine(model, Letters())
    engine.submit(request((9, 9)))
    assert answer(engine, request()).tokens == (4, 5, 6)
    assert 9 not in model.forwarded()


def test_two_streams_that_one_pool_thread_reads_both_end():
    engine = Engine(ScriptedModel(script(3, 4, 5, 6, 0)), Letters())
    streams = [engine.submit(request()), engine.submit(request())]
    with ThreadPoolExecutor(max_workers=1) as pool:
        read = [(next(stream).tokens, next(stream).tokens) for stream in streams for _ in range(1)]
        rest = [pool.submit(lambda stream=stream: [chunk.tokens for chunk in stream]).result(10) for stream in streams]
    assert (read, rest) == ([((4,), (5,))] * 2, [[(6,), ()]] * 2)


def test_a_full_queue_is_what_busy_means():
    engine = Engine(ScriptedModel(), Letters())
    waiting = [engine.submit(request()) for _ in range(QUEUE)]
    with pytest.raises(ModelBusy, match="256 requests wait"):
        engine.submit(request())
    for stream in waiting:
        stream.close()
    assert answer(engine, request(max_tokens=1)).tokens == (1,)


def test_threads_take_turns():
    engine = Engine(ScriptedModel(script(3, 4, 5, 6, 7, 0)), Letters())
    done = []
    threads = [threading.Thread(target=lambda: done.append(answer(engine, request()).tokens)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert done == [(4, 5, 6, 7)] * 8


def test_the_last_chunk_reaches_a_reader_who_looks_before_the_step_is_over():
    engine = Engine(ScriptedModel(script(3, 4, 0)), Letters())
    stream = engine.submit(request())
    ended, looked = threading.Event(), threading.Event()
    honest = engine.scheduler.step

    def step():
        produced = honest()
        if any(chunk.finish_reason for _, chunk in produced):
            ended.set()
            looked.wait(0.2)
        return produced

    engine.scheduler.step = step
    helper = threading.Thread(target=lambda: answer(engine, request((9,), max_tokens=3)))
    helper.start()
    assert ended.wait(10)
    chunks = list(stream)
    looked.set()
    helper.join(timeout=10)
    assert [chunk.finish_reason for chunk in chunks] == [None, "stop"]


def test_a_backend_that_breaks_is_named_and_what_came_before_stands():
    model = ScriptedModel(script(3, 4, 5, 6, 7), fails_at=6)
    engine = Engine(model, Letters(), backend="the backend scripted")
    stream = engine.submit(request())
    assert [next(stream).tokens for _ in range(3)] == [(4,), (5,), (6,)]
    with pytest.raises(BackendFailed, match="the backend scripted failed: RuntimeError: the engine broke"):
        next(stream)
    model.fails_at = None
    assert answer(engine, request(max_tokens=2)).tokens == (4, 5)


def test_a_backend_without_memory_raises_a_typed_error():
    engine = Engine(ScriptedModel(fails_at=1, error=MemoryError()), Letters())
    with pytest.raises(OutOfMemory, match="ctx_size"):
        next(engine.submit(request()))


def test_an_interrupt_goes_through_as_it_is_and_the_model_is_free_again():
    model = ScriptedModel(fails_at=1, error=KeyboardInterrupt())
    engine = Engine(model, Letters())
    with pytest.raises(KeyboardInterrupt):
        next(engine.submit(request()))
    model.fails_at = None
    assert next(engine.submit(request())).tokens == (1,)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((1, V - 1), np.float32), r"shape \(1, 15\)"),
        (np.zeros((2, V), np.float32), r"shape \(2, 16\)"),
        (np.zeros((1, V), np.float64), "float64"),
    ],
)
def test_logits_of_the_wrong_form_are_the_backends_fault(wrong, said, monkeypatch):
    model = ScriptedModel()
    monkeypatch.setattr("scripted.ScriptedPass.logits", lambda self: wrong)
    with pytest.raises(ContractMismatch, match=said):
        next(Engine(model, Letters()).submit(request()))


def test_logits_that_are_no_numbers_end_the_stream(monkeypatch):
    monkeypatch.setattr("scripted.ScriptedPass.logits", lambda self: np.full((1, V), np.nan, np.float32))
    with pytest.raises(NonFiniteLogits):
        next(Engine(ScriptedModel(), Letters()).submit(request()))


def test_threads_are_chosen_anew_only_before_requests_that_allow_it():
    model = ScriptedModel(script(3, 0))
    engine = Engine(model, Letters())
    answer(engine, request())
    assert model.autotunes == 0
    answer(engine, request(may_autotune=True))
    assert model.autotunes == 1


def test_timings_and_usage_are_counted():
    done = answer(Engine(ScriptedModel(script(3, 4, 5, 0)), Letters()), request())
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (3, 2)
    assert 0 < done.timings.prefill_s <= done.timings.ttft_s
    assert done.timings.decode_tps == pytest.approx(1 / done.timings.decode_s)


def test_one_token_has_no_decode_speed():
    done = answer(Engine(ScriptedModel(), Letters()), request(max_tokens=1))
    assert done.timings.decode_tps is None
    assert done.timings.ttft_s is not None


def test_the_same_seed_gives_the_same_tokens_and_another_gives_others():
    flat = SamplingParams(temperature=1e6, top_p=1.0, repeat_penalty=1.0, seed=1)
    drawn = [
        answer(
            Engine(ScriptedModel(), Letters()), request(sampling=sampling, max_tokens=20, ignore_stop_ids=True)
        ).tokens
        for sampling in (flat, flat, SamplingParams(temperature=1e6, top_p=1.0, repeat_penalty=1.0, seed=2))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_closing_ends_open_streams_with_a_typed_error_and_does_not_wait_for_their_readers():
    model = ScriptedModel()
    engine = Engine(model, Letters())
    begun, waiting = engine.submit(request()), engine.submit(request())
    next(begun)
    engine.close()
    assert model.closed == 1
    for stream in (begun, waiting):
        with pytest.raises(RequestError, match="the model was closed"):
            list(stream)
    with pytest.raises(RequestError, match="the model was closed"):
        engine.submit(request())


def test_closing_waits_for_the_pass_that_another_thread_makes():
    model = ScriptedModel(script(3, 4, 5, 6, 7, 0))
    engine = Engine(model, Letters())
    computing, go_on = threading.Event(), threading.Event()
    honest = model.forward

    def slow(steps):
        computing.set()
        assert go_on.wait(10)
        assert model.closed == 0
        return honest(steps)

    model.forward = slow
    stream = engine.submit(request())
    errors = []

    def read():
        try:
            list(stream)
        except RequestError as error:
            errors.append(error.message)

    reader = threading.Thread(target=read)
    reader.start()
    assert computing.wait(10)
    closer = threading.Thread(target=engine.close)
    closer.start()
    closer.join(timeout=0.1)
    assert model.closed == 0
    go_on.set()
    reader.join(timeout=10)
    closer.join(timeout=10)
    assert (errors, model.closed) == (["the model was closed"], 1)


def test_a_backend_that_cannot_autotune_is_named():
    model = ScriptedModel()
    model.autotune = lambda: 1 / 0
    with pytest.raises(BackendFailed, match="ZeroDivisionError"):
        next(Engine(model, Letters()).submit(request(may_autotune=True)))


def test_a_slot_that_kept_less_than_whole_chunks_is_cut_to_them():
    model = ScriptedModel(script(10, 5, 0), chunk=4)
    engine = Engine(model, Letters())
    answer(engine, request(range(1, 11)))
    honest = model.rewind
    model.rewind = lambda slot, length: honest(slot, min(length, 6))
    assert answer(engine, request(range(1, 11), repeatable=True)).usage.cached_tokens == 4


def test_closing_the_engine_closes_the_model():
    model = ScriptedModel()
    Engine(model, Letters()).close()
    assert model.closed == 1


class WithControl(Letters):
    """Has the control token <c>, id 5."""

    def encode(self, text, *, parse_special=True):
        return [5] if text == "<c>" else super().encode(text)

    def control_tokens_in(self, text):
        return ["<c>"] if "<c>" in text else []

    def token_bytes(self, token):
        return b"" if token == 5 else super().token_bytes(token)


@pytest.mark.parametrize("ignore", [False, True])
def test_a_stop_string_that_is_a_control_tokens_text_ends_the_answer_by_its_id(ignore):
    engine = Engine(ScriptedModel(script(3, 4, 5, 6, 0)), WithControl())
    done = answer(engine, request(stop=("x", "<c>"), max_tokens=4, ignore_stop_ids=ignore))
    assert (done.text, done.tokens, done.finish_reason) == ("d", (4,), "stop")


def test_how_much_of_a_prompt_was_read_is_seen_while_it_is_read():
    seen = []

    class Watched(ScriptedModel):
        def forward(self, steps):
            seen.append(stream.progress.done)
            return super().forward(steps)

    engine = Engine(Watched(script(11, 4, 0)), Letters())
    stream = engine.submit(request(range(1, 12)))
    list(stream)
    assert seen[:3] == [0, 4, 8]
    assert stream.progress == PromptProgress(11, 0, 11)
    again = engine.submit(request(range(1, 12)))
    list(again)
    assert again.progress.reused == 10
