"""Constraints: what a grammar allows, what it forces, how an answer under one ends, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tiny
from schemas import accepts, cases
from varied import varied

from phiplug.engine import Engine
from phiplug.errors import GrammarStuck, InvalidParameter, NonFiniteLogits, PhiplugWarning, UnsupportedParameter
from phiplug.gguf import read_header
from phiplug.sampling import Sampler
from phiplug.spi import ModelInfo
from phiplug.text.constraint import Grammars, check
from phiplug.text.tokenizer import tokenizer_of
from phiplug.types import Constraint, Request, SamplingParams
from phiplug_toy.tokenizer import STOP, VOCAB_SIZE, ByteTokenizer

SCHEMAS = [
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "é", None]}}, "required": ["a"]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"anyOf": [{"type": "string", "maxLength": 4}, {"type": "number", "minimum": 0, "maximum": 9}]},
    {"type": "object", "properties": {"d": {"type": "string", "format": "date"}}, "additionalProperties": False},
    {"$ref": "#/$defs/n", "$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 1}}},
]
DEFAULT = SamplingParams(seed=1)
GREEDY = SamplingParams(temperature=0.0, seed=1)
HOT = SamplingParams(temperature=2.0, top_p=1.0, repeat_penalty=1.3, frequency_penalty=0.5, seed=1)
MUTUAL = '{"$defs": {"a": {"properties": {"y": {"$ref": "#/$defs/a"}, "z": {"if": {}}}}}, "$ref": "#/$defs/a"}'
MANY = json.dumps({"type": "object", "properties": {f"p{index}": {"type": "integer"} for index in range(600)}})
REQUIRED = {"type": "object", "properties": {"answer": {"type": "boolean"}}, "required": ["answer"]} | {
    "additionalProperties": False
}


class RandomModel:
    """Logits that are a function of all ids before them; it counts passes and their tokens."""

    def __init__(self, slots=1, width=VOCAB_SIZE, context_length=600, spoilt=False, chunk=8):
        self.info = ModelInfo(width, context_length, slots, "cpu", "none", "1", chunk=chunk, row_independence="all")
        self.held = [[] for _ in range(slots)]
        self.passes = []
        self.spoilt = spoilt

    def forward(self, steps):
        self.passes.append([len(step.tokens) for step in steps])
        rows = []
        for step in steps:
            held = self.held[step.slot]
            held += step.tokens
            rows += [self.row(held[:end]) for end in range(len(held) - step.rows + 1, len(held) + 1)]
        return RandomPass(np.array(rows, np.float32).reshape(len(rows), self.info.vocab_size))

    def row(self, ids):
        row = np.random.default_rng(ids).normal(0, 3, self.info.vocab_size).astype(np.float32)
        if self.spoilt:
            row[0] = np.nan
        return row

    def rewind(self, slot, length):
        del self.held[slot][length:]
        return len(self.held[slot])

    def copy(self, source, target, length):
        return 0

    def close(self):
        """Nothing is held."""


class RandomPass:
    def __init__(self, rows):
        self.rows = rows

    def logits(self):
        return self.rows


def request(constraint, sampling=DEFAULT, **options):
    return Request((1, 2, 3), sampling, constraint=constraint, **options)


def answer(constraint, sampling=DEFAULT, model=None, tokenizer=None, **options):
    tokenizer = tokenizer or ByteTokenizer()
    engine = Engine(model or RandomModel(width=tokenizer.vocab_size), tokenizer)
    return engine.submit(request(constraint, sampling, **options)).completion()


def schema(value=REQUIRED, **options):
    return Constraint("json_schema", json.dumps(value), **options)


def allowed(constraint, text=""):
    guide = Grammars(ByteTokenizer(), VOCAB_SIZE).guide(replace(constraint, force=False))
    for byte in text.encode():
        guide.accept(byte)
    return {chr(token) if token < 256 else token for token in np.flatnonzero(~guide.forbidden()).tolist()}


def test_only_what_goes_on_with_the_grammar_may_come():
    choice = Constraint("choice", ("yes", "yet", "no"))
    assert (allowed(choice), allowed(choice, "ye")) == ({"y", "n"}, {"s", "t"})


def test_where_the_grammar_may_end_the_stop_ids_may_come():
    assert allowed(Constraint("regex", "a+"), "a") == {"a", STOP}


def test_every_stop_id_is_an_end_and_ids_beyond_the_tokenizer_never_come():
    class TwoStops(ByteTokenizer):
        stop_ids = frozenset({256, STOP})

    guide = Grammars(TwoStops(), 300).guide(Constraint("regex", "[\\x00-\\x7F]+"))
    guide.accept(97)
    assert np.flatnonzero(~guide.forbidden()).tolist() == [*range(128), 256, STOP]


def test_a_tokenizer_without_a_stop_id_is_constrained_too():
    class NoStop(ByteTokenizer):
        stop_ids = frozenset()

    guide = Grammars(NoStop(), VOCAB_SIZE).guide(Constraint("regex", "ab?"))
    guide.accept(97)
    assert guide.is_complete
    assert np.flatnonzero(~guide.forbidden()).tolist() == [98]


def test_a_model_narrower_than_its_tokenizer_is_never_forced_beyond_its_width():
    guide = Grammars(ByteTokenizer(), 100).guide(Constraint("choice", ("az", "ay")))
    guide.accept(97)
    assert guide.forced() == ()
    with pytest.raises(GrammarStuck, match="allows no token of this model after 'a'"):
        guide.forbidden()


@pytest.mark.parametrize("sampling", [DEFAULT, GREEDY, HOT], ids=["default", "greedy", "hot with penalties"])
@pytest.mark.parametrize("index", range(len(SCHEMAS)))
def test_random_logits_give_a_valid_document_unless_it_is_cut(index, sampling):
    done = answer(schema(SCHEMAS[index]), sampling, max_tokens=300)
    if done.constraint == "complete":
        jsonschema.validate(json.loads(done.text), SCHEMAS[index])
        assert done.finish_reason == "stop"
    else:
        assert (done.constraint, done.finish_reason) == ("cut", "length")


def test_some_of_those_documents_are_whole():
    whole = [answer(schema(each), max_tokens=300).constraint for each in SCHEMAS]
    assert whole.count("complete") >= 3


@pytest.mark.parametrize("dialect", ["candle", "llama.cpp", "mlx-lm", "hf"])
def test_every_dialect_keeps_to_the_grammar(dialect):
    sampling = SamplingParams(seed=3, dialect=dialect, top_k=40)
    assert answer(Constraint("regex", "[0-9]{20}"), sampling).text.isdigit()


def test_a_bias_does_not_bring_back_what_the_grammar_forbids():
    sampling = SamplingParams(seed=3, logit_bias={ord("x"): 100.0})
    assert answer(Constraint("regex", "[ab]{9}"), sampling).text.strip("ab") == ""


def test_the_draw_among_what_is_allowed_is_that_of_a_free_request():
    free = answer(None, max_tokens=1).tokens
    assert answer(Constraint("regex", "[\\x00-\\x{10FFFF}]{1,9}"), max_tokens=1).tokens == free or free[0] >= 128


def test_forced_tokens_share_a_pass_with_the_drawn_one_before_them():
    model = RandomModel()
    done = answer(schema(compact=True), GREEDY, model)
    assert done.text in ('{"answer":true}', '{"answer":false}')
    assert done.usage.forced_tokens >= len('"answer":')
    assert [sum(each) for each in model.passes[:3]] == [3, 8, 2]  # cut at the chunk of 8


def test_without_forced_tokens_each_is_drawn():
    done = answer(schema(compact=True, force=False), GREEDY)
    assert (done.text in ('{"answer":true}', '{"answer":false}'), done.usage.forced_tokens) == (True, 0)


def test_log_probabilities_change_no_token_and_there_is_one_for_each():
    plain, asked = (answer(schema(), logprobs=logprobs, max_tokens=40) for logprobs in (None, 1))
    assert (asked.tokens, asked.usage.forced_tokens) == (plain.tokens, plain.usage.forced_tokens)
    assert [entry.token for entry in asked.logprobs] == list(asked.tokens)


@pytest.mark.parametrize("limit", range(1, 15))
def test_max_tokens_cuts_within_a_forced_run(limit):
    whole = answer(schema(compact=True), GREEDY)
    cut = answer(schema(compact=True), GREEDY, max_tokens=limit)
    assert (cut.text, len(cut.tokens)) == (whole.text[:limit], limit)
    assert (cut.finish_reason, cut.constraint) == ("length", "cut")


def test_a_stop_string_cuts_within_a_forced_run():
    done = answer(schema(compact=True), GREEDY, stop=("swer",))
    assert (done.text, done.finish_reason, done.constraint) == ('{"an', "stop", "cut")


def test_an_answer_that_nothing_can_follow_ends_without_another_pass():
    model = RandomModel()
    done = answer(Constraint("choice", ("a", "b")), model=model)
    assert (done.finish_reason, done.constraint, len(model.passes)) == ("stop", "complete", 1)


def test_an_answer_cut_where_the_grammar_could_end_is_whole():
    done = answer(Constraint("regex", "[a-z]+"), max_tokens=1)
    assert done.constraint == "complete"


def test_what_was_replayed_goes_on_as_it_would_have():
    whole = answer(schema(), max_tokens=30)
    for count in range(len(whole.tokens)):
        assert answer(schema(), max_tokens=30, replayed=whole.tokens[:count]).tokens == whole.tokens


def test_several_slots_give_what_each_gives_alone():
    engine = Engine(RandomModel(slots=3), ByteTokenizer())
    asked = [request(schema(each), max_tokens=60) for each in SCHEMAS]
    together = [stream.completion() for stream in [engine.submit(each) for each in asked]]
    alone = [answer(each.constraint, max_tokens=60) for each in asked]
    assert [each.tokens for each in together] == [each.tokens for each in alone]


def test_a_prefix_that_a_constrained_answer_left_behind_serves_the_next_request():
    model = RandomModel()
    engine = Engine(model, ByteTokenizer())
    first = engine.submit(request(schema(compact=True), repeatable=False)).completion()
    longer = Request((*first.prompt_ids, *first.tokens, 65), DEFAULT, constraint=schema(SCHEMAS[0]), max_tokens=80)
    again = engine.submit(longer).completion()
    assert first.usage.forced_tokens > 0
    assert again.usage.cached_tokens > len(first.prompt_ids) + 2
    assert again.tokens == Engine(RandomModel(), ByteTokenizer()).submit(longer).completion().tokens


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_the_same_logits_give_the_same_ids_however_an_engine_cuts_its_passes(slots, chunk):
    for each in SCHEMAS[:3]:
        done = answer(schema(each), model=RandomModel(slots=slots, chunk=chunk), max_tokens=60)
        assert done.tokens == answer(schema(each), max_tokens=60).tokens


@pytest.mark.parametrize("force", [True, False])
def test_penalties_count_forced_tokens(force):
    class Flat(RandomModel):
        def row(self, ids):
            return np.zeros(self.info.vocab_size, np.float32)

    penalized = SamplingParams(temperature=0.0, repeat_penalty=1.0, presence_penalty=1.0, seed=1)
    constraint = Constraint("regex", "[a]bcb[a-d]", force=force)
    assert answer(constraint, penalized, Flat()).text == "abcbd"
    assert answer(constraint, replace(penalized, presence_penalty=0.0), Flat()).text == "abcba"


def test_choices_of_one_prompt_each_follow_the_grammar():
    engine = Engine(RandomModel(slots=2), ByteTokenizer())
    texts = [each.completion().text for each in engine.choices(request(Constraint("regex", "[0-9]{4}")), 3)]
    assert all(text.isdigit() and len(text) == 4 for text in texts)


def test_the_untouched_logits_are_checked_even_where_the_grammar_forbids_the_bad_one():
    with pytest.raises(NonFiniteLogits):
        answer(Constraint("regex", "[a-z]+"), model=RandomModel(spoilt=True))


def test_the_callers_logits_are_not_changed():
    logits = np.arange(4, dtype=np.float32)
    Sampler(GREEDY, ())(logits, np.array([False, True, True, True]))
    assert logits.tolist() == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
    """A small vocabulary of SentencePiece's, which puts a space before a text and spells rare characters as bytes."""
    tokens = tiny.trained_sentencepiece(varied(300, seed=1, more=("hello world",)), 700, {})
    path = tiny.write_vocabulary(tmp_path_factory.mktemp("vocabulary") / "vocabulary.gguf", tokens)
    return tokenizer_of(read_header(path))


