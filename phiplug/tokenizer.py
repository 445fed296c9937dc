"""A model's files -> the tokenizer that every backend shares.

From a GGUF's own vocabulary or a folder's tokenizer.json, with Hugging Face's `tokenizers` inside. For a GGUF it gives
the ids that llama.cpp gives. It knows nothing of templates and adds no token by itself: that is what `with_bos` is for.
"""

from __future__ import annotations

import gc
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from phiplug.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from phiplug.gguf import Header, read_header
from phiplug.spi import ModelFiles, Tokenizer
from phiplug.vocabulary import CONTROL, SPECIAL, UNKNOWN, USER_DEFINED, Spelling, Vocabulary, stop_texts, vocabulary_of

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
        return _tokenizer_of_folder(files.path)
    raise ModelUnsupported(f"{files.path.name} is of the format {files.format!r}, and no plugin has its tokenizer")


def tokenizer_of(header: Header) -> Tokenizer:
    """Build the tokenizer that a GGUF carries; raises as `load_tokenizer`."""
    with _collector_off():
        vocabulary = vocabulary_of(header)
        try:
            engine = _engine(vocabulary)
        except Exception as error:  # noqa: BLE001 - `tokenizers` raises nothing narrower
            raise ModelCorrupt(f"{header.path.name}: the vocabulary does not hold together: {error}") from None
    by_kind = {
        kind: {vocabulary.ids[text] for text, type_ in vocabulary.special.items() if type_ == kind} for kind in SPECIAL
    }
    traits = Traits(
        spelling=vocabulary.spelling,
        control=frozenset(by_kind[CONTROL]),
        silent=frozenset(by_kind[CONTROL] | by_kind[UNKNOWN]) | vocabulary.unused,
        literal=frozenset(by_kind[USER_DEFINED]),
        bos_id=vocabulary.bos_id,
        adds_bos=vocabulary.adds_bos,
        stop_ids=vocabulary.stop_ids,
        special_tokens=vocabulary.special_tokens,
        space_eaters=vocabulary.space_eaters,
    )
    return FileTokenizer(engine, len(vocabulary.ids), traits)


def with_bos(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Return `ids` beginning with exactly one bos where the model asks for it, and as they are where it does not."""
    bos = tokenizer.bos_id
    if bos is None or not tokenizer.adds_bos:
        return list(ids)
    begin = next((at for at, token in enumerate(ids) if token != bos), len(ids))
    return [bos, *ids[begin:]]


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
        special_tokens: the texts of bos_token, eos_token, unk_token and pad_token.
        space_eaters: the special tokens that swallow the white space after them.
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
    ids, merges = dict(vocabulary.ids), list(vocabulary.merges)
    if vocabulary.words is None:
        unknown = vocabulary.special_tokens.get("unk_token")
        engine = tokenizers.Tokenizer(models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
        spaces = normalizers.Replace(" ", "\u2581")
        prefix = [normalizers.Prepend("\u2581")] if vocabulary.space_prefix else []
        engine.normalizer = normalizers.Sequence([*prefix, spaces])
    else:
        engine = tokenizers.Tokenizer(models.BPE(ids, merges, ignore_merges=vocabulary.words.ignore_merges))
        cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in vocabulary.words.patterns]
        spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        engine.pre_tokenizer = pre_tokenizers.Sequence([*cuts, spell])
    engine.add_tokens(
        [
            AddedToken(text, special=type_ != USER_DEFINED, normalized=False)
            for text, type_ in vocabulary.special.items()
        ]
    )
    return engine


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


def _tokenizer_of_folder(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelNotFound(f"{folder} has no {path.name}")
    try:
        engine = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - `tokenizers` raises nothing narrower
        raise ModelCorrupt(f"{path} is no tokenizer: {error}") from None
    engine.no_truncation()
    engine.no_padding()
    added = engine.get_added_tokens_decoder()
    size = max([engine.get_vocab_size(), *(token + 1 for token in added)])
    config = _read_json(folder / "tokenizer_config.json")
    special = _special_tokens(config, _read_json(folder / "special_tokens_map.json"))
    control = {token for token, entry in added.items() if entry.special}
    bos = _id_of(engine, special.get("bos_token"))
    traits = Traits(
        spelling=_spelling_of(engine, path),
        control=frozenset(control),
        silent=frozenset(control),
        literal=frozenset(added.keys() - control),
        bos_id=bos,
        adds_bos=bos is not None and bool(config.get("add_bos_token", engine.encode("").ids[:1] == [bos])),
        stop_ids=frozenset(_folder_stops(folder, engine, special)),
        special_tokens=special,
    )
    return FileTokenizer(engine, size, traits)


def _folder_stops(folder: Path, engine: tokenizers.Tokenizer, special: Mapping[str, str]) -> set[int]:
    """Collect the ids that end an answer: eos, those of generation_config.json, and stop texts among added tokens."""
    listed = _read_json(folder / "generation_config.json").get("eos_token_id", [])
    stops = {token for token in (listed if isinstance(listed, list) else [listed]) if isinstance(token, int)}
    eos = _id_of(engine, special.get("eos_token"))
    added = {entry.content: token for token, entry in engine.get_added_tokens_decoder().items()}
    return stops | ({eos} if eos is not None else set()) | {added[text] for text in stop_texts(added)}


def _special_tokens(*sources: Mapping[str, Any]) -> dict[str, str]:  # Any: what JSON holds
    """Return the texts of the named tokens out of the first source that has each; some write a token as an object."""
    texts: dict[str, str] = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        entries = (source.get(name) for source in sources)
        found = (entry.get("content") if isinstance(entry, dict) else entry for entry in entries)
        if text := next((text for text in found if isinstance(text, str)), None):
            texts[name] = text
    return texts


def _id_of(engine: tokenizers.Tokenizer, text: str | None) -> int | None:
    return None if text is None else engine.token_to_id(text)


def _spelling_of(engine: tokenizers.Tokenizer, path: Path) -> Spelling:
    """Tell from its decoder how a tokenizer.json spells bytes."""
    decoder = str(engine.decoder)
    if "ByteLevel(" in decoder:
        return "byte-level"
    if "ByteFallback(" in decoder or "Metaspace(" in decoder:
        return "sentencepiece"
    raise ModelUnsupported(f"{path} spells its tokens in a way that is not known here: its decoder is {decoder}")


def _read_json(path: Path) -> dict[str, Any]:  # Any: what JSON holds
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelNotFound(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelCorrupt(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise ModelCorrupt(f"{path} is damaged: it holds no JSON object")
    return value
