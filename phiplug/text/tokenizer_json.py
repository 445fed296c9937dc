"""A folder's tokenizer.json and the settings beside it -> what encodes, and the traits of its tokens.

The settings are tokenizer_config.json, special_tokens_map.json and generation_config.json; any may be missing. This
file knows how transformers writes them, and nothing of how the core uses them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from phiplug.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from phiplug.text.vocabulary import Spelling, Traits, stop_texts


def read_tokenizer_json(folder: Path) -> tuple[tokenizers.Tokenizer, int, Traits]:
    """Read the tokenizer of a folder, as transformers writes one.

    Returns:
        what encodes, how many ids there are, and what the other files say.

    Raises:
        ModelNotFound: tokenizer.json is missing, or a file cannot be read.
        ModelCorrupt: a file is damaged.
        ModelUnsupported: the tokens are spelled in a way that is not known here.
    """
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
    return engine, size, traits


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