@pytest.mark.parametrize(
    "expression",
    ["hello world [ab], the end", "\u2581[ab]\u2581 the", " hello [ab] world", "[ab]日本語 😀 é", "x[ab]\n\n  y"],
)
def test_sentencepiece_puts_no_space_where_the_grammar_has_none(sentencepiece, expression):
    for force in (True, False):
        done = answer(Constraint("regex", expression, force=force), tokenizer=sentencepiece, templated=True)
        assert re.fullmatch(expression, done.text)
        assert (done.constraint, done.usage.forced_tokens > 0) == ("complete", force)


def test_forced_tokens_are_those_that_the_tokenizer_cuts_the_text_into(sentencepiece):
    done = answer(Constraint("regex", "[ab] hello world"), tokenizer=sentencepiece)
    ids = sentencepiece.encode(f"{done.text[0]} hello world", parse_special=False)
    assert done.usage.forced_tokens >= 1
    assert done.tokens[-done.usage.forced_tokens :] == tuple(ids[-done.usage.forced_tokens :])


def test_words_of_a_byte_level_vocabulary_are_cut_as_in_a_whole_text(tmp_path):
    tokens = tiny.trained_bpe("llama-bpe", ["check_in_date in_date\n"] * 9, 300, {"<end>": tiny.CONTROL})
    tokenizer = tokenizer_of(read_header(tiny.write_vocabulary(tmp_path / "bpe.gguf", tokens)))
    ids = tokenizer.encode("check_in_date", parse_special=False)
    assert [tokenizer.token_bytes(token) for token in ids] == [b"check", b"_in", b"_date"]
    constraint = Constraint("regex", "(check|in)_in_date")
    assert accepts(Grammars(tokenizer, tokenizer.vocab_size).guide(constraint), ids)


