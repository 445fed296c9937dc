"""Tests what a line asks for, what is wrong with it, and the seeds that follow from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.batch.seeds import name_of, seed_of
from phiplug.batch.source import Line, digest_of
from phiplug.batch.tasks import CHAT, TEXT, TaskReader

ENVELOPE = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"messages": []}}
VECTORS = [
    ((0, "request-1", 1), 12310558061156318433),
    ((0, "request-2", 1), 3376434552354671790),
    ((1, "request-1", 1), 17744368699475781701),
    ((0, None, 1), 10821743391561177678),
    ((2**64 - 1, "ä\N{SNOWMAN}", 9), 15138356976621065295),
]


def task(written, reader=None, number=1):
    data = written if isinstance(written, bytes) else json.dumps(written).encode()
    return (reader or TaskReader()).task(Line(number, data, digest_of(data)))


def test_openais_form_has_its_body_and_its_url():
    found = task(ENVELOPE)
    assert (found.custom_id, found.url, found.body, found.error) == ("a", CHAT, {"messages": []}, None)
    assert task({**ENVELOPE, "url": TEXT}).url == TEXT


def test_a_plain_prompt_is_a_users_message_and_a_raw_one_a_text():
    plain = task({"prompt": "Hi", "seed": 1})
    assert (plain.url, plain.body) == (CHAT, {"seed": 1, "messages": [{"role": "user", "content": "Hi"}]})
    raw = task({"custom_id": "x", "prompt": "Hi"}, TaskReader(raw=True))
    assert (raw.custom_id, raw.url, raw.body) == ("x", TEXT, {"prompt": "Hi"})
    assert task({"messages": [1]}).body == {"messages": [1]}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"", "the line is empty"),
        (b"  ", "the line is empty"),
        (b"{", "not JSON"),
        (b"[1]", "is list"),
        (b'{"prompt": "\\ud800"}', "lone surrogate"),
        ({}, "either prompt or messages"),
        ({"prompt": "a", "messages": []}, "either prompt or messages"),
        ({"prompt": ""}, "is empty"),
        ({"prompt": ["a"]}, "is not text"),
        ({"custom_id": 3, "prompt": "a"}, "custom_id: int"),
        ({"custom_id": "", "prompt": "a"}, "0 characters"),
        ({"custom_id": "a" * 513, "prompt": "a"}, "513 characters"),
        ({**ENVELOPE, "custom_id": None}, "custom_id is missing"),
        ({**ENVELOPE, "method": "GET"}, "method"),
        ({**ENVELOPE, "url": "/v1/embeddings"}, "'/v1/embeddings' is not served"),
        ({**ENVELOPE, "body": 3}, "body: 3 is not an object"),
        ({**ENVELOPE, "bodi": 3}, "bodi is not a field"),
        ({"method": "POST"}, "is missing"),
    ],
)
def test_what_is_wrong_is_the_tasks_error(written, said):
    assert said in str(task(written).error)


def test_an_id_that_came_before_is_refused_with_its_line_and_has_no_id():
    reader = TaskReader()
    first, again = (
        task({"custom_id": "a", "prompt": "b"}, reader, 3),
        task({"custom_id": "a", "prompt": "c"}, reader, 9),
    )
    assert (first.error, again.custom_id) == (None, None)
    assert "that of line 3 already" in str(again.error)
    assert first.key != again.key


def test_a_line_keeps_its_id_whatever_else_is_wrong_with_it():
    assert task({"custom_id": "a", "prompt": 3}).custom_id == "a"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["custom_id", "method", "url", "body", "prompt", "messages", "seed", "n"])


@given(st.lists(st.binary(max_size=40) | st.dictionaries(NAMES, ANYTHING, max_size=4), max_size=8))
def test_every_line_gives_one_task_whatever_it_holds(lines):
    reader = TaskReader()
    found = [task(each, reader, number) for number, each in enumerate(lines, 1)]
    assert [each.line for each in found] == list(range(1, len(lines) + 1))
    assert len({each.key for each in found}) == len(lines)
    assert all((each.error is None) == (each.body is not None) for each in found)


@pytest.mark.parametrize(("asked", "seed"), VECTORS)
def test_a_seed_follows_from_the_batchs_seed_and_the_id(asked, seed):
    assert seed_of(*asked) == seed


def test_a_line_with_an_id_has_its_seed_and_its_name_wherever_it_stands():
    assert seed_of(0, "a", 1) == seed_of(0, "a", 2)
    assert name_of("a", 1) == name_of("a", 2)
    assert len({seed_of(0, None, 1), seed_of(0, None, 2), seed_of(0, "1", 1), seed_of(0, "line:1", 1)}) == 4


def test_the_vectors_in_the_docs_are_these():
    page = (Path(__file__).parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
    for (seed, custom_id, line), expected in VECTORS:
        assert f"| {seed} | {custom_id or ''}{' ' * bool(custom_id)}| {line} | {expected} |" in page
