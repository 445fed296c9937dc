"""A chat that is taken back, answered anew, let another model go on, and gone on with another day."""

from __future__ import annotations

import json
import re

import pytest

TOY = ("chat", "-b", "toy", "-n", "12", "--temp", "0.9")


@pytest.fixture
def logging(monkeypatch):
    for name in ("PHIPLUG_NO_LOG", "CI"):
        monkeypatch.delenv(name, raising=False)


def messages(ran):
    return int(re.search(r"messages +(\d+)\n", ran.err)[1])


def test_undo_takes_back_the_last_question_and_its_answer(phiplug):
    ran = phiplug(*TOY, stdin="one\ntwo\n/undo\n/stats\n/undo\n/undo\n")
    assert "taken back: two\n" in ran.err
    assert messages(ran) == 2
    assert ran.err.endswith("taken back: one\nerror: undo: nothing was asked yet [InvalidParameter]\n")


def test_retry_answers_the_last_question_anew(phiplug):
    ran = phiplug(*TOY, "--seed", "1", stdin="one\n/set seed 3\n/retry\n/stats\n")
    again = phiplug(*TOY, "--seed", "3", stdin="one\n")
    assert ran.out.splitlines()[1:] == again.out.splitlines()
    assert ran.out.splitlines()[0] != again.out.strip()
    assert messages(ran) == 2
    assert "seed 3 is set, so the answer may be the same" in ran.err
    assert "nothing was asked yet" in phiplug(*TOY, stdin="/retry\n").err


def test_another_model_goes_on_or_the_old_one_does(phiplug):
    ran = phiplug(*TOY, "-m", "toy", stdin="one\n/model toy\ntwo\n/model none.gguf\nthree\n/stats\n")
    assert "[ModelNotFound]" in ran.err
    assert len(ran.out.splitlines()) == 3
    assert messages(ran) == 6


def test_several_lines_between_quotes_are_one_message(phiplug, tmp_path):
    file = tmp_path / "kept.json"
    phiplug(*TOY, stdin=f'"""one\ntwo"""\n/save {file}\n')
    assert json.loads(file.read_text())["messages"][0]["content"] == "one\ntwo"


def test_a_chat_goes_on_with_what_was_said_and_not_undone(phiplug, tmp_path, logging):
    phiplug(*TOY, "-s", "Be brief.", stdin="one\ntwo\n/undo\n")
    file = tmp_path / "kept.json"
    ran = phiplug(*TOY, "--continue", stdin=f"three\n/save {file}\n")
    assert "going on after 2 messages\n" in ran.err
    said = json.loads(file.read_text())["messages"]
    assert [each["content"] for each in said if each["role"] != "assistant"] == ["Be brief.", "one", "three"]
    again = phiplug(*TOY, "--continue", stdin="/undo\n/undo\n/stats\n")
    assert "going on after 4 messages\n" in again.err
    assert messages(again) == 1
    conversations = {each["conversation"] for each in json.loads(phiplug("logs", "list", "--json").out)}
    assert conversations == {1}


def test_what_was_loaded_from_a_file_is_gone_on_with_too(phiplug, tmp_path, logging):
    file = tmp_path / "kept.json"
    phiplug(*TOY, stdin=f"one\n/save {file}\n")
    phiplug(*TOY, stdin=f"/load {file}\ntwo\n")
    assert "going on after 4 messages\n" in phiplug(*TOY, "--continue", stdin="").err


def test_without_a_logged_chat_there_is_none_to_go_on_with(phiplug, logging):
    phiplug("run", "hello", "-b", "toy", "-n", "3")
    ran = phiplug(*TOY, "--continue", stdin="hello\n")
    assert (ran.code, ran.out, ran.err) == (2, "", "error: continue: no chat is logged yet [InvalidParameter]\n")


def test_set_says_a_word_on_each(phiplug):
    ran = phiplug(*TOY, stdin="/set\n/set top_k\n")
    assert re.search(r"^temperature 0\.9 +0 is greedy", ran.err, re.MULTILINE)
    assert ran.err.endswith("top_k 0  only so many of the likeliest tokens; 0 is off\n")