def test_text_of_several_bytes_comes_whole(sentencepiece):
    engine = Engine(RandomModel(width=sentencepiece.vocab_size), sentencepiece)
    chunks = list(engine.submit(request(Constraint("choice", ("日本😀", "é한")))))
    assert "".join(chunk.text for chunk in chunks) in ("日本😀", "é한")
    assert not any("\ufffd" in chunk.text for chunk in chunks)


def test_an_escape_does_not_spell_a_key_past_the_schema():
    constraint = schema({"type": "object", "properties": {"a": {"type": "integer"}}})
    assert "u" not in allowed(constraint, '{"\\')
    assert "n" in allowed(constraint, '{"\\')


@pytest.mark.parametrize("case", cases(40, seed=2), ids=lambda case: str(case.schema)[:40])
def test_verdicts_are_those_of_jsonschema(case):
    grammars = Grammars(ByteTokenizer(), VOCAB_SIZE)
    for text, label in case.documents:
        assert accepts(grammars.guide(schema(case.schema)), list(text.encode())) == label, text


def test_white_space_is_bounded():
    assert " " in allowed(schema(), '{"answer":' + " " * 63)
    assert " " not in allowed(schema(), '{"answer":' + " " * 64)
    assert " " not in allowed(schema(compact=True), '{"answer":')


