"""An answer on a terminal is rendered Markdown, unless it is not to be; a pipe gets it as it was written."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("termios")

PROGRAM = (sys.executable, "-c", "from phiplug.cli import main; main()")
DASHES = ("-b", "toy", "-n", "5", "--seed", "1", "--logit-bias", "45=1000")  # a rule, in Markdown
RULE, WRITTEN = "─" * 80, "-----"


def on_terminal(*arguments, stdin="", code=0, **variables):
    """Return what a terminal of 80 columns is sent: stdout, or the error where the command ends with another code."""
    near, far = os.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "CI": "1", "PYTHONIOENCODING": "utf-8", **variables}
    with subprocess.Popen(
        [*PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=far, stderr=far if code else subprocess.DEVNULL, env=env
    ) as process:
        os.close(far)
        process.stdin.write(stdin.encode())
        process.stdin.close()
        sent = b""
        try:
            while piece := os.read(near, 4096):
                sent += piece
        except OSError:  # what Linux says when the other end is closed
            pass
    os.close(near)
    assert process.returncode == code
    return sent.decode()


def test_run_and_chat_render_markdown():
    assert RULE in on_terminal("run", "hello", *DASHES)
    assert RULE in on_terminal("chat", *DASHES, stdin="hello\n")


@pytest.mark.parametrize("flag", ["--plain", "--raw", "--raw-output"])
def test_run_shows_it_as_it_is_written_where_that_is_wanted(flag):
    assert on_terminal("run", "hello", *DASHES, flag) == f"{WRITTEN}\r\n"


def test_an_answer_of_a_form_and_a_terminal_without_a_cursor_get_it_as_it_is_written():
    pytest.importorskip("llguidance")
    assert on_terminal("run", "hello", *DASHES, "--regex", "-{5}") == f"{WRITTEN}\r\n"
    assert on_terminal("run", "hello", *DASHES, TERM="dumb") == f"{WRITTEN}\r\n"


def test_chat_shows_it_as_it_is_written_where_that_is_wanted():
    assert on_terminal("chat", *DASHES, "--plain", stdin="hello\n") == f"{WRITTEN}\r\n"


def test_a_pipe_gets_it_as_it_is_written(phiplug):
    assert phiplug("run", "hello", *DASHES).out == f"{WRITTEN}\n"


def test_the_words_of_an_error_wrap():
    sent = on_terminal("models", "info", "no-such-model-anywhere", code=1, COLUMNS="40")
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in sent.split("\r\n")]
    assert lines[0].startswith("error: ")
    assert len(lines) > 2
    assert all(len(line) <= 40 for line in lines)
    assert lines[-2].endswith("[ModelNotFound]")
