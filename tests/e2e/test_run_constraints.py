"""`phiplug run` with a form for its answer, on the toy backend."""

from __future__ import annotations

import json

import pytest

TOY = ("-b", "toy", "--seed", "1")
SCHEMA = '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": false}'


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text(SCHEMA, encoding="utf-8")
    return str(path)


def test_a_choice_is_made(phiplug):
    ran = phiplug("run", "hello", *TOY, "--choice", "yes", "--choice", "no")
    assert (ran.code, ran.out.strip() in ("yes", "no")) == (0, True)


def test_json_reports_the_constraint_and_its_forced_tokens(phiplug, schema):
    report = json.loads(phiplug("run", "hello", *TOY, "--json-schema", schema, "--json-compact", "--json").out)
    assert json.loads(report["text"])["a"] in (1, 2)
    assert report["constraint"] == "complete"
    assert report["forced_tokens"] >= 4


def test_a_cut_answer_is_said_and_exits_with_1(phiplug, schema):
    ran = phiplug("run", "hello", *TOY, "-n", "2", "--json-schema", schema)
    assert ran.code == 1
    assert ran.err.endswith("cut off: not a whole JSON document\n")


def test_gbnf_and_lark_are_told_apart(phiplug, tmp_path):
    for name, text in (("a.gbnf", 'root ::= "ab" | "cd"'), ("a.lark", 'start: "ab" | "cd"')):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert phiplug("run", "hello", *TOY, "--grammar", str(tmp_path / name)).out.strip() in ("ab", "cd")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--regex", "a", "--choice", "b"], "an answer has one form"),
        (["--regex", "["], "unclosed character class"),
        (["--regex", "a{100000}"], "too many expressions"),
        (["--regex", "a", "--json-compact"], "there is no JSON schema"),
        (["--no-forced-tokens"], "nothing forces tokens"),
        (["--json-schema", "nowhere.json"], "nowhere.json cannot be read"),
        (["--json-schema", ""], "cannot be read"),
        (["--regex", ""], "regex: is empty"),
        (["--choice", ""], "choice: has an empty text"),
        (["--grammar", ""], "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(phiplug, arguments, said):
    ran = phiplug("run", "hello", "-m", "nowhere.gguf", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1


FORMS = {
    "no JSON": ("schema", "{", "is no JSON"),
    "an array": ("schema", "[1]", "and not a JSON object"),
    "false": ("schema", "false", "and not a JSON object"),
    "no text": ("schema", "\xff", "is not UTF-8"),
    "an unknown type": ("schema", '{"items": {"type": "nonsense"}}', "Invalid type: nonsense, at /items"),
    "a reference to nothing": ("schema", '{"items": {"$ref": "#/$defs/a"}}', "'/$defs/a' does not exist, at /items"),
    "a reference to the network": ("schema", '{"$ref": "https://example.org"}', "nothing is fetched"),
    "300 levels": ("schema", '{"items":' * 300 + "{}" + "}" * 300, "recursion limit"),
    "look-ahead": ("schema", '{"items": {"type": "string", "pattern": "(?=a)"}}', "not supported, at /items"),
    "what nothing enforces": ("schema", '{"not": {}}', "(--schema-lenient makes it a warning)"),
    "5,000 properties": (
        "schema",
        json.dumps({"type": "object", "properties": {f"p{at}": {} for at in range(5000)}}),
        "too large: there are too many rules",
    ),
    "Lark without a rule": ("grammar", "start: foo", 'unknown name: "foo"'),
    "GBNF without a rule": ("grammar", "root ::= foo", "line 1, column 10: Rule 'foo' not found"),
    "an empty file": ("grammar", "", "grammar: is empty"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_is_not_sound_is_refused_in_one_line_before_a_model_is_loaded(phiplug, tmp_path, name):
    kind, text, said = FORMS[name]
    (tmp_path / "form").write_bytes(text.encode("latin-1"))
    flag = {"schema": "--json-schema", "grammar": "--grammar"}[kind]
    ran = phiplug("run", "hello", "-m", "nowhere.gguf", flag, str(tmp_path / "form"))
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1