@pytest.mark.parametrize(
    ("kind", "source", "message"),
    [
        ("json_schema", "{", "json_schema: is no JSON"),
        ("json_schema", "[" * 100_000, "json_schema: is no JSON"),
        ("json_schema", "[1]", "and not a JSON object"),
        ("json_schema", "false", "and not a JSON object"),
        ("json_schema", '{"type": "nonsense"}', "Invalid type: nonsense$"),
        ("json_schema", '{"items": {"properties": {"a/b": {"type": "nonsense"}}}}', "at /items/properties/a~1b$"),
        ("json_schema", '{"items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"anyOf": [{}, {"not": {}}]}}}', "x/anyOf/1 "),
        ("json_schema", '{"$defs": [{"not": {}}], "items": {"$ref": "#/$defs/0"}}', "at /items "),
        ("json_schema", '{"$defs": 3, "items": {"$ref": "#/$defs/a"}}', "does not exist, at /items$"),
        ("json_schema", MUTUAL, "at /\\$defs/a/properties/z "),
        ("json_schema", '{"$ref": "#"}', "allows no answer of at least one token"),
        ("json_schema", '{"items": {"enum": ["a", "b\\u0000c"]}}', "a value has the control character U\\+0000"),
        ("json_schema", '{"enum": []}', "Unsatisfiable schema: anyOf is empty"),
        ("json_schema", '{"minimum": 3, "maximum": 1, "type": "integer"}', "Unsatisfiable schema: minimum"),
        ("json_schema", MANY, "too large: there are too many rules"),
        ("json_schema", '{"$ref": "#/$defs/x"}', "Pointer '/\\$defs/x' does not exist"),
        ("json_schema", '{"$ref": "https://example.org/s"}', "is not in the schema itself"),
        ("json_schema", '{"properties": {"a": {"$ref": "file:///etc/passwd"}}}', "is not in the schema itself"),
        ("json_schema", '{"not": {}}', 'Unimplemented keys: \\["not"\\]'),
        ("json_schema", '{"if": {"type": "string"}}', 'Unimplemented keys: \\["if"\\]'),
        ("json_schema", '{"type": "array", "uniqueItems": true}', 'Unimplemented keys: \\["uniqueItems"\\]'),
        ("json_schema", '{"not": {}, "x-guidance": {"lenient": true}}', 'Unimplemented keys: \\["not"\\]'),
        ("json_schema", '{"oneOf": [{"type": "integer"}, {"type": "number"}]}', "oneOf"),
        ("json_schema", '{"type": "string", "format": "foo"}', "Unknown format: foo"),
        ("json_schema", '{"type": "string", "pattern": "(?=a)b"}', "look-around"),
        ("json_schema", '{"items":' * 300 + "{}" + "}" * 300, "recursion limit"),
        ("json_schema", " " * 262_145, "longer than 256 KB"),
        ("json", "{}", "json: has no source"),
        ("regex", "", "regex: is empty"),
        ("regex", "a\nb[", "regex: unclosed character class, column 5$"),
        ("regex", "a(?=b)", "regex: look-around, including look-ahead and look-behind, is not supported, column 2$"),
        ("regex", "a\\b", "regex: lookarounds not supported yet"),
        ("regex", "a{100000}", "regex: lexer error: too many expressions"),
        ("regex", "(a{1000}){1000}", "regex: lexer error: too many expressions"),
        ("regex", "(a*)?", None),
        ("choice", (), "choice: is a tuple of at least one text"),
        ("choice", ("a", ""), "choice: has an empty text"),
        ("lark", "start: foo", 'grammar: .*unknown name: "foo"'),
        ("lark", "start: <eos>", "grammar: names a control token"),
        ("lark", "start: start", "allows no answer of at least one token"),
        ("lark", 'start: ""', "allows no answer of at least one token"),
        ("gbnf", 'root ::= "a" |\n    b', "grammar: line 2, column 5: Rule 'b' not found"),
        ("gbnf", 'root ::= "a" <[12]>', "line 1, column 14: <\\[12\\]> names a token"),
        ("gbnf", 'root ::= "\\-" "\\q"', "line 1, column 1[5-7]: Invalid escape"),
        ("gbnf", 'rule ::= "a"', "No 'root' rule found"),
        ("gbnf", 'root ::= myRule\n# b\n\n  myRule ::= "a"{3,1}', "^grammar: line 4, column 3: range end must be >="),
        ("gbnf", 'root ::= a-b | "x"\n\na-b ::= [b-a]', "^grammar: line 3, column 1: invalid regex"),
        ("nonsense", "a", "constraint: 'nonsense' is none of"),
    ],
)
def test_what_is_not_sound_is_refused_in_one_line(kind, source, message):
    def compiled():
        return Grammars(ByteTokenizer(), VOCAB_SIZE).guide(Constraint(kind, source))

    if message is None:
        assert compiled().is_complete
        return
    with pytest.raises(InvalidParameter, match=message) as caught:
        compiled()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("json_schema", '{"not": {}}'),
        ("json_schema", '{"$ref": "#"}'),
        ("regex", "a{100000}"),
        ("lark", 'start: ""'),
        ("lark", "start: <[3]> foo"),
        ("gbnf", "root ::= root"),
    ],
)
def test_what_is_not_sound_is_known_without_a_model(kind, source):
    with pytest.raises(InvalidParameter):
        check(Constraint(kind, source))


