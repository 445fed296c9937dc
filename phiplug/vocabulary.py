"""A GGUF's tokenizer keys -> a checked vocabulary: texts, kinds, merges and special ids.

It knows how the keys are spelled and what they must satisfy, and nothing of how text is encoded.
Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header
from phiplug.pretokenizers import PRE_TOKENIZERS, PreTokenizer

Spelling = Literal["byte-level", "sentencepiece"]

UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6  # tokenizer.ggml.token_type; 1 is normal, 5 unused
SPECIAL = frozenset({UNKNOWN, CONTROL, USER_DEFINED})  # found in text before anything else is

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
"""Control tokens that end an answer: turns, documents, and the borders of files in a model that completes code."""

_NO_STOP_BESIDE: Mapping[str, tuple[frozenset[str], ...]] = {
    "<|end|>": (frozenset({"<|return|>", "<|call|>"}), frozenset({"<|flush|>", "<|calls|>"})),
    "</s>": (frozenset({"<|tool_response>"}),),
}
"""In such company a stop text is none: gpt-oss and solar end a message with it and go on, gemma 4 only carries it."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a GGUF says about its tokens.

    Attributes:
        spelling: how a token's text stands for bytes.
        texts: by id.
        types: by id; the constants above.
        merges: which two neighbours become one token, the first ones first.
        words: how the text is cut before the merges; None for not at all.
        space_prefix: whether text gets a space in front.
        space_eaters: the special tokens that swallow the white space after them, as most of phi-3's do.
        bos_id: the id that begins a sequence, or None.
        adds_bos: whether the model asks for it.
        stop_ids: the ids that end an answer.
        special_tokens: the texts of bos_token, eos_token, unk_token and pad_token.
    """

    spelling: Spelling
    texts: Sequence[str]
    types: Sequence[int]
    merges: Sequence[tuple[str, str]]
    words: PreTokenizer | None
    space_prefix: bool
    space_eaters: frozenset[str]
    bos_id: int | None
    adds_bos: bool
    stop_ids: frozenset[int]
    special_tokens: Mapping[str, str]


def vocabulary_of(header: Header) -> Vocabulary:
    """Read and check the vocabulary of a GGUF.

    Raises:
        ModelUnsupported: its tokenizer, or its pre-tokenizer, is of a kind that is not known here.
        ModelCorrupt: its keys do not belong together.
    """
    keys = _Keys(header)
    model = keys.text("model")
    texts = keys.texts()
    types = keys.array("token_type", len(texts), (1,) * len(texts))
    ids = {name: keys.token_id(name, len(texts)) for name in ("bos", "eos", "eot", "eom", "unknown", "padding")}
    words = _words(keys, model)
    adds_bos = bool(keys.get("add_bos_token", words.adds_bos if words else True))
    if adds_bos and ids["bos"] is None:
        raise ModelCorrupt(f"{keys.file} asks for a bos token and does not say which")
    ends = (token for name in ("eos", "eot", "eom") if (token := ids[name]) is not None)
    special = {text: token for token, text in enumerate(texts) if types[token] in SPECIAL}
    named = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    return Vocabulary(
        spelling="byte-level" if words else "sentencepiece",
        texts=texts,
        types=types,
        merges=_pairs(keys) if words else merges_of_scores(texts, types, keys.array("scores", len(texts))),
        words=words,
        space_prefix=not words and bool(keys.get("add_space_prefix", True)),
        space_eaters=_space_eaters(header, special),
        bos_id=ids["bos"],
        adds_bos=adds_bos,
        stop_ids=frozenset(stops_by_text(special).union(ends)),
        special_tokens={name: texts[at] for name, key in named.items() if (at := ids[key]) is not None},
    )


def stops_by_text(special: Mapping[str, int]) -> set[int]:
    """Return the ids that end an answer, out of the texts and ids of a vocabulary's special tokens."""
    return {
        token
        for text, token in special.items()
        if text in STOP_TEXTS and not any(company <= special.keys() for company in _NO_STOP_BESIDE.get(text, ()))
    }


def merges_of_scores(texts: Sequence[str], types: Sequence[int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Turn the scores of a SentencePiece vocabulary into merges.

    SentencePiece joins the two neighbours whose joint text has the highest score, so each way to cut a token in two
    tokens is a merge, and those of the highest token come first. Among the cuts of one token it takes the leftmost in
    the text, which no order of merges can say in every case; the longer left part first says it in most.
    """
    parts = {text for text, type_ in zip(texts, types, strict=True) if type_ not in (UNKNOWN, CONTROL, BYTE)}
    ranked = sorted(range(len(texts)), key=scores.__getitem__, reverse=True)
    return [
        (left, right)
        for text in (texts[token] for token in ranked)
        if text in parts
        for cut in range(len(text) - 1, 0, -1)
        if (left := text[:cut]) in parts and (right := text[cut:]) in parts
    ]


class _Keys:
    """The keys `tokenizer.ggml.*` of one file."""

    def __init__(self, header: Header) -> None:
        self.file = header.path.name
        self._metadata = header.metadata

    def get(self, name: str, default: Any = None) -> Any:  # Any: the file says what it holds
        return self._metadata.get(f"tokenizer.ggml.{name}", default)

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str):
            raise ModelUnsupported(f"{self.file} says nothing of its tokenizer: tokenizer.ggml.{name} is missing")
        return value

    def array(self, name: str, length: int, default: Any = ()) -> Any:  # Any: as get
        values = self.get(name, default)
        if not isinstance(values, Sequence) or len(values) != length:
            raise ModelCorrupt(
                f"{self.file}: tokenizer.ggml.{name} does not have one element for each of {length} tokens"
            )
        return values

    def texts(self) -> list[str]:
        texts = list(self.get("tokens", ()))
        if not texts or not isinstance(texts[0], str):
            raise ModelUnsupported(f"{self.file} has no vocabulary")
        if len(set(texts)) != len(texts):
            twice = Counter(texts).most_common(1)[0][0]
            raise ModelCorrupt(f"{self.file} is damaged: its vocabulary has {twice!r} twice")
        return texts

    def token_id(self, name: str, size: int) -> int | None:
        token = self.get(f"{name}_token_id")
        if token is None or (isinstance(token, int) and 0 <= token < size):
            return token
        raise ModelCorrupt(f"{self.file}: tokenizer.ggml.{name}_token_id is {token!r}, and there are {size} tokens")


def _words(keys: _Keys, model: str) -> PreTokenizer | None:
    if model == "llama":
        return None
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
    merges = list(keys.get("merges", ()))
    parts = " ".join(merges).split(" ") if merges else []  # in one go: there may be 300k
    if len(parts) != 2 * len(merges):
        raise ModelCorrupt(f"{keys.file}: not every element of tokenizer.ggml.merges is two tokens")
    return list(zip(parts[::2], parts[1::2], strict=True))


def _space_eaters(header: Header, special: Iterable[str]) -> frozenset[str]:
    """Tell, as llama.cpp does by the model's name, which tokens swallow white space: a GGUF does not say it."""
    name = str(header.metadata.get("general.name")).lower()
    is_phi3 = "phi-3" in name or "phi3" in name
    return frozenset(special) - {"<unk>", "<s>", "<|endoftext|>"} if is_phi3 else frozenset()
