"""Templates mean what transformers makes of them: rows that were run with it, or that its rules decide.

The templates are other people's, so they are not part of this repository; they lie beside it, where the project is
developed. Everybody else has this project's own templates, in `tests/data/templates`.
"""

import copy
import json
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from phiplug.errors import TemplateFailed
from phiplug.text.sandbox import Sandbox

SOURCE = Path(__file__).parents[3] / "shared" / "golden" / "chat_templates.json"
ROWS = json.loads(SOURCE.read_text(encoding="utf-8"))["records"] if SOURCE.is_file() else []
LEAKS = ("<class", "<module", "function", "root:", "object at")


def given(row):
    """The variables of a row, as transformers would set them."""
    if "vars" in row:
        return {"add_generation_prompt": False, **row["vars"]}
    names = ("messages", "tools", "documents", "bos_token", "eos_token")
    context = {"tools": None, "documents": None, **{name: row[name] for name in names if name in row}}
    return {**context, **row.get("context", {}), "add_generation_prompt": bool(row.get("add_generation_prompt"))}


def decided(row):
    """What transformers does: ("prompt", text), or ("error", its message)."""
    if row["group"] == "security":
        error = row["expected_error"]
        return ("error", row["error_message"]) if error else ("prompt", row["expected_result"])
    error = row.get("expected_error") or row.get("hf_error")
    if error:
        return "error", error.partition(": ")[2]
    return "prompt", row.get("hf_render", row.get("expected"))  # the first where a peer's expectation differs from it


def outcome(row, variables):
    clock = datetime.fromisoformat(row.get("strftime_now_fixed", "2024-07-26"))
    try:
        return "prompt", Sandbox(row["template"], clock=lambda: clock).render(variables)
    except TemplateFailed as error:
        return "error", error.message


def check(row):
    variables = given(row)
    before = copy.deepcopy(variables)
    kind, text = outcome(row, variables)
    expected_kind, expected = decided(row)
    assert kind == expected_kind, text
    if kind == "prompt":
        assert text == expected
    elif "refuses" in text:
        assert expected in text
    if row["group"] == "security":
        assert not any(leak in text for leak in LEAKS)
        assert variables == before


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_template_does_what_it_does_in_transformers(row):
    check(row)


@pytest.mark.skipif(not ROWS, reason="the templates of others are not part of this repository")
def test_every_row_is_decided_and_none_fails(capsys):
    passed, failed = Counter(), []
    for row in ROWS:
        try:
            check(row)
            passed[row["group"]] += 1
        except AssertionError:
            failed.append(row["id"])
    groups = ", ".join(f"{group} {count}" for group, count in sorted(passed.items()))
    with capsys.disabled():
        sys.stdout.write(
            f"\ngolden template rows: {passed.total()} passed, 0 left out, {len(failed)} failed ({groups})\n"
        )
    assert not failed
