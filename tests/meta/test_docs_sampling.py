"""docs/sampling.md says what the sampler does: its numbers are run, its parameters are all of them."""

from __future__ import annotations

import doctest
import re
from dataclasses import fields
from pathlib import Path

import pytest

from phiplug.dialects import RULES, those_with
from phiplug.types import SamplingParams

PAGE = Path(__file__).parents[2] / "docs" / "sampling.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_every_worked_number_is_what_comes_out():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 20
    assert result.failed == 0


@pytest.mark.parametrize("name", [field.name for field in fields(SamplingParams)])
def test_every_parameter_is_on_the_page(name):
    assert f"`{name}`" in TEXT or f"{name}=" in TEXT


@pytest.mark.parametrize(
    "field", [field for field in fields(SamplingParams) if field.name in TEXT.split("These are")[0]]
)
def test_the_defaults_are_those_of_the_code(field):
    default = re.search(rf"^\| `{field.name}` \| [^|]+ \| ([^|,]+)", TEXT, re.MULTILINE)[1].strip()
    settled = getattr(SamplingParams(seed=0).seeded(), field.name)
    assert default == {"seed": "random", "penalize_prompt": "no", "logit_bias": "none"}.get(
        field.name, f"{settled:g}" if isinstance(settled, int | float) else ""
    )


@pytest.mark.parametrize("name", ["typical_p", "xtc_probability", "top_n_sigma", "dry_multiplier"])
def test_a_filter_of_some_dialects_is_listed_with_them(name):
    listed = re.search(rf"^\| `{name}`.*\| ([^|]+) \|$", TEXT, re.MULTILINE)[1]
    assert listed.split(", ") == those_with(name)


def test_every_dialect_is_on_the_page():
    assert all(dialect in TEXT for dialect in RULES)


@pytest.mark.parametrize("flags", re.findall(r"`(--sampling-dialect [^`]*--[^`]*)`", TEXT))
def test_what_the_page_says_to_say_is_accepted(flags):
    words = flags.split()
    given = {
        flag.removeprefix("--").replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)
    }
    dialect = given.pop("sampling_dialect")
    values = {name: int(value) if name == "top_k" else float(value) for name, value in given.items()}
    assert SamplingParams(dialect=dialect, **values).dialect == dialect
