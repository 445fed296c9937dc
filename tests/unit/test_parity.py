"""How far two models agree, on models whose logits are written down."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from nudged import llm
from scripted import Letters, ScriptedModel

from phiplug.bench.parity import (
    CONTINUATION,
    NOISE_POSITIONS,
    Continuations,
    compare,
    continuations,
    default_prompts,
    draws,
    own_noise,
    shortcomings,
    split_prompts,
    work,
)
from phiplug.bench.paritypage import page
from phiplug.engine import Engine
from phiplug.errors import InvalidParameter
from phiplug.llm import LLM
from phiplug.spi import ModelFiles
from phiplug.text.template import ChatTemplate

TEXTS = ["abcdefghij", "klmno"]


def test_a_model_agrees_with_itself():
    found = compare(llm("a"), llm("b"), TEXTS, positions=12)
    assert found.names == ("a", "b")
    assert (found.agreement.positions, found.agreement.top1, found.differences, found.complete) == (12, 1.0, (), True)
    assert found.agreement.kl_mean == found.agreement.kl_p99 == found.agreement.max_difference == 0.0
    assert [(each.disagreement, each.differing, each.margin_mean) for each in found.agreement.draws] == [(0, 0, 0)] * 3
    assert shortcomings(found) == []
    assert continuations(llm("a"), llm("b"), TEXTS) == Continuations((None, None), (None, None))


def test_a_shift_of_a_whole_row_is_no_difference():
    plain = LLM(
        Engine(ScriptedModel(), Letters()),
        ChatTemplate("{{ messages[0].content }}"),
        files=ModelFiles("letters", Path("letters"), "gguf"),
        backend="plain",
    )
    assert compare(plain, llm("shifted"), TEXTS, positions=15).agreement.max_difference == pytest.approx(0.0, abs=1e-5)


def test_positions_where_the_likeliest_token_differs_are_counted():
    found = compare(llm("a"), llm("b", nudge=40.0, at=(2, 3, 4)), TEXTS[:1], positions=10)
    assert found.agreement.top1 == 0.7
    assert found.agreement.max_difference == pytest.approx(40.0 * 15 / 16)
    assert found.agreement.kl_mean == pytest.approx(3 / 10 * 20.0, rel=0.05)  # 20 is how far the token fell behind
    for each in found.agreement.draws:
        assert each.disagreement == pytest.approx(0.3, abs=0.02)
        assert each.differing == pytest.approx(0.3, abs=0.11)
        assert each.margin_mean > 1
    assert [len(each.before) for each in found.differences] == [3, 4, 5]
    assert found.differences[0].tops[0][0].token != found.differences[0].tops[1][0].token == 7


def test_draws_that_differ_more_often_than_noise_explains_are_a_shortcoming():
    found = compare(llm("a"), llm("b", nudge=40.0, at=range(10)), TEXTS[:1], positions=10)
    said = shortcomings(found, min_top1=0.5, max_kl=0.02)
    assert said[:2] == [
        "1.0000 of the draws differ, and their own noise allows 0.0600",
        "top-1 agreement 0.000 is below 0.5",
    ]
    assert said[2].startswith("mean KL 20")


def test_a_continuation_that_parts_says_where():
    found = continuations(llm("a"), llm("b", nudge=40.0, at=(12,)), TEXTS[:1])
    assert found.greedy == (3,)


def test_a_model_that_depends_on_how_its_prompt_is_cut_shows_as_noise():
    uneven = llm("b")
    plain_rows = uneven.engine.model.rows
    uneven.engine.model.rows = lambda step: (row * (1.1 if len(step.tokens) > 1 else 1.0) for row in plain_rows(step))
    found = compare(llm("a"), uneven, TEXTS, positions=12)
    assert found.noise[0].max_difference == 0.0
    assert found.noise[1].max_difference > 1.0
    assert own_noise(uneven, TEXTS, positions=12).max_difference == found.noise[1].max_difference


@pytest.mark.parametrize(("texts", "positions"), [([], 8), (["hello"], 0)])
def test_nothing_to_compare_is_refused(texts, positions):
    with pytest.raises(InvalidParameter, match="leave nothing to compare"):
        compare(llm("a"), llm("b"), texts, positions=positions)


def test_texts_are_cut_to_the_smaller_context():
    a, b = llm("a"), llm("b", context_length=6)
    assert compare(a, b, ["abcdefghij"], positions=10).agreement.positions == 6


def test_the_work_is_known_beforehand():
    done = []
    compare(llm("a"), llm("b"), TEXTS, positions=15, advance=done.append)
    assert sum(done) == work(15) == 2 * 15 + 4 * 15
    assert work(1000) == 2000 + 4 * NOISE_POSITIONS
    continued = []
    continuations(llm("a"), llm("b"), TEXTS, advance=continued.append)
    assert continued == [2 * CONTINUATION] * 4


def test_an_interruption_keeps_what_is_done():
    def interrupt_after(positions):
        done = []

        def advance(amount):
            done.append(amount)
            if sum(done) >= positions:
                raise KeyboardInterrupt

        return advance

    found = compare(llm("a"), llm("b"), TEXTS, positions=15, advance=interrupt_after(20))
    assert (found.agreement.positions, found.noise, found.complete) == (10, (None, None), False)
    later = compare(llm("a"), llm("b"), TEXTS, positions=15, advance=interrupt_after(2 * 15 + 4))
    assert (later.agreement.positions, later.noise[0].positions, later.noise[1]) == (15, 2, None)


def test_draws_are_those_of_the_sampler_at_each_position():
    found = np.array(draws(llm("a"), TEXTS, positions=12, seeds=3)).reshape(12, 3)
    assert np.array_equal(found, np.array(draws(llm("b"), TEXTS, positions=12, seeds=3)).reshape(12, 3))
    other = draws(llm("b", nudge=40.0, at=range(12)), TEXTS, positions=12, seeds=3)
    assert set(other) == {7}
    assert set(found.ravel().tolist()) != {7}


def test_the_page_shows_the_text_around_what_differs_and_fetches_nothing():
    a = llm("a<b")
    html = page(compare(a, llm("b", nudge=40.0, at=(2, 3)), TEXTS, positions=8), a)
    assert "2 of 8 positions have another likeliest token" in html
    assert "a&lt;b and b" in html
    assert "token 4 of its text" in html
    assert "<b" not in html.replace("<body", "")
    assert "http" not in html
    assert "Nowhere" in page(compare(a, llm("b"), TEXTS, positions=8), a)


def test_prompts_are_divided_by_hyphens():
    assert split_prompts("one\n---\n\n---\ntwo\nlines\n") == ["one", "two\nlines"]


def test_the_built_in_prompts_are_many_and_varied():
    prompts = default_prompts()
    assert len(prompts) >= 10
    assert sum(len(prompt) for prompt in prompts) > 5000


def test_parity_of_two_backends_from_the_command_line(phiplug):
    ran = phiplug("parity", "-m", "toy", "-b", "toy", "-b", "toy", "--positions", "40", "--json")
    report = json.loads(ran.out)
    assert ran.code == 0
    assert report["passed"]
    assert report["agreement"]["top1"] == 1.0
    shown = phiplug("parity", "-m", "toy", "-b", "toy", "-b", "toy", "--positions", "40")
    assert "they agree" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    warmer = phiplug("parity", "-b", "toy", "-b", "toy", "--positions", "9", "--temperature", "2", "--json")
    (drawn,) = json.loads(warmer.out)["agreement"]["draws"]
    assert (drawn["temperature"], drawn["top_p"], drawn["positions"]) == (2.0, 0.95, 9)


def test_parity_writes_a_page_and_continues_prompts_where_it_is_told_to(phiplug, tmp_path):
    path = tmp_path / "page.html"
    ran = phiplug("parity", "-b", "toy", "-b", "toy", "--positions", "9", "--html", str(path), "--continue")
    assert ran.code == 0
    assert "first difference of a seeded continuation, by prompt: none" in ran.out
    assert "0 of 9 positions" in path.read_text()


def test_ctrl_c_shows_what_is_done_and_is_an_exit_code(phiplug, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("phiplug.bench.parity._compare_with_itself", interrupted)
    ran = phiplug("parity", "-m", "toy", "-b", "toy", "-b", "toy", "--positions", "10")
    assert ran.code == 130
    assert "interrupted: 10 positions are done" in ran.out


def test_parity_fails_where_the_bounds_are_not_met(phiplug):
    ran = phiplug("parity", "-m", "toy", "-b", "toy", "-b", "toy", "--positions", "10", "--min-top1", "1.1")
    assert ran.code == 1
    assert "top-1 agreement 1.000 is below 1.1" in ran.out


@pytest.mark.parametrize("backends", [(), ("-b", "toy"), ("-b", "toy", "-b", "toy", "-b", "toy")])
def test_parity_compares_two(phiplug, backends):
    ran = phiplug("parity", "-m", "toy", *backends)
    assert ran.code == 2
    assert "parity compares two" in ran.err


def test_a_file_of_prompts_must_be_one(phiplug, tmp_path):
    (tmp_path / "empty").write_text("\n---\n")
    assert "holds no text" in phiplug("parity", "-b", "toy", "-b", "toy", "--prompts", str(tmp_path / "empty")).err
    assert "cannot be read" in phiplug("parity", "-b", "toy", "-b", "toy", "--prompts", str(tmp_path / "none")).err