def test_a_grammar_that_takes_too_long_to_compile_is_given_up(monkeypatch):
    done = threading.Event()

    class Slow:
        LLTokenizer = LLParserLimits = staticmethod(lambda *_, **__: None)
        LLMatcher = staticmethod(lambda *_, **__: done.wait())

    monkeypatch.setattr("phiplug.text.constraint.COMPILE_S", 0.01)
    monkeypatch.setattr("phiplug.text.constraint.parser", lambda: Slow)
    with pytest.raises(InvalidParameter, match="regex: takes longer than"):
        check(Constraint("regex", "a"))
    done.set()


@pytest.mark.parametrize("constraint", [schema(), Constraint("json"), Constraint("lark", 'start: <[5000]> "a"')])
def test_what_is_sound_passes_without_a_model(constraint):
    check(constraint)


def test_data_in_a_schema_is_no_reference():
    check(schema({"const": {"$ref": "https://example.org"}}))
    check(schema({"type": "string", "default": "\0", "examples": [{"$ref": "https://example.org"}]}))
    check(schema({"properties": {"enum": {"type": "string"}, "type": {"type": "string", "description": "\x1b"}}}))


def test_a_lenient_constraint_warns_of_what_is_not_enforced():
    with pytest.warns(PhiplugWarning, match="uniqueItems"):
        check(schema({"type": "array", "uniqueItems": True}, lenient=True))


