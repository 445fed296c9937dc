"""The tokenizer that every backend shares: from a GGUF's vocabulary, from a folder, and its promises to the core."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from phiplug.errors import ModelCorrupt, ModelNotFound, ModelUnsupported, PhiplugWarning
from phiplug.gguf import read_header
from phiplug.spi import ModelFiles
from phiplug.text.pretokenizers import PRE_TOKENIZERS
from phiplug.text.tokenizer import load_tokenizer, tokenizer_of, with_bos
from phiplug.text.vocabulary import merges_of_scores, stop_texts

CONTROLS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture
def loaded(tmp_path: Path):
    """Writes a vocabulary and loads it; keyword arguments replace keys of tokenizer.ggml, None takes one away."""

    def load(tokens: tiny.Tokens, metadata=None, **keys):
        kept = {name: value for name, value in {**tokens.keys, **keys}.items() if value is not None}
        path = tiny.write_vocabulary(tmp_path / "vocabulary.gguf", replace(tokens, keys=kept), metadata)
        return load_tokenizer(ModelFiles("test", path, "gguf"))

    return load


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    path = tiny.write_vocabulary(tmp_path_factory.mktemp("bytes") / "bytes.gguf", tiny.byte_tokens("llama-bpe"))
    return tokenizer_of(read_header(path))


def sentencepiece(**scores: float) -> tiny.Tokens:
    """A SentencePiece vocabulary of bytes, these pieces (`_` is the mark of a space), and one control token."""
    pieces = {text.replace("_", "\u2581"): score for text, score in scores.items()}
    head = {"<unk>": tiny.UNKNOWN, "<s>": tiny.CONTROL, "</s>": tiny.CONTROL}
    bytes_ = {f"<0x{byte:02X}>": tiny.BYTE for byte in range(256)}
    types = {**head, **bytes_, **dict.fromkeys(pieces, tiny.NORMAL), "<|end|>": tiny.CONTROL}
    keys = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    all_scores = [pieces.get(text, 0.0) for text in types]
    return tiny.Tokens("llama", [*types], [*types.values()], scores=all_scores, keys=keys)


def spelled(tokenizer, text: str, **options) -> list[bytes]:
    return [tokenizer.token_bytes(token) for token in tokenizer.encode(text, **options)]


# Byte-level BPE


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_the_bytes_of_the_ids_spell_the_text(byte_level, text):
    assert b"".join(spelled(byte_level, text, parse_special=False)) == text.encode()


def test_a_merge_joins_two_tokens(byte_level):
    assert spelled(byte_level, "the hat") == [b"th", b"e", b" ", b"h", b"a", b"t"]


def test_control_tokens_in_the_text_become_ids_only_when_asked(byte_level):
    assert byte_level.encode("<|im_end|>") == [2]
    assert 2 not in byte_level.encode("<|im_end|>", parse_special=False)


def test_control_tokens_stand_for_no_bytes_and_are_reported_in_order(byte_level):
    assert spelled(byte_level, "a<|im_end|>b") == [b"a", b"", b"b"]
    assert byte_level.control_tokens_in("<|im_start|>x<|im_end|><|im_end|>") == [
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    ]
    assert byte_level.control_tokens_in("plain <|text") == []


def test_user_defined_tokens_are_found_always_and_stand_for_their_text(loaded):
    tokens = tiny.byte_tokens()
    tokens = replace(tokens, texts=[*tokens.texts, "<tool> é"], types=[*tokens.types, tiny.USER_DEFINED])
    tokenizer = loaded(tokens)
    assert spelled(tokenizer, "a<tool> éb", parse_special=False) == [b"a", "<tool> é".encode(), b"b"]
    assert tokenizer.control_tokens_in("<tool> é") == []


def test_an_id_beyond_the_vocabulary_or_unused_stands_for_nothing(loaded):
    tokens = tiny.byte_tokens()
    tokenizer = loaded(replace(tokens, texts=[*tokens.texts, "[PAD]"], types=[*tokens.types, tiny.UNUSED]))
    assert tokenizer.vocab_size == len(tokens.texts) + 1
    assert tokenizer.token_bytes(len(tokens.texts)) == b""
    assert tokenizer.token_bytes(10**6) == b""


def test_a_whole_word_is_one_token_where_merges_are_ignored(loaded):
    tokens = tiny.byte_tokens()
    tokens = replace(tokens, texts=[*tokens.texts, "\u0120word"], types=[*tokens.types, tiny.NORMAL])
    assert spelled(loaded(tokens, pre="llama-bpe"), " word") == [b" word"]
    assert spelled(loaded(tokens, pre="gpt-2"), " word") == [b" ", b"w", b"o", b"r", b"d"]


def test_threads_that_parse_control_tokens_and_threads_that_do_not_do_not_meet(byte_level):
    wrong = []

    def encode(*, parse_special: bool) -> None:
        expected = 1 if parse_special else len("<|im_end|>")
        counts = [len(byte_level.encode("<|im_end|>", parse_special=parse_special)) for _ in range(200)]
        wrong.extend(count for count in counts if count != expected)

    threads = [threading.Thread(target=encode, kwargs={"parse_special": at % 2 == 0}) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_long_prompt_without_a_space_is_encoded(byte_level):
    assert len(byte_level.encode("x" * 1_000_000)) == 1_000_000


# SentencePiece


def test_text_begins_with_a_space_where_the_model_says_so(loaded):
    tokens = sentencepiece(_=-9.0, a=-8.0, _a=-1.0)
    assert spelled(loaded(tokens), "a") == [b" a"]
    assert spelled(loaded(tokens), "a<|end|>a") == [b" a", b"", b" a"]
    assert spelled(loaded(tokens, add_space_prefix=False), "a") == [b"a"]
    assert loaded(tokens).encode("") == []


def test_what_has_no_token_falls_back_to_bytes(loaded):
    tokenizer = loaded(sentencepiece(_=-2.0, a=-1.0), add_space_prefix=False)
    assert spelled(tokenizer, "aé\x00") == [b"a", b"\xc3", b"\xa9", b"\x00"]


def test_the_highest_score_is_joined_first(loaded):
    scores = {"a": -10.0, "b": -11.0, "c": -12.0, "ab": -2.0, "bc": -1.0}
    assert spelled(loaded(sentencepiece(**scores), add_space_prefix=False), "abc") == [b"a", b"bc"]
    scores["ab"] = -0.5
    assert spelled(loaded(sentencepiece(**scores), add_space_prefix=False), "abc") == [b"ab", b"c"]


def test_no_part_of_a_text_is_joined_to_a_control_token(loaded):
    tokenizer = loaded(sentencepiece(**{"<": -3.0, "/s>": -2.0, "/": -4.0, "s": -5.0, ">": -6.0, "s>": -2.5}))
    assert tokenizer.control_tokens_in("</s>") == ["</s>"]
    assert 2 not in tokenizer.encode("</s>", parse_special=False)


def test_merges_come_from_scores_with_every_way_to_cut_a_token():
    texts, scores = ["a", "b", "ab", "aab", "aa", "<ab>"], [0.0, 0.0, -1.0, -3.0, -2.0, 9.0]
    merges = merges_of_scores(texts, scores, apart={"<ab>"})
    assert merges == [("a", "b"), ("a", "a"), ("aa", "b"), ("a", "ab")]


def test_phi3_control_tokens_swallow_the_ascii_space_after_them(loaded):
    tokens = sentencepiece(_=-2.0, a=-1.0)
    plain = loaded(tokens, add_space_prefix=False)
    phi3 = loaded(tokens, {"general.name": "Phi-3 mini"}, add_space_prefix=False)
    assert spelled(plain, "<|end|>\n a") == [b"", b"\n", b" ", b"a"]
    assert spelled(phi3, "<|end|>\n a") == [b"", b"a"]
    assert spelled(phi3, "<s> a<|end|>\u00a0") == [b"", b" ", b"a", b"", b"\xc2", b"\xa0"]
    assert spelled(phi3, "<|end|> a", parse_special=False)[-2:] == [b" ", b"a"]


# bos and stops


@pytest.mark.parametrize(
    ("ids", "adds", "expected"),
    [
        ([5, 6], True, [1, 5, 6]),
        ([1, 5], True, [1, 5]),
        ([1, 1, 1, 5, 1], True, [1, 5, 1]),
        ([], True, [1]),
        ([1, 1], True, [1]),
        ([5], False, [5]),
        ([1, 1, 5], False, [1, 1, 5]),
    ],
)
def test_a_sequence_begins_with_exactly_one_bos_where_the_model_asks_for_it(ids, adds, expected):
    assert with_bos(ids, SimpleNamespace(bos_id=1, adds_bos=adds)) == expected


def test_without_a_bos_nothing_is_added():
    assert with_bos([4], SimpleNamespace(bos_id=None, adds_bos=False)) == [4]


def test_the_flag_for_bos_beats_the_habit_of_the_kind(loaded):
    assert loaded(tiny.byte_tokens("gpt-2"), add_bos_token=None).adds_bos is False
    assert loaded(tiny.byte_tokens("llama-bpe"), add_bos_token=None).adds_bos is True
    assert loaded(tiny.byte_tokens("llama-bpe"), add_bos_token=False).adds_bos is False
    assert loaded(sentencepiece(a=-1.0)).adds_bos is True


def test_stop_ids_are_those_the_file_names_and_those_of_the_table(loaded):
    tokenizer = loaded(tiny.byte_tokens(), eos_token_id=40, eot_token_id=41, eom_token_id=42)
    assert tokenizer.stop_ids == {0, 2, 40, 41, 42}  # <|endoftext|> and <|im_end|> by their texts


@pytest.mark.parametrize("kind", [tiny.NORMAL, tiny.USER_DEFINED])
def test_a_stop_text_that_is_no_control_token_is_no_stop(loaded, kind):
    tokens = tiny.byte_tokens()
    tokenizer = loaded(replace(tokens, texts=[*tokens.texts, "</s>"], types=[*tokens.types, kind]))
    assert len(tokens.texts) not in tokenizer.stop_ids


def test_a_user_defined_stop_text_is_a_stop_where_the_models_own_template_writes_it(loaded):
    tokens = tiny.byte_tokens()
    tokens = replace(tokens, texts=[*tokens.texts, "<|end|>"], types=[*tokens.types, tiny.USER_DEFINED])
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    assert len(tokens.texts) - 1 in loaded(tokens, {"tokenizer.chat_template": template}).stop_ids


def test_what_the_file_names_is_a_stop_whatever_its_type(loaded):
    tokens = tiny.byte_tokens()
    tokens = replace(tokens, texts=[*tokens.texts, "</s>"], types=[*tokens.types, tiny.USER_DEFINED])
    assert len(tokens.texts) - 1 in loaded(tokens, eot_token_id=len(tokens.texts) - 1).stop_ids


def control_stops(texts: set[str]) -> set[str]:
    return stop_texts(texts, texts, template="")


def test_the_end_of_a_message_is_no_stop_beside_the_end_of_an_answer():
    assert control_stops({"<|end|>", "<|user|>"}) == {"<|end|>"}
    assert control_stops({"<|end|>", "<|return|>", "<|call|>"}) == {"<|return|>", "<|call|>"}
    assert control_stops({"</s>", "<turn|>", "<|tool_response>"}) == {"<turn|>", "<|tool_response>"}


@pytest.mark.parametrize("name", ["eot", "eom", "unknown", "padding"])
def test_a_special_id_beyond_the_vocabulary_is_passed_over_with_a_warning(loaded, name):
    with pytest.warns(PhiplugWarning, match=rf"{name}_token_id is 4294967295, and there are 260 tokens; it is passed"):
        tokenizer = loaded(tiny.byte_tokens(), **{f"{name}_token_id": 2**32 - 1})
    assert tokenizer.stop_ids == {0, 2}


def test_empty_tokens_may_repeat_and_stand_for_nothing(loaded):
    tokens = tiny.byte_tokens()
    tokenizer = loaded(replace(tokens, texts=["", *tokens.texts, "", ""], types=[1, *tokens.types, 1, 1]))
    assert tokenizer.vocab_size == len(tokens.texts) + 3
    assert tokenizer.encode("a") == [tokens.texts.index("a") + 1]
    assert tokenizer.token_bytes(0) == tokenizer.token_bytes(len(tokens.texts) + 2) == b""


def test_special_tokens_carry_their_texts(loaded):
    tokenizer = loaded(tiny.byte_tokens(), padding_token_id=2)
    assert tokenizer.special_tokens == {
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
    }


def test_smollm2_has_the_stop_ids_that_llama_cpp_gives_it(smollm2):
    tokenizer = load_tokenizer(ModelFiles("smollm2", smollm2, "gguf"))
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.adds_bos) == (49152, 1, False)
    assert tokenizer.stop_ids == {0, 2, 4}
    assert tokenizer.special_tokens["eos_token"] == "<|im_end|>"


def cut(pre: str, text: str) -> list[str]:
    """Cut a text as a pre-tokenizer does."""
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in PRE_TOKENIZERS[pre].patterns]
    return [piece for piece, _ in pre_tokenizers.Sequence(cuts).pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("deepseek-llm", ["Ab", " c", "\u00e9", "\u01c0 ", "12", "\n", "\n", "\u4f60\u597d", "x", "  "]),
        ("deepseek-coder", ["Ab", " c\u00e9\u01c0", " ", "1", "2", "\n", "\n", "\u4f60\u597d", "x", "  "]),
    ],
)
def test_deepseeks_first_models_cut_as_llama_cpp_cuts_for_them(pre, pieces):
    assert cut(pre, "Ab c\u00e9\u01c0 12\n\n\u4f60\u597dx  ") == pieces


def gemma4() -> tiny.Tokens:
    head = {"<pad>": tiny.CONTROL, "<eos>": tiny.CONTROL, "<bos>": tiny.CONTROL, "<unk>": tiny.UNKNOWN}
    head |= {f"<0x{byte:02X}>": tiny.BYTE for byte in range(256)}
    texts = ["\u2581", "a", "b", "\n", "ab", "\u2581ab", "\n\n", "b\n"]
    merges = ["a b", "\u2581 ab", "\n \n", "b \n"]
    keys = {"bos_token_id": 2, "eos_token_id": 1, "unknown_token_id": 3, "add_space_prefix": False}
    types = [*head.values(), *[tiny.NORMAL] * len(texts)]
    return tiny.Tokens("gemma4", [*head, *texts], types, merges, keys=keys)


def test_gemma_4_merges_text_with_marks_for_spaces_and_line_feeds_apart(loaded):
    tokenizer = loaded(gemma4())
    assert spelled(tokenizer, "ab ab\n\n\u00e9") == [b"ab", b" ab", b"\n\n", b"\xc3", b"\xa9"]
    assert spelled(tokenizer, "<eos>b\n") == [b"", b"b", b"\n"]


def test_gemma_4_begins_with_bos_even_where_the_file_says_not_to(loaded):
    assert loaded(gemma4(), add_bos_token=False).adds_bos


# What cannot be honoured


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"pre": "from-the-future"}, "the pre-tokenizer 'from-the-future'"),
        ({"pre": None}, "does not name its pre-tokenizer.*convert the model again"),
    ],
)
def test_an_unknown_pre_tokenizer_is_named(loaded, keys, what):
    with pytest.raises(ModelUnsupported, match=what):
        loaded(tiny.byte_tokens(), **keys)


def test_an_unknown_kind_of_tokenizer_is_named(loaded):
    with pytest.raises(ModelUnsupported, match="of the kind 'bert'"):
        loaded(replace(tiny.byte_tokens(), model="bert"))


def test_a_format_of_a_plugin_needs_that_plugins_tokenizer(tmp_path):
    with pytest.raises(ModelUnsupported, match="format 'onnx', and no plugin has its tokenizer"):
        load_tokenizer(ModelFiles("x", tmp_path / "model.onnx", "onnx"))


@pytest.mark.parametrize(
    ("change", "keys", "what"),
    [
        ({"texts": [*CONTROLS, *tiny.ALPHABET, "<|im_end|>"]}, {}, r"its vocabulary has '<\|im_end\|>' twice"),
        ({"types": [1, 2]}, {}, "token_type does not have one element for each of 260 tokens"),
        ({"merges": ["t h e"]}, {}, "not every element of tokenizer.ggml.merges is two tokens"),
        ({"merges": ["q zz"]}, {}, "does not hold together: .*zz"),
        ({}, {"eos_token_id": 260}, "eos_token_id is 260, and there are 260 tokens"),
        ({}, {"bos_token_id": 260}, "bos_token_id is 260, and there are 260 tokens"),
        ({}, {"bos_token_id": None, "add_bos_token": True}, "asks for a bos token and does not say which"),
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_damaged(loaded, change, keys, what):
    with pytest.raises(ModelCorrupt, match=what):
        loaded(replace(tiny.byte_tokens(), **change), **keys)


def test_a_sentencepiece_vocabulary_without_scores_is_damaged(loaded):
    with pytest.raises(ModelCorrupt, match="scores does not have one element for each"):
        loaded(replace(sentencepiece(a=-1.0), scores=()))


def test_a_gguf_without_a_tokenizer_is_unsupported(tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "none.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelUnsupported, match=r"none\.gguf has no tokenizer"):
        tokenizer_of(read_header(tmp_path / "none.gguf"))


# A folder


@pytest.fixture
def folder(tmp_path: Path):
    """Writes a tokenizer.json that does what `byte_tokens("gpt-2")` does, and other JSON files by their names."""

    def write(engine: Tokenizer | None = None, **files) -> Path:
        (engine or byte_level_engine()).save(str(tmp_path / "tokenizer.json"))
        for name, value in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(value))
        return tmp_path

    return write


def byte_level_engine() -> Tokenizer:
    tokens = tiny.byte_tokens()
    engine = Tokenizer(models.BPE({text: token for token, text in enumerate(tokens.texts)}, [("t", "h")]))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROLS])
    return engine


def sentencepiece_engine() -> Tokenizer:
    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": byte + 1 for byte in range(256)}, "\u2581": 257, "a": 258}
    engine = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    engine.normalizer = normalizers.Replace(" ", "\u2581")
    engine.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return engine


def of_folder(path: Path):
    return load_tokenizer(ModelFiles("folder", path, "folder"))


def test_a_folder_and_a_gguf_of_the_same_vocabulary_agree(folder, loaded):
    text = "the <|im_start|>hat, it's ünïcödé 🙂\n\n  <|im_end|>"
    ours, theirs = of_folder(folder()), loaded(tiny.byte_tokens())
    assert ours.encode(text) == theirs.encode(text)
    assert ours.encode(text, parse_special=False) == theirs.encode(text, parse_special=False)
    assert [*map(ours.token_bytes, range(ours.vocab_size))] == [*map(theirs.token_bytes, range(theirs.vocab_size))]


def test_a_folder_of_sentencepiece_falls_back_to_bytes(folder):
    assert spelled(of_folder(folder(sentencepiece_engine())), "a é") == [b"a", b" ", b"\xc3", b"\xa9"]


def test_a_folder_says_its_special_tokens_as_texts_or_objects(folder):
    tokenizer = of_folder(
        folder(
            tokenizer_config={
                "bos_token": {"content": "<|im_start|>"},
                "eos_token": "<|im_end|>",
                "add_bos_token": True,
            },
            special_tokens_map={"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        )
    )
    assert (tokenizer.bos_id, tokenizer.adds_bos) == (1, True)
    assert tokenizer.special_tokens == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
    }


def test_a_folder_without_the_flag_adds_bos_where_its_own_processor_does(folder):
    engine = byte_level_engine()
    config = {"bos_token": "<|im_start|>"}
    assert of_folder(folder(engine, tokenizer_config=config)).adds_bos is False
    engine.post_processor = processors.TemplateProcessing("<|im_start|> $A", None, [("<|im_start|>", 1)])
    tokenizer = of_folder(folder(engine, tokenizer_config=config))
    assert tokenizer.adds_bos is True
    assert len(tokenizer.encode("a")) == 1  # encode itself adds nothing


@pytest.mark.parametrize("listed", [[30, 31], 30])
def test_a_folder_stops_where_its_generation_config_says(folder, listed):
    config = {"eos_token": "<|im_end|>"}
    stops = of_folder(folder(generation_config={"eos_token_id": listed}, tokenizer_config=config)).stop_ids
    assert stops == {0, 2, 30, 31} - ({31} if listed == 30 else set())


def test_all_lists_of_a_folder_end_its_answers_together(folder):
    tokenizer = of_folder(
        folder(
            generation_config={"eos_token_id": 30},
            config={"eos_token_id": [31, 32], "text_config": {"eos_token_id": 33}},
            tokenizer_config={"eos_token": "<|im_start|>"},
        )
    )
    assert tokenizer.stop_ids == {30, 31, 32, 33} | {0, 1, 2}  # and two by their texts


@pytest.mark.parametrize("where", ["nowhere", "tokenizer_config", "chat_template.jinja"])
def test_an_added_token_that_is_not_special_ends_an_answer_only_where_the_template_writes_it(folder, where):
    engine, template = byte_level_engine(), "{{ messages[0].content }}</s>"
    engine.add_tokens([AddedToken("</s>", special=False, normalized=False)])
    path = folder(engine, **({"tokenizer_config": {"chat_template": template}} if where == "tokenizer_config" else {}))
    if where == "chat_template.jinja":
        (path / where).write_text(template)
    stops = of_folder(path).stop_ids
    assert (engine.token_to_id("</s>") in stops) == (where != "nowhere")


def test_added_tokens_of_sentencepiece_are_spelled_as_its_decoder_spells_them(folder):
    engine = sentencepiece_engine()
    engine.add_tokens([AddedToken("\u2581" * n, normalized=False, special=False) for n in (2, 4)])
    tokenizer = of_folder(folder(engine))
    ids = tokenizer.encode("a    a  a")
    assert b"".join(map(tokenizer.token_bytes, ids)).decode() == engine.decode(ids) == "a    a  a"


def test_a_byte_order_mark_before_a_setting_does_no_harm(folder):
    path = folder()
    (path / "tokenizer_config.json").write_text('\ufeff{"eos_token": "<|im_start|>"}')
    assert 1 in of_folder(path).stop_ids


def test_truncation_and_padding_of_the_file_are_not_for_us(folder):
    engine = byte_level_engine()
    engine.enable_truncation(4)
    engine.enable_padding(length=32)
    assert len(of_folder(folder(engine)).encode("0123456789")) == 10


def test_a_folder_without_a_tokenizer_says_which_file_is_missing(tmp_path):
    with pytest.raises(ModelNotFound, match=r"has no tokenizer\.json"):
        of_folder(tmp_path)


def test_a_damaged_tokenizer_json_is_named(folder):
    path = folder()
    (path / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(ModelCorrupt, match=r"tokenizer\.json is no tokenizer"):
        of_folder(path)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, r'{"eos_token": "\ud800"}'])
def test_a_damaged_setting_is_named(folder, text):
    path = folder()
    (path / "tokenizer_config.json").write_text(text)
    with pytest.raises(ModelCorrupt, match=r"tokenizer_config\.json is damaged"):
        of_folder(path)


def test_a_spelling_that_is_not_known_is_refused(folder):
    engine = byte_level_engine()
    engine.decoder = decoders.WordPiece()
    with pytest.raises(ModelUnsupported, match="its decoder is WordPiece"):
        of_folder(folder(engine))
