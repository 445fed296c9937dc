"""Tests that each line has one row, and that a row's text depends on nothing but its line and the batch's terms."""

from __future__ import annotations

import json
import random

import pytest
from batches import BAD, SCHEMA, TOOL, bad, enveloped, good, llm, rows, run, tasks
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedModel

from phiplug.batch.asking import Asking, Terms
from phiplug.batch.conduct import require_independence
from phiplug.batch.rows import compared, written
from phiplug.batch.running import Run
from phiplug.batch.seeds import seed_of
from phiplug.batch.tasks import CHAT
from phiplug.errors import BackendFailed, InvalidParameter
from phiplug.forms.problems import Refused
from phiplug.types import Request


def texts(found):
    """Rows by id, without their places: what must not change."""
    return {row["custom_id"]: {**compared(row), "line": 0} for row in found}


def said(row):
    return row["response"]["body"]["choices"][0]["message"]["content"]


GOOD = good(24)
REFERENCE = texts(rows(GOOD, slots=1))


def test_a_row_is_what_the_server_answers_with_openais_envelope_and_the_line():
    (row,) = rows([{"custom_id": "a", **enveloped(CHAT, messages=[{"role": "user", "content": "Hi"}], max_tokens=3)}],
                  created=77)  # fmt: skip
    assert list(row) == ["id", "custom_id", "response", "error", "line", "digest"]
    assert (row["custom_id"], row["line"], row["error"]) == ("a", 1, None)
    assert row["response"]["status_code"] == 200
    body = row["response"]["body"]
    assert (body["object"], body["created"], body["model"]) == ("chat.completion", 77, "toy")
    assert body["id"].removeprefix("chatcmpl-") == row["id"].removeprefix("batch_req_")
    assert body["usage"]["completion_tokens"] == 3


@settings(max_examples=12, deadline=None)
@given(st.permutations(range(len(GOOD))), st.integers(1, 6), st.integers(1, len(GOOD)))
def test_a_text_depends_neither_on_neighbours_nor_on_order_nor_on_slots(order, slots, kept):
    chosen = [GOOD[at] for at in order[:kept]]
    assert texts(rows(chosen, slots=slots)) == {line["custom_id"]: REFERENCE[line["custom_id"]] for line in chosen}


def test_a_beginning_that_lines_share_is_computed_once():
    long = "Once upon a time there was a toy that spoke of nothing but its page, again and again and again. " * 2
    found = rows([{"prompt": f"{long}{at}", "max_tokens": 2} for at in range(6)], slots=2)
    cached = [row["response"]["body"]["usage"]["prompt_tokens_details"]["cached_tokens"] for row in found]
    assert sum(count > 100 for count in cached) >= 4


def test_a_lines_own_seed_counts_and_else_it_follows_from_the_batchs_and_the_id():
    own = {"prompt": "Tell me", "max_tokens": 20}
    found = {row["custom_id"]: said(row) for row in rows([{"custom_id": name, **own} for name in "ab"])}
    (by_seed,) = rows([{"custom_id": "z", **own, "seed": seed_of(0, "a", 1)}], seed=5)
    (of_another,) = rows([{"custom_id": "a", **own}], seed=1)
    assert found["a"] == said(by_seed)
    assert len({*found.values(), said(of_another)}) == 3


@pytest.mark.parametrize(("named", "line"), bad(len(BAD)), ids=BAD)
def test_an_error_is_a_row_that_says_what_is_wrong(named, line):
    (row,) = rows([line])
    assert any(part in row["error"]["message"] for part in named.split("|")), row["error"]
    assert row["error"] == row["response"]["body"]["error"]
    assert row["response"]["status_code"] >= 400
    assert written(row).count(b"\n") == 1


def test_every_line_has_one_row_good_or_bad():
    lines = [*GOOD, *(line for _, line in bad(2 * len(BAD)))]
    random.Random(1).shuffle(lines)
    found = rows(lines)
    assert sorted(row["line"] for row in found) == list(range(1, len(lines) + 1))
    assert texts(row for row in found if row["error"] is None) == REFERENCE


def test_schemas_and_tools_hold_as_in_the_server():
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    lines = [
        {"custom_id": "schema", "prompt": "Say", "response_format": form, "max_tokens": 400},
        {"custom_id": "wrong", "prompt": "Say", "response_format": {"type": "json_schema", "json_schema":
            {"name": "x", "schema": {"type": "nothing"}}}},
        {"custom_id": "tool", "prompt": "Say", "tools": [TOOL], "tool_choice": "other"},
    ]  # fmt: skip
    found = {row["custom_id"]: row for row in rows(lines)}
    assert json.loads(said(found["schema"])).keys() == {"a"}
    assert found["wrong"]["error"]["param"] == "response_format.json_schema.schema"
    assert "tool_choice" in found["tool"]["error"]["message"]


