"""Builds the tokenizer that every backend shares from a model's files, with Hugging Face's `tokenizers` inside.

It reads a GGUF's own vocabulary or a folder's tokenizer.json. For a GGUF it gives the ids that llama.cpp gives. It
renders no templates and adds no token by itself: that is what `with_bos` is for.
"""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header, read_header
from phiplug.spi import ModelFiles, Tokenizer
from phiplug.text.pretokenizers import PreTokenizer
from phiplug.text.tokenizer_json import read_tokenizer_json
from phiplug.text.vocabulary import Traits, Vocabulary, vocabulary_of

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def load_tokenizer(files: ModelFiles) -> Tokenizer:
    """Build the tokenizer of a model.

    Raises:
        ModelNotFound: a file that it needs is missing or cannot be read.
        ModelCorrupt: a file is damaged.
        ModelUnsupported: the tokenizer is of a kind that is not known here; the message names it.
    """
    if files.format == "gguf":
        return tokenizer_of(read_header(files.path))
    if files.format == "folder":
        return FileTokenizer(*read_tokenizer_json(files.path))
    raise ModelUnsupported(f"{files.path.name} is of the format {files.format!r}, and no plugin has its tokenizer")


def tokenizer_of(header: Header) -> Tokenizer:
    """Build the tokenizer that a GGUF carries; raises as `load_tokenizer`."""
    with _collector_off():
        vocabulary = vocabulary_of(header)
        try:
            engine = _engine(vocabulary)
        except Exception as error:  # noqa: BLE001 - `tokenizers` raises nothing narrower
            raise ModelCorrupt(f"{header.path.name}: the vocabulary does not hold together: {error}") from None
    return FileTokenizer(engine, vocabulary.size, vocabulary.traits)


def with_bos(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Return `ids` beginning with exactly one bos where the model asks for it, and as they are where it does not."""
    bos = tokenizer.bos_id
    if bos is None or not tokenizer.adds_bos:
        return list(ids)
    begin = next((at for at, token in enumerate(ids) if token != bos), len(ids))
    return [bos, *ids[begin:]]


class FileTokenizer:
    """A tokenizer that was read from a model's files; see `phiplug.spi.Tokenizer`. Threads may share it."""

    def __init__(self, engine: tokenizers.Tokenizer, vocab_size: int, traits: Traits) -> None:
        self._engine = engine
        self._vocab_size = vocab_size
        self._traits = traits
        self._lock = threading.Lock()  # encode sets a switch of the engine
        literal = {str(engine.id_to_token(token)) for token in traits.literal}
        self._eaten_space = {
            True: _space_after(traits.space_eaters),
            False: _space_after(traits.space_eaters & literal),
        }

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return self._vocab_size

    @property
    def bos_id(self) -> int | None:
        """The id that begins a sequence, or None."""
        return self._traits.bos_id

    @property
    def adds_bos(self) -> bool:
        """Whether the model asks for `bos_id` at the beginning."""
        return self._traits.adds_bos

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an answer."""
        return self._traits.stop_ids

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """The texts of bos_token, eos_token, unk_token and pad_token, where there are such."""
        return self._traits.special_tokens

    def encode(self, text: str, *, parse_special: bool = True) -> list[int]:
        """Return the ids of `text`, without adding any; `parse_special` turns control tokens' texts into their ids."""
        eaten = self._eaten_space[parse_special]
        text = eaten.sub(r"\1", text) if eaten else text
        with self._lock:
            self._engine.encode_special_tokens = not parse_special
            ids: list[int] = self._engine.encode(text, add_special_tokens=False).ids
        return ids

    def control_tokens_in(self, text: str) -> list[str]:
        """Return the texts of the control tokens that `encode` would find in `text`, in order."""
        return [str(self._engine.id_to_token(token)) for token in self.encode(text) if token in self._traits.control]

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that `token` stands for; b"" for a control token, and for an id that stands for nothing."""
        text = None if token in self._traits.silent else self._engine.id_to_token(token)
        if text is None:
            return b""
        if token in self._traits.literal:
            return text.encode()
        return _bytes_of_byte_level(text) if self._traits.spelling == "byte-level" else _bytes_of_sentencepiece(text)


def _engine(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    ids, merges = vocabulary.ids, vocabulary.merges
    words = vocabulary.words
    if words is None or not words.spells_bytes:
        unknown = vocabulary.traits.special_tokens.get("unk_token")
        engine = tokenizers.Tokenizer(models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
        spaces = normalizers.Replace(" ", "\u2581")
        prefix = [normalizers.Prepend("\u2581")] if vocabulary.space_prefix else []
        engine.normalizer = normalizers.Sequence([*prefix, spaces])
        if words:
            engine.pre_tokenizer = pre_tokenizers.Sequence(_cuts(words))
    else:
        engine = tokenizers.Tokenizer(models.BPE(ids, merges, ignore_merges=words.ignore_merges))
        cuts = _cuts(words)
        spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        engine.pre_tokenizer = pre_tokenizers.Sequence([*cuts, spell])
    engine.add_tokens(
        [AddedToken(text, special=hidden, normalized=False) for text, hidden in vocabulary.special.items()]
    )
    return engine


def _cuts(words: PreTokenizer) -> list[pre_tokenizers.PreTokenizer]:
    return [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in words.patterns]


@contextmanager
def _collector_off() -> Iterator[None]:
    """Hold the garbage collector: 300k new tuples start it often, and it finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _space_after(texts: Iterable[str]) -> re.Pattern[str] | None:
    """Return what matches one of `texts` and the ASCII white space after it; None for no texts."""
    longest_first = sorted(map(re.escape, texts), key=len, reverse=True)
    return re.compile(rf"({'|'.join(longest_first)})[ \t\n\v\f\r]+") if longest_first else None


@cache
def _byte_of_letter() -> dict[str, int]:
    """Return GPT-2's alphabet: printable bytes stand for themselves, the others for letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


def _bytes_of_byte_level(text: str) -> bytes:
    letters = _byte_of_letter()
    return b"".join(bytes((letters[letter],)) if letter in letters else letter.encode() for letter in text)


def _bytes_of_sentencepiece(text: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(text)
    return bytes((int(byte[1], 16),)) if byte else text.replace("\u2581", " ").encode()
