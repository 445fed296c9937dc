"""What a daily user asks of `phiplug run` beside the prompt: quiet, statistics, files, an answer's beginning, help."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

TOY = ("-b", "toy", "-n", "12", "--seed", "1")


def test_where_stdout_is_no_terminal_statistics_are_given_on_demand(phiplug):
    assert phiplug("run", "hello", *TOY).err == "cut off: --max-tokens\n"
    said = phiplug("run", "hello", *TOY, "--usage").err
    assert "12 new tokens" in said
    assert said.endswith("· seed 1 · cut off: --max-tokens\n")


def test_quiet_leaves_nothing_on_stderr(phiplug, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").touch()
    assert "the prompt is the name of a file" in phiplug("run", "notes", *TOY).err
    assert phiplug("run", "notes", *TOY, "-q").err == ""
    both = phiplug("run", "hello", *TOY, "-q", "--usage")
    assert (both.code, both.out) == (2, "")
    assert both.err == "error: usage: --quiet is given too (drop one of them) [InvalidParameter]\n"


@pytest.mark.parametrize("command", [("run", "hello"), ("chat",)])
def test_a_system_message_may_come_from_a_file(phiplug, tmp_path, command):
    (tmp_path / "system.txt").write_text("Be brief.\n", encoding="utf-8")
    given = phiplug(*command, *TOY, "-s", "Be brief.", stdin="hello\n")
    assert phiplug(*command, *TOY, "--system-file", str(tmp_path / "system.txt"), stdin="hello\n") == given
    both = phiplug(*command, *TOY, "--system-file", str(tmp_path / "system.txt"), "-s", "x")
    assert both.err == "error: system_file: --system is given too (one of them is enough) [InvalidParameter]\n"
    assert "none.txt cannot be read" in phiplug(*command, *TOY, "--system-file", "none.txt").err


def test_an_answer_begins_as_it_is_told_to(phiplug):
    ran = phiplug("run", "hello", *TOY, "--prefill", "Once upon ", "--json")
    report = json.loads(ran.out)
    assert report["prefill"] == "Once upon "
    assert bytes(report["prompt_ids"][-10:]).decode() == "Once upon "  # the toy's tokens are bytes
    assert phiplug("run", "hello", *TOY, "--prefill", "Once upon ").out == f"Once upon {report['text']}\n"
    assert (
        phiplug("run", "hello", *TOY, "--prefill", "Once upon ", "--no-stream").out == f"Once upon {report['text']}\n"
    )


def test_a_real_model_goes_on_after_the_beginning(phiplug, smollm2, llama_cpp):
    asked = ("run", "The capital of France?", "-m", str(smollm2), "-b", "llama-cpp", "--threads", "1", "--temp", "0")
    begun = "The capital of France is"
    assert phiplug(*asked, "--prefill", begun, "-n", "1").out == f"{begun} Paris\n"


def test_the_whole_answer_is_logged(phiplug, monkeypatch):
    monkeypatch.delenv("PHIPLUG_NO_LOG")
    monkeypatch.delenv("CI", raising=False)
    ran = phiplug("run", "hello", *TOY, "--prefill", "Once upon ")
    assert phiplug("logs", "show").out == ran.out


REFUSED = {
    "a raw prompt": (("--raw",), "prefill: a raw prompt has no messages"),
    "a form": (("--regex", "a+"), "prefill: an answer of a form begins as the form says"),
    "a control token": (("--strict-content", "--prefill", "<|end|>"), "the assistant message holds the control token"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_begin_an_answer_is_refused(phiplug, name):
    flags, said = REFUSED[name]
    ran = phiplug("run", "hello", *TOY, "--prefill", "x", *flags)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_a_call_that_is_required_has_no_beginning(phiplug, tmp_path):
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    (tmp_path / "tools.json").write_text(json.dumps([{"type": "function", "function": function}]))
    tools = ("--tools", str(tmp_path / "tools.json"), "--tool-choice", "required")
    ran = phiplug("run", "hello", *TOY, "--prefill", "x", *tools)
    assert ran.err == "error: prefill: the answer is to begin with a call (required) [InvalidParameter]\n"


def test_help_and_version_are_commands_too(phiplug):
    assert phiplug("version").out == phiplug("--version").out
    assert phiplug("help").out == phiplug("--help").out
    assert phiplug("help", "models", "pull").out == phiplug("models", "pull", "--help").out
    assert phiplug("help", "models", "pull").code == 0


@pytest.mark.parametrize(
    ("words", "count", "found"),
    [
        ("phiplug mo", 1, ["models"]),
        ("phiplug run --system-", 2, ["--system-file"]),
        ("phiplug models un", 2, ["unalias"]),
    ],
)
def test_the_shell_completes_commands_and_flags(words, count, found):
    asked = {"_PHIPLUG_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    command = [sys.executable, "-c", "from phiplug.cli import main; main()"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == found