def test_more_prompts_than_the_queue_holds_are_one_row():
    (row,) = rows([{"custom_id": "a", "prompt": ["Once"] * 300, "max_tokens": 1}], raw=True)
    assert len(row["response"]["body"]["choices"]) == 300


def test_raw_prompts_are_continued_and_max_tokens_is_for_lines_that_do_not_say():
    first, second = rows([{"prompt": "Once"}, {"prompt": "Once", "max_tokens": 2}], raw=True, max_tokens=7, slots=1)
    counts = {row["line"]: row["response"]["body"]["usage"]["completion_tokens"] for row in (first, second)}
    assert counts == {1: 7, 2: 2}


def test_who_stops_a_run_gets_the_rows_of_the_open_lines_and_no_others():
    found, iterator = run(good(200), slots=2)
    first = next(iterator)
    opened = found.open
    found.stop()
    rest = list(iterator)
    assert 0 < opened <= 4
    assert len(rest) == opened
    assert texts([first, *rest]).keys() <= {f"good-{at}" for at in range(200)}


def test_who_leaves_a_run_leaves_nothing_in_the_engine():
    model = llm(slots=2)
    iterator = run(good(20), model=model)[1]
    next(iterator)
    iterator.close()
    for _ in range(3):
        model.engine.scheduler.step()
    assert model.engine.scheduler.is_idle
    assert texts(rows(GOOD, model=model)) == REFERENCE


def test_a_line_that_does_not_come_can_be_given_up():
    def waiting():
        yield from tasks(good(2))
        raise KeyboardInterrupt

    model = llm()
    found = Run(model, Asking(model, Terms(names=("toy",))), waiting())
    assert len([row for row in found.rows() if row]) == 2


class Failing(ScriptedModel):
    """Fails each pass that has the id 9."""

    def forward(self, steps):
        if any(9 in step.tokens for step in steps):
            raise BackendFailed("the pass failed")
        return super().forward(steps)


def scripted(model):
    found = llm()
    found.engine = type(found.engine)(model, Letters(), backend="toy")
    return found


def test_a_line_whose_pass_fails_is_an_error_and_its_neighbours_live():
    model = scripted(Failing(slots=4, row_independence="all"))
    asking = Asking(model, Terms(names=("toy",)))
    asked = [
        {"custom_id": str(at), **enveloped("/v1/completions", prompt=[1 + at, 2], max_tokens=2)} for at in range(12)
    ]
    found = {row["custom_id"]: row for row in Run(model, asking, tasks(asked)).rows() if row}
    assert {name for name, row in found.items() if row["error"]} == {"8"}
    assert found["8"]["response"]["status_code"] == 500
    assert "the pass failed" in found["8"]["error"]["message"]


class Letters:
    """Spells the ids of a `ScriptedModel`."""

    vocab_size, bos_id, adds_bos, stop_ids, special_tokens = 16, None, False, frozenset({0}), {}

    def encode(self, text, *, parse_special=True):
        return [1 + ord(each) % 8 for each in text]

    def control_tokens_in(self, text):
        return []

    def token_bytes(self, token):
        return bytes([96 + token]) if token else b""


def test_an_engine_whose_rows_depend_on_neighbours_is_refused_unless_rows_may_be_mixed():
    info = scripted(ScriptedModel(row_independence="none")).info
    with pytest.raises(InvalidParameter, match="mixed"):
        require_independence(info, mixed=False)
    require_independence(info, mixed=True)
    require_independence(scripted(ScriptedModel(row_independence="decode")).info, mixed=False)


@pytest.mark.parametrize(("mixed", "independence", "repeats"), [
    (False, "decode", True), (True, "decode", True), (True, "none", False),
])  # fmt: skip
def test_rows_are_computed_together_where_they_may_be_mixed(mixed, independence, repeats):
    model = scripted(ScriptedModel(row_independence=independence))
    (task,) = tasks([enveloped("/v1/completions", prompt=[1]) | {"custom_id": "a"}])
    (request,) = Asking(model, Terms(names=("toy",), mixed=mixed)).prepare(task).requests
    assert isinstance(request, Request)
    assert request.repeatable is repeats


def test_what_is_open_when_a_task_is_refused_goes_on():
    model = llm()
    (task,) = tasks([{"prompt": "a", "nothing": 1}])
    with pytest.raises(Refused, match="nothing"):
        Asking(model, Terms(names=("toy",))).prepare(task)