def test_stop_ids_cannot_be_ignored_under_a_constraint():
    with pytest.raises(UnsupportedParameter, match="ignore_stop_ids"):
        request(schema(), ignore_stop_ids=True)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("[a\\-z]+", "a-z"),
        ("[\\u0041-\\u005A\\U0001F600]+", "AZ😀"),
        ('"\\u00e9" "\\x22" [^"\\\\]', 'é"/'),
        ("[a&&b]+", "a&b"),
        (". .", "a\n"),
        ("[\\^a/]+ # a comment with <tokens> and .", "^/a"),
        ('"\\\\-"', "\\-"),
        ('("a"* )+ ([b]{2} ){1,2}', "aabb"),
    ],
)
def test_gbnf_means_what_llama_cpp_means(rule, text):
    guide = Grammars(ByteTokenizer(), VOCAB_SIZE).guide(Constraint("gbnf", f"root ::= {rule}", force=False))
    for byte in text.encode():
        guide.accept(byte)
    assert guide.is_complete


GBNF = json.loads(Path(__file__).parents[1].joinpath("data", "gbnf.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", GBNF, ids=lambda case: case["name"])
def test_gbnf_has_the_verdicts_of_llama_cpps_own_tests(case):
    grammars = Grammars(ByteTokenizer(), VOCAB_SIZE)
    for text in [*case["accepted"], *case["refused"]]:
        guide = grammars.guide(Constraint("gbnf", case["grammar"]))
        assert accepts(guide, list(text.encode())) == (text in case["accepted"]), text


def test_nothing_is_imported_without_a_constraint():
    code = (
        "import sys, phiplug; llm = phiplug.load('toy'); llm.generate('hi', seed=0, max_tokens=3); llm.close();"
        "sys.exit('llguidance' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
