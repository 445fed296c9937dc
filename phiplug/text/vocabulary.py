"""Reads the vocabulary of a GGUF and checks it: texts, kinds, merges and special ids.

It knows how the keys are spelled and what they must satisfy, but not how text is encoded.
Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from phiplug.errors import ModelCorrupt, ModelUnsupported, PhiplugWarning
from phiplug.gguf import Header, StringArray
from phiplug.text.pretokenizers import GEMMA4, PRE_TOKENIZERS, PreTokenizer

Spelling = Literal["byte-level", "sentencepiece"]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # tokenizer.ggml.token_type
SPECIAL = frozenset({UNKNOWN, CONTROL, USER_DEFINED})

STOP_TEXTS = frozenset(
    {
        "</s>",
        "<eos>",
        "<|end|>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|return|>",
        "<|call|>",
        "<|flush|>",
        "<|calls|>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "<turn|>",
        "<|tool_response>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "[e~[",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<|fim_repo|>",
        "<|repo_name|>",
        "<fim-repo>",
        "<reponame>",
        "<|file_sep|>",
    }
)
"""Texts that end an answer where they are control tokens, or where the model's own chat template writes them: the ends
of turns and documents, and the borders of files in a model that completes code."""

_NO_STOP_BESIDE: Mapping[str, tuple[frozenset[str], ...]] = {
    "<|end|>": (frozenset({"<|return|>", "<|call|>"}), frozenset({"<|flush|>", "<|calls|>"})),
    "</s>": (frozenset({"<|tool_response>"}),),
}
"""A stop text ends nothing in a vocabulary that also has these: gpt-oss and solar end a message with it and go on, and
gemma 4 only carries it."""

_COMPANY = frozenset(text for companies in _NO_STOP_BESIDE.values() for company in companies for text in company)


@dataclass(frozen=True, slots=True)
class Traits:
    """What a tokenizer's files say beside how text becomes ids.

    Attributes:
        spelling: how a token's text stands for bytes.
        control: ids of control tokens.
        silent: ids that stand for no bytes: those, and some others.
        literal: ids whose text is what it says, whatever the spelling.
        bos_id: the id that begins a sequence, or None.
        adds_bos: whether the model asks for it.
        stop_ids: the ids that end an answer.
        special_tokens: the texts of bos_token, eos_token, unk_token and pad_token, where there are such.
        space_eaters: the texts of tokens that swallow the white space after them.
    """

    spelling: Spelling
    control: frozenset[int]
    silent: frozenset[int]
    literal: frozenset[int]
    bos_id: int | None
    adds_bos: bool
    stop_ids: frozenset[int]
    special_tokens: Mapping[str, str]
    space_eaters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a GGUF says about its tokens.

    Attributes:
        size: how many ids there are.
        ids: of the tokens by their texts; empty texts have none.
        special: the tokens that are found in text before anything else is, and whether only where control tokens are
            looked for.
        merges: which two neighbours become one token, the first ones first.
        words: how the text is cut before the merges; None for not at all, as SentencePiece does.
        space_prefix: whether text gets a space in front.
        traits: the rest.
    """

    size: int
    ids: dict[str, int]
    special: Mapping[str, bool]
    merges: list[tuple[str, str]]
    words: PreTokenizer | None
    space_prefix: bool
    traits: Traits


def vocabulary_of(header: Header) -> Vocabulary:
    """Read and check the vocabulary of a GGUF.

    Raises:
        ModelUnsupported: its tokenizer, or its pre-tokenizer, is of a kind that is not known here.
        ModelCorrupt: its keys do not belong together.
    """
    keys = _Keys(header)
    words = _words(keys)
    texts = keys.texts()
    types = keys.array("token_type", len(texts), (NORMAL,) * len(texts))
    odd = {token: type_ for token, type_ in enumerate(types) if type_ != NORMAL}
    return Vocabulary(
        size=len(texts),
        ids={text: token for token, text in enumerate(texts) if text},
        special={
            text: type_ != USER_DEFINED for token, type_ in odd.items() if type_ in SPECIAL and (text := texts[token])
        },
        merges=_pairs(keys) if words else _scored(keys, texts, odd),
        words=words,
        space_prefix=not words and bool(keys.get("add_space_prefix", True)),
        traits=_traits(keys, words, texts, odd),
    )


