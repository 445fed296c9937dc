"""Errors: one line each, with an outcome for every class."""

from __future__ import annotations

import pytest

from phiplug import errors
from phiplug.errors import InvalidParameter, ModelNotFound, Outcome, PhiplugError, PromptTooLong, outcome_of


def every_class(root=PhiplugError):
    return [root, *(cls for child in root.__subclasses__() for cls in every_class(child))]


@pytest.mark.parametrize("cls", [cls for cls in every_class() if cls.__module__ == errors.__name__])
def test_every_class_has_an_outcome_of_its_own(cls):
    assert cls in errors._OUTCOMES
    outcome = errors._OUTCOMES[cls]
    assert outcome.exit_code in (1, 2)
    assert 400 <= outcome.http_status < 600
    assert outcome.openai_type in ("invalid_request_error", "server_error", "rate_limit_error")


def test_the_tree_in_the_docstring_names_every_class():
    named = errors.__doc__
    assert [
        cls.__name__ for cls in every_class() if cls.__module__ == errors.__name__ and cls.__name__ not in named
    ] == []


def test_a_class_that_a_plugin_derived_counts_as_its_nearest_ancestor():
    class GatedModel(ModelNotFound):
        """A plugin's own."""

    assert outcome_of(GatedModel("no")) == Outcome(1, 404, "invalid_request_error")


def test_an_error_is_one_line_with_its_hint_behind():
    error = ModelNotFound("there is\n  no file", hint="name another")
    assert str(error) == "there is no file (name another)"
    assert error.message == "there is no file"
    assert str(ModelNotFound("nothing")) == "nothing"


def test_a_parameter_is_named():
    error = InvalidParameter("top_p", "2 is outside [0, 1]")
    assert (error.name, str(error)) == ("top_p", "top_p: 2 is outside [0, 1]")


def test_a_prompt_that_is_too_long_says_both_numbers():
    error = PromptTooLong(5000, 4096)
    assert (error.prompt_tokens, error.context_length) == (5000, 4096)
    assert "5000" in str(error)
    assert "4096" in str(error)
