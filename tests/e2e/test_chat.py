"""`phiplug chat` out of a pipe, and as a person drives it in a terminal."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import fields

import pytest

from phiplug.conversation import Conversation
from phiplug.errors import UnsupportedParameter

PHIPLUG = (sys.executable, "-c", "from phiplug.cli import main; main()")
TOY = ("chat", "-b", "toy", "-n", "12", "--seed", "1")


def test_each_line_of_a_pipe_is_a_turn_and_stdout_has_the_answers_alone(phiplug):
    ran = phiplug(*TOY, "--temp", "0", stdin="hello\n\nand you?\n")
    one = phiplug("run", "hello", "-b", "toy", "-n", "12", "--temp", "0")
    assert ran.code == 0
    assert ran.out.startswith(one.out)
    assert len(ran.out) > len(one.out)
    assert ran.err == "cut off after max_tokens, 12\n" * 2


def test_a_second_turn_computes_only_what_is_new(phiplug):
    ran = phiplug(*TOY, stdin="hello\nand you?\n/stats\n")
    first = len("hello") + len("user: \nassistant: ") + 2 + 12  # a bos, a stop after the question, and 12 new tokens
    assert f"({first - 1} reused)" in ran.err  # all but the last of the new tokens, which no pass was needed for


def test_a_real_model_computes_only_what_is_new_in_a_second_turn(phiplug, smollm2, llama_cpp):
    model = ("-m", str(smollm2), "-b", "llama-cpp", "--threads", "1")
    ran = phiplug("chat", *model, "-n", "8", "--temp", "0", stdin="Say hello.\nAgain, please.\n/stats\n")
    prompt, reused = map(int, re.search(r"(\d+) prompt tokens \((\d+) reused\)", ran.err).groups())
    first = json.loads(phiplug("run", "Say hello.", *model, "-n", "8", "--temp", "0", "--json").out)
    assert first["prompt_tokens"] + len(first["tokens"]) - 1 <= reused < prompt
    assert prompt - reused < 20


def test_an_error_costs_a_turn_and_the_chat_goes_on(phiplug):
    ran = phiplug(*TOY, "-c", "64", stdin=f"{'x' * 80}\nhello\n/stats\n")
    assert ran.code == 2  # of the first error: a script must see that something went wrong
    assert "[PromptTooLong]" in ran.err
    assert "your message was taken back" in ran.err
    assert re.search(r"messages +2\n", ran.err)
    assert ran.out.strip()


def test_a_setting_changes_the_next_answer(phiplug):
    ran = phiplug(*TOY, stdin="/set max_tokens 3\n/set seed none\n/set dialect candle\nhello\n")
    assert ran.err == "max_tokens is 3\nseed is null\ndialect is candle\ncut off after max_tokens, 3\n"
    assert len(ran.out) == len("abc\n")


WRONG = {
    "/set temperature 3x": "temperature: '3x' is not a number [InvalidParameter]",
    "/set temprature 1": "did you mean temperature?) [InvalidParameter]",
    "/rset": "there is no /rset (did you mean /reset?) [InvalidParameter]",
    "/etc/passwd": "a message that begins with / needs a space",
    "/save": "save: needs FILE [InvalidParameter]",
    "/load ~nosuch/x": "~nosuch/x cannot be read: No such file or directory [InvalidParameter]",
    "/save ~nosuch/x": "~nosuch/x cannot be written: No such file or directory [InvalidParameter]",
    "/load a\0b": "cannot be read: embedded null byte [InvalidParameter]",
    "/load none.json": "none.json cannot be read: No such file or directory [InvalidParameter]",
    "/reset now": "reset: takes nothing, and there is 'now' [InvalidParameter]",
    "/backend tpu": "'tpu' is not installed",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_command_that_cannot_be_obeyed_says_so_and_the_chat_goes_on(phiplug, line):
    ran = phiplug(*TOY, stdin=f"{line}\nhello\n")
    complaint = ran.err.splitlines()[0]
    assert complaint.startswith("error: ")
    assert WRONG[line] in complaint
    assert ran.out.strip()


def test_help_names_every_command(phiplug):
    from phiplug.cli.slash import COMMANDS

    ran = phiplug(*TOY, stdin="/help\n")
    assert ran.out == ""
    for name, command in COMMANDS.items():
        assert f"/{name}" in ran.err
        assert command.summary in ran.err


@pytest.mark.parametrize("leave", ["/exit", "/quit", "/bye"])
def test_nothing_is_read_after_leaving(phiplug, leave):
    ran = phiplug(*TOY, stdin=f"{leave}\nhello\n")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_an_error_that_nobody_expected_costs_a_turn_and_the_chat_goes_on(phiplug, monkeypatch):
    answers = iter([ZeroDivisionError("of a plugin"), None])
    send = Conversation.send

    def fail_once(self, text):
        error = next(answers)
        if error:
            raise error
        return send(self, text)

    monkeypatch.setattr(Conversation, "send", fail_once)
    ran = phiplug(*TOY, stdin="hello\nand you?\n")
    assert ran.code == 1
    assert ran.err.startswith("error: ZeroDivisionError: of a plugin (this is a bug: report it) [PhiplugError]\n")
    assert ran.out.strip()


def test_a_conversation_is_saved_and_gone_on_with(phiplug, tmp_path):
    file = tmp_path / "talk.json"
    phiplug(*TOY, "-s", "be kind", stdin=f"hello\n/save {file}\n")
    saved = json.loads(file.read_text())
    assert [message["role"] for message in saved["messages"]] == ["system", "user", "assistant"]
    assert (saved["model"], saved["backend"]) == ("toy", "toy")
    ran = phiplug(*TOY, stdin=f"/load {file}\n/stats\n/reset\n/stats\n/system\n/stats\n")
    assert re.findall(r"messages +(\d)", ran.err) == ["3", "1", "0"]


@pytest.mark.slow
def test_another_engine_goes_on_with_the_conversation(phiplug, smollm2, llama_cpp, mlx):
    model = ("-m", str(smollm2), "-b", "llama-cpp")
    lines = "Say hello.\n/backend mlx\nAgain, please.\n/stats\n"
    ran = phiplug("chat", *model, "-n", "4", "--temp", "0", "--threads", "1", stdin=lines)
    assert ran.code == 0
    assert "without --threads: threads: MLX chooses its threads itself" in ran.err
    assert "mlx on cpu" in ran.err
    assert re.search(r"messages +4", ran.err)
    assert ran.out.count("\n") >= 2


def test_a_warning_is_said_once_and_not_at_every_turn(phiplug, tmp_path):
    (tmp_path / "deaf.jinja").write_text("{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}")
    ran = phiplug(*TOY, "-s", "be kind", "--chat-template", str(tmp_path / "deaf.jinja"), stdin="hello\nand you?\n")
    assert ran.err.count("drops the system message") == 1


def test_bytes_that_are_no_text_are_named(tmp_path):
    done = subprocess.run(
        [*PHIPLUG, *TOY],
        input=b"\xff\xfe\n",
        capture_output=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8:strict"},
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: prompt: standard input is not UTF-8")
    assert done.stderr.count(b"\n") == 1


def test_a_byte_order_mark_is_no_part_of_the_first_line(phiplug):
    assert phiplug(*TOY, stdin="\ufeff/help\n").out == ""


class Terminal:
    """A pseudo-terminal with a chat in it; whatever is waited for comes within a minute or fails the test."""

    def __init__(self, folder, *arguments):
        import fcntl
        import termios

        self.screen = ""
        self.folder = folder
        self.keys, far = os.openpty()
        self.process = subprocess.Popen(
            [*PHIPLUG, "chat", *arguments],
            cwd=folder,
            stdin=far,
            stdout=far,
            stderr=far,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  so that Ctrl-C is a signal
            env={**os.environ, "TERM": "xterm", "XDG_CACHE_HOME": str(folder), "XDG_STATE_HOME": str(folder)},
        )
        os.close(far)

    def type(self, keys):
        os.write(self.keys, keys.encode())

    def wait_for(self, text):
        """Read on until `text` has come; return what came before it."""
        until = time.monotonic() + 60
        while text not in self.screen:
            left = until - time.monotonic()
            assert left > 0, f"{text!r} did not come after {self.screen!r}"
            if not select.select([self.keys], [], [], left)[0]:
                continue
            try:
                self.screen += os.read(self.keys, 4096).decode(errors="replace")
            except OSError:  # what Linux says when the other end is closed
                assert text in self.screen, f"it ended before {text!r}: {self.screen!r}"
        before, _, self.screen = self.screen.partition(text)
        return before

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.keys)


@pytest.fixture
def terminal(tmp_path):
    pytest.importorskip("fcntl")
    opened = []

    def start(*arguments):
        opened.append(Terminal(tmp_path, *arguments))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


ASKING = "\x1b[?2004h"  # what prompt_toolkit sends once for each line that it asks for, when keys are its own
ENDLESS = ("-b", "toy", "-n", "1000000", "-c", "4096", "--seed", "1", "--logit-bias", "257=-1000")


def test_ctrl_c_stops_the_answer_and_not_the_chat(terminal):
    screen = terminal(*ENDLESS)
    screen.wait_for(ASKING)
    screen.type("hello\r")
    screen.wait_for("hello")
    screen.wait_for(" the ")  # of the answer
    screen.type("\x03")
    screen.wait_for("stopped; what was said is kept")
    screen.wait_for(ASKING)
    screen.type("/set max_tokens 5\r")
    screen.wait_for("max_tokens is 5")
    screen.wait_for(ASKING)
    screen.type("and you?\r")
    screen.wait_for("cut off after max_tokens")
    screen.wait_for(ASKING)
    screen.type("/stats\r")
    assert re.search(r"messages +4", screen.wait_for("last answer"))
    screen.wait_for(ASKING)
    screen.type("\x04")
    assert screen.process.wait(timeout=60) == 0


def test_ctrl_c_at_an_empty_prompt_says_how_to_leave_and_ctrl_d_leaves(terminal):
    screen = terminal(*ENDLESS)
    screen.wait_for(ASKING)
    screen.type("half a line\x03")
    screen.wait_for(ASKING)
    screen.type("\x03")
    assert "half a line" not in screen.wait_for("Ctrl-D or /exit leaves")
    screen.wait_for(ASKING)
    screen.type("\x04")
    assert screen.process.wait(timeout=60) == 0


@pytest.mark.parametrize("typed", ["", "hello\r"], ids=["at the prompt", "in an answer"])
def test_sigterm_leaves_the_terminal_with_its_echo(terminal, typed):
    import termios

    screen = terminal(*ENDLESS)
    screen.wait_for(ASKING)
    if typed:
        screen.type(typed)
        screen.wait_for(" the ")  # of the answer
    assert not termios.tcgetattr(screen.keys)[3] & termios.ECHO
    screen.process.terminate()
    screen.wait_for("\x1b[?2004l\x1b[?25h")
    assert screen.process.wait(timeout=60) == -signal.SIGTERM
    assert termios.tcgetattr(screen.keys)[3] & termios.ECHO


@pytest.mark.parametrize("raw", [(), ("--raw-output",)])
def test_escape_sequences_of_a_model_do_not_reach_a_terminal(terminal, raw):
    screen = terminal("-b", "toy", "-n", "3", "--seed", "1", "--logit-bias", "7=1000", *raw)
    screen.wait_for(ASKING)
    screen.type("hello\r")
    assert ("\x07" * 3 in screen.wait_for("cut off")) == bool(raw)


def test_what_was_typed_is_remembered_for_the_next_chat(terminal):
    for keys in ("/set max_tokens 7\r", "\x1b[A\r"):  # the second time with the arrow up
        screen = terminal(*ENDLESS)
        screen.wait_for(ASKING)
        screen.type(keys)
        screen.wait_for("max_tokens is 7")
        screen.wait_for(ASKING)
        screen.type("\x04")
        assert screen.process.wait(timeout=60) == 0


def test_several_lines_are_one_message(terminal):
    screen = terminal(*ENDLESS)
    screen.wait_for(ASKING)
    screen.type("/system one\x1b\rtwo\r")  # Alt-Enter
    screen.wait_for("the system message is set")
    screen.wait_for(ASKING)
    screen.type("/save talk.json\r")
    screen.wait_for("1 message is saved in talk.json")
    saved = json.loads((screen.folder / "talk.json").read_text())
    assert saved["messages"] == [{"role": "system", "content": "one\ntwo"}]


def test_a_context_that_the_other_engine_cannot_have_is_refused(monkeypatch):
    from phiplug.cli.flags import LoadFlags
    from phiplug.cli.slash import _loaded

    def refuse(self, name):
        raise UnsupportedParameter("ctx_size", "9 is too short")

    monkeypatch.setattr(LoadFlags, "load_on", refuse)
    flags = LoadFlags(**dict.fromkeys(field.name for field in fields(LoadFlags)) | {"ctx_size": 9})
    with pytest.raises(UnsupportedParameter, match="9 is too short"):
        _loaded(flags, "mlx")
