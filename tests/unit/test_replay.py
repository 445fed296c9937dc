"""An answer that was interrupted goes on: the drawn tokens take the place of draws, and the rest is the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted import Letters, ScriptedModel

import phiplug_toy
from phiplug.engine import Engine, Scheduler
from phiplug.engine.backend import GuardedModel
from phiplug.errors import InvalidParameter
from phiplug.spi import LoadOptions, ModelFiles
from phiplug.types import Constraint, Request, SamplingParams
from phiplug_toy.tokenizer import ByteTokenizer

FILES = ModelFiles("toy", phiplug_toy.CORPUS, phiplug_toy.FORMAT)
PROMPT = tuple(b"The puck slides over the ice and ")
WARM = SamplingParams(temperature=1.5, top_p=0.99, repeat_penalty=1.0, seed=11)
KINDS = {
    "plain": Request(PROMPT, WARM, max_tokens=40),
    "greedy": Request(PROMPT, replace(WARM, temperature=0.0), max_tokens=40),
    "penalties": Request(
        PROMPT,
        replace(WARM, repeat_penalty=1.4, repeat_last_n=8, frequency_penalty=0.7, presence_penalty=0.3),
        max_tokens=40,
    ),
    "repetitions": Request(PROMPT, replace(WARM, dialect="llama.cpp", dry_multiplier=0.8), max_tokens=40),
    "candle's rules": Request(PROMPT, replace(WARM, dialect="candle"), max_tokens=40),
    "a stop string": Request(PROMPT, replace(WARM, temperature=0.2), max_tokens=60, stop=("e ", "zz")),
    "log-probabilities": Request(PROMPT, WARM, max_tokens=30, logprobs=3),
    "a scored prompt": Request(PROMPT, WARM, max_tokens=20, logprobs=1, score_from=1),
    "a form": Request(PROMPT, WARM, max_tokens=40, constraint=Constraint("regex", "(puck|goal){1,3} [a-z]{3,9} over")),
    "a form with log-probabilities": Request(
        PROMPT, WARM, max_tokens=40, logprobs=1, constraint=Constraint("choice", ("the goal", "the puck slides"))
    ),
    "characters in parts": Request(
        PROMPT,
        replace(WARM, temperature=0.0, logit_bias={0xC3: 40.0, 0xA9: 39.9}, frequency_penalty=9.0),
        max_tokens=9,
    ),
}


def engine(slots=1):
    return Engine(phiplug_toy.load(FILES, LoadOptions(slots=slots)), ByteTokenizer(), backend="toy")


def chunks_of(request):
    return [timeless(chunk) for chunk in engine().submit(request)]


def timeless(chunk):
    return replace(chunk, timings=None)


@pytest.mark.parametrize("request_", KINDS.values(), ids=KINDS)
def test_after_every_cut_the_stream_is_the_same_bit_for_bit(request_):
    whole = chunks_of(request_)
    drawn = [token for chunk in whole for token in chunk.tokens]
    for cut in range(len(drawn) + 1):
        assert chunks_of(replace(request_, replayed=tuple(drawn[:cut]))) == whole


def test_the_answers_of_this_file_are_not_empty_and_their_characters_come_in_parts():
    assert all(len(chunks_of(each)) > 3 for each in KINDS.values())
    assert any(chunk.tokens and not chunk.text for chunk in chunks_of(KINDS["characters in parts"]))


def test_replayed_tokens_are_fed_in_the_passes_of_the_first_run():
    first, second = ScriptedModel({3: 5, 4: 6, 5: 7, 6: 0}), ScriptedModel({})
    greedy = SamplingParams(temperature=0.0, repeat_penalty=1.0, seed=0)
    asked = Request((1, 2, 3), greedy, max_tokens=3)
    drawn = Engine(first, Letters()).submit(asked).completion().tokens
    Engine(second, Letters()).submit(replace(asked, replayed=drawn)).completion()
    assert second.log == first.log


def test_a_replayed_token_is_kept_even_where_the_model_would_draw_another():
    asked = replace(KINDS["greedy"], replayed=(1, 2, 3))
    assert engine().submit(asked).completion().tokens[:3] == (1, 2, 3)


def test_choices_that_were_interrupted_at_different_places_go_on_from_one_prompt():
    asked = replace(KINDS["plain"], max_tokens=12)
    seeded = [replace(asked, sampling=replace(WARM, seed=WARM.seed + index)) for index in range(3)]
    whole = [engine().submit(each).completion().tokens for each in seeded]
    scheduler = Scheduler(GuardedModel(phiplug_toy.load(FILES, LoadOptions(slots=3)), "toy"), ByteTokenizer())
    family = scheduler.add_family(
        [replace(each, replayed=whole[index][: 4 * index]) for index, each in enumerate(seeded)]
    )
    drawn = [[] for _ in family]
    while not scheduler.is_idle:
        for sequence, chunk in scheduler.step():
            drawn[family.index(sequence)].extend(chunk.tokens)
    assert [tuple(tokens) for tokens in drawn] == whole


def test_more_tokens_than_the_request_allows_are_no_replay():
    with pytest.raises(InvalidParameter, match="replayed: 3 tokens are more than"):
        replace(KINDS["plain"], max_tokens=2, replayed=(1, 2, 3))


def test_an_id_outside_the_vocabulary_is_no_replay():
    with pytest.raises(InvalidParameter, match="replayed: has an id outside"):
        engine().submit(replace(KINDS["plain"], replayed=(999,)))
