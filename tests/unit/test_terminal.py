"""What the Tab key offers in a chat."""

from __future__ import annotations

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from phiplug.cli.terminal import _completer

WORDS = {"/set": {"temperature": None, "top_p": None, "top_k": None}, "/stats": None, "/help": None}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("/st", ["/stats"]),
        ("/s", ["/set", "/stats"]),
        ("/set te", ["temperature"]),
        ("/set ", ["temperature", "top_p", "top_k"]),
        ("/help x", []),
        ("hello", []),
        ("", []),
    ],
)
def test_a_command_and_its_argument_are_completed(typed, offered):
    found = _completer(WORDS).get_completions(Document(typed), CompleteEvent())
    assert [completion.text for completion in found] == offered


def test_a_completion_replaces_what_was_typed():
    (found,) = _completer(WORDS).get_completions(Document("/set te"), CompleteEvent())
    assert found.start_position == -2