def _traits(keys: _Keys, words: PreTokenizer | None, texts: Sequence[str], odd: Mapping[int, int]) -> Traits:
    """Collect what the file says of single tokens; `odd` has the types of those that are not normal."""
    named = {name: keys.token_id(name, len(texts)) for name in ("bos", "eos", "eot", "eom", "unknown", "padding")}
    adds_bos = words is GEMMA4 or bool(keys.get("add_bos_token", words.adds_bos if words else True))
    if adds_bos and named["bos"] is None:
        raise ModelCorrupt(f"{keys.file} asks for a bos token and does not say which")
    special = frozenset(texts[token] for token, type_ in odd.items() if type_ in SPECIAL)
    ends = (token for name in ("eos", "eot", "eom") if (token := named[name]) is not None)
    return Traits(
        spelling="byte-level" if words and words.spells_bytes else "sentencepiece",
        control=frozenset(token for token, type_ in odd.items() if type_ == CONTROL),
        silent=frozenset(token for token, type_ in odd.items() if type_ in (CONTROL, UNKNOWN, UNUSED)),
        literal=frozenset(token for token, type_ in odd.items() if type_ == USER_DEFINED),
        bos_id=named["bos"],
        adds_bos=adds_bos,
        stop_ids=frozenset(_table_stops(keys, texts, odd)).union(ends),
        special_tokens={
            f"{short}_token": texts[token]
            for short, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
            if (token := named[name]) is not None
        },
        space_eaters=special - {"<unk>", "<s>", "<|endoftext|>"} if keys.of_phi3 else frozenset(),
    )


def _table_stops(keys: _Keys, texts: Sequence[str], odd: Mapping[int, int]) -> Iterator[int]:
    """Find the ids that end an answer though no key of the file names them."""
    known = {text: token for token, text in enumerate(texts) if text in STOP_TEXTS or text in _COMPANY}
    control = {text for text, token in known.items() if odd.get(token) == CONTROL}
    return (known[text] for text in stop_texts(known, control, keys.template))


def stop_texts(texts: Collection[str], control: Collection[str], template: str) -> set[str]:
    """Return those texts of a vocabulary that end an answer by the table.

    Args:
        texts: of all tokens, or of those that might matter.
        control: those of the control tokens.
        template: the source of the model's own chat template; a text that it writes ends a turn, whatever its token is
            marked as. Elsewhere an ordinary token is text: in Gemma 3's vocabulary `</s>` is an HTML tag.
    """
    return {
        text
        for text in STOP_TEXTS.intersection(texts)
        if (text in control or text in template)
        and not any(company.issubset(texts) for company in _NO_STOP_BESIDE.get(text, ()))
    }


def merges_of_scores(texts: Sequence[str], scores: Sequence[float], apart: Collection[str]) -> list[tuple[str, str]]:
    """Turn the scores of a SentencePiece vocabulary into merges.

    SentencePiece joins the two neighbours whose joint text has the highest score, so each way to cut a token in two
    tokens is a merge, and those of the highest token come first. Among the cuts of one token it takes the leftmost in
    the text, which no order of merges can say in every case; the longer left part first says it in most. What is
    `apart` is no part of a merge: control tokens, and those that stand for a byte.
    """
    parts = set(texts).difference(apart)
    ranked = sorted(range(len(texts)), key=scores.__getitem__, reverse=True)
    return [
        (left, right)
        for text in map(texts.__getitem__, ranked)
        if text in parts
        for cut in range(len(text) - 1, 0, -1)
        if (left := text[:cut]) in parts and (right := text[cut:]) in parts
    ]


