"""`run` and `chat` are logged, and `phiplug logs` shows what they said."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys

import pytest

TOY = ("-b", "toy", "-n", "12", "--seed", "1")


@pytest.fixture(autouse=True)
def logging(monkeypatch):
    for name in ("PHIPLUG_NO_LOG", "CI"):
        monkeypatch.delenv(name, raising=False)


def logged(phiplug):
    return json.loads(phiplug("logs", "list", "--json").out)


def test_an_answer_is_logged_and_the_first_one_says_where(phiplug, tmp_path):
    ran = phiplug("run", "hello", *TOY, "-s", "Be brief.", "--temp", "0.5")
    file = tmp_path / "state" / "phiplug" / "log.db"
    said = f"answers are kept in {file}; `phiplug logs` shows them, `phiplug logs off` ends that"
    assert ran.err.splitlines()[1:] == [said]
    assert said not in phiplug("run", "hello", *TOY).err
    first, second = logged(phiplug)
    assert (first["prompt"], first["system"], first["command"]) == ("hello", "Be brief.", "run")
    assert first["answer"] + "\n" == ran.out
    assert (first["model"], first["backend"], second["system"]) == ("toy", "toy", None)
    assert first["details"]["seed"] == 1
    assert first["details"]["completion_tokens"] == 12
    assert first["details"]["finish_reason"] == "length"
    assert first["details"]["sampling"]["temperature"] == 0.5


def test_json_and_every_choice_are_logged_too(phiplug):
    ran = phiplug("run", "hello", *TOY, "--json")
    assert [each["answer"] for each in logged(phiplug)] == [json.loads(ran.out)["text"]]
    phiplug("run", "hello", *TOY, "--choices", "2")
    assert [each["details"]["seed"] for each in logged(phiplug)] == [1, 1, 2]


def test_a_chat_is_one_conversation_until_it_is_reset(phiplug):
    phiplug("chat", *TOY, stdin="hello\nand you?\n/reset\nagain\n")
    conversations = [each["conversation"] for each in logged(phiplug)]
    assert conversations == [1, 1, 2]


def test_a_message_that_was_taken_back_is_in_the_log_and_in_no_answer(phiplug):
    phiplug("chat", *TOY, "-c", "64", stdin=f"hi\n{'x' * 80}\n")
    assert [each["prompt"] for each in logged(phiplug)] == ["hi"]


@pytest.mark.parametrize("name", ["PHIPLUG_NO_LOG", "CI"])
def test_the_environment_switches_it_off_and_the_flag_on(phiplug, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    phiplug("run", "hello", *TOY)
    listed = phiplug("logs", "list")
    assert (listed.out, listed.err) == ("", f"nothing is logged yet\nanswers are not logged now: {name} says so\n")
    phiplug("run", "hello", *TOY, "--log")
    assert len(logged(phiplug)) == 1


def test_the_flag_switches_it_off(phiplug, tmp_path):
    phiplug("run", "hello", *TOY, "--no-log")
    phiplug("chat", *TOY, "--no-log", stdin="hello\n")
    assert not (tmp_path / "state").exists()


def test_off_lasts_and_on_ends_it(phiplug, tmp_path):
    phiplug("run", "one", *TOY)
    file = tmp_path / "config" / "phiplug" / "config.toml"
    off = phiplug("logs", "off")
    assert off.err == (
        f"log = false is set in {file}\nwhat was logged stays in {phiplug('logs', 'path').out.strip()}; "
        "`phiplug cache clear log` removes it\n"
    )
    phiplug("run", "two", *TOY)
    assert phiplug("logs", "list").err == f"answers are not logged now: {file} says so\n"
    phiplug("logs", "on")
    phiplug("run", "three", *TOY)
    assert [each["prompt"] for each in logged(phiplug)] == ["one", "three"]


def test_on_says_what_keeps_it_off(phiplug, monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert phiplug("logs", "on").err.endswith("but CI is set, which decides\n")


def test_one_answer_is_shown_whole(phiplug):
    said = phiplug("run", "hello", *TOY, "-s", "Be brief.").out
    phiplug("run", "later", *TOY)
    shown = phiplug("logs", "show", "1")
    assert shown.out == said
    assert shown.err.startswith("run 1 · ")
    assert "12 new tokens · seed 1 · length\nsystem: Be brief.\nasked: hello\n" in shown.err
    assert "asked: later" in phiplug("logs", "show").err
    assert json.loads(phiplug("logs", "show", "1", "--json").out)["id"] == 1


def test_what_is_not_there_is_said(phiplug):
    assert phiplug("logs", "show").err == "error: number: nothing is logged yet [InvalidParameter]\n"
    phiplug("run", "hello", *TOY)
    ran = phiplug("logs", "show", "7")
    assert (ran.code, ran.err) == (2, "error: number: there is no answer 7 (the newest is 1) [InvalidParameter]\n")
    assert phiplug("logs", "search", "fire").err == "nothing is found\n"


def test_a_search_lists_what_it_found_one_a_line(phiplug):
    for text in ("amber", "birch", "amber\nbirch"):
        phiplug("run", text, *TOY)
    found = phiplug("logs", "search", "amber").out.splitlines()
    assert [line.split()[0] for line in found[2:]] == ["1", "3"]
    assert "amber birch" in found[3]


def test_escape_sequences_are_shown_and_not_obeyed(phiplug):
    phiplug("run", "\x1b[31mred", *TOY)
    assert "\x1b" not in phiplug("logs", "list").out
    assert "\\x1b[31mred" in phiplug("logs", "show").err


@pytest.fixture
def damaged(tmp_path):
    path = tmp_path / "state" / "phiplug" / "log.db"
    path.parent.mkdir(parents=True)
    path.write_text("no database" * 99)
    return path


def test_a_damaged_log_ends_no_answer_and_warns_once(phiplug, damaged):
    ran = phiplug("chat", *TOY, stdin="hello\nand you?\n")
    assert ran.code == 0
    assert len(ran.out) > 24
    warning = f"warning: the log {damaged} cannot be used: file is not a database; nothing more is logged\n"
    assert ran.err.count("warning") == ran.err.count(warning) == 1
    listed = phiplug("logs", "list")
    assert (listed.code, listed.out) == (1, "")
    assert listed.err == f"error: the log {damaged} cannot be used: file is not a database [LogFailed]\n"


def test_a_locked_log_ends_no_answer_and_warns(phiplug, tmp_path):
    phiplug("run", "hello", *TOY)
    other = sqlite3.connect(tmp_path / "state" / "phiplug" / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ran = phiplug("run", "hello", *TOY)
    other.close()
    assert (ran.code, len(ran.out)) == (0, 13)
    assert "database is locked; nothing more is logged\n" in ran.err


def test_a_config_that_makes_no_sense_is_named_before_anything_is_loaded(phiplug, tmp_path):
    file = tmp_path / "config" / "phiplug" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("lgo = false\n")
    ran = phiplug("run", "hello", *TOY)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (f"error: config: {file}: lgo: there is no such value (did you mean log?) [InvalidParameter]\n")


def test_a_chat_that_fails_to_load_leaves_no_open_log(tmp_path):
    script = "import sys; sys.argv = ['phiplug', 'run', 'x', '-b', 'nothing']\nfrom phiplug.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if name not in ("PHIPLUG_NO_LOG", "CI")}
    environment |= {"XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