class _Keys:
    """The keys `tokenizer.ggml.*` of one file."""

    def __init__(self, header: Header) -> None:
        self.file = header.path.name
        self._metadata = header.metadata

    @property
    def of_phi3(self) -> bool:
        """Tell, as llama.cpp does, by the name: a GGUF does not say which tokens swallow white space."""
        name = str(self._metadata.get("general.name")).lower()
        return "phi-3" in name or "phi3" in name

    def get(self, name: str, default: Any = None) -> Any:  # Any: the file says what it holds
        return self._metadata.get(f"tokenizer.ggml.{name}", default)

    def array(self, name: str, length: int, default: Any = ()) -> Any:  # Any: as get
        values = self.get(name, default)
        if not isinstance(values, tuple) or len(values) != length:
            raise ModelCorrupt(
                f"{self.file}: tokenizer.ggml.{name} does not have one element for each of {length} tokens"
            )
        return values

    def strings(self, name: str) -> StringArray:
        values = self.get(name)
        if not isinstance(values, StringArray):
            raise ModelUnsupported(f"{self.file} has no vocabulary: tokenizer.ggml.{name} is missing")
        return values

    @property
    def template(self) -> str:
        """The source of the model's own chat template, or nothing."""
        template = self._metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else ""

    def texts(self) -> list[str]:
        """Read the text of every token; only the empty text may come twice, as in llama.cpp."""
        texts = self.strings("tokens").strings
        if len(set(texts)) != len(texts):
            twice, count = Counter(filter(None, texts)).most_common(1)[0] if any(texts) else ("", 1)
            if count > 1:
                raise ModelCorrupt(f"{self.file} is damaged: its vocabulary has {twice!r} twice")
        return texts

    def token_id(self, name: str, size: int) -> int | None:
        """Read a special id. llama.cpp passes over one that is beyond the vocabulary; but for bos and eos, so do we."""
        token = self.get(f"{name}_token_id")
        if token is None or (isinstance(token, int) and 0 <= token < size):
            return token
        message = f"{self.file}: tokenizer.ggml.{name}_token_id is {token!r}, and there are {size} tokens"
        if name in ("bos", "eos") or not isinstance(token, int):
            raise ModelCorrupt(message)
        warnings.warn(f"{message}; it is passed over", PhiplugWarning, stacklevel=2)
        return None


def _words(keys: _Keys) -> PreTokenizer | None:
    model = keys.get("model")
    if model is None:
        raise ModelUnsupported(f"{keys.file} has no tokenizer")
    if model == "llama":
        return None
    if model == "gemma4":
        return GEMMA4
    if model != "gpt2":
        raise ModelUnsupported(f"{keys.file} has a tokenizer of the kind {model!r}, which is not known here")
    name = keys.get("pre")
    if name is None:
        raise ModelUnsupported(
            f"{keys.file} does not name its pre-tokenizer", hint="convert the model again with a current llama.cpp"
        )
    if name not in PRE_TOKENIZERS:
        raise ModelUnsupported(f"{keys.file} has the pre-tokenizer {name!r}, which is not known here")
    return PRE_TOKENIZERS[name]


def _pairs(keys: _Keys) -> list[tuple[str, str]]:
    merges = keys.strings("merges")
    parts = merges.joined(" ").split(" ") if merges else []  # in one go: there may be 300k
    if len(parts) != 2 * len(merges):
        raise ModelCorrupt(f"{keys.file} is damaged: not every element of tokenizer.ggml.merges is two tokens")
    return list(zip(parts[::2], parts[1::2], strict=True))


def _scored(keys: _Keys, texts: Sequence[str], odd: Mapping[int, int]) -> list[tuple[str, str]]:
    apart = {texts[token] for token, type_ in odd.items() if type_ in (UNKNOWN, CONTROL, BYTE)}
    return merges_of_scores(texts, keys.array("scores", len(texts)), apart)
