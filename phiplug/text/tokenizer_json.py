"""Reads a folder's tokenizer.json and the settings beside it.

The settings are tokenizer_config.json, special_tokens_map.json, generation_config.json and config.json; any may be
missing. This module knows how transformers writes them, but not how the core uses them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from phiplug.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from phiplug.folder import read_json
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
    config = read_json(folder / "tokenizer_config.json", optional=True)
    special = _special_tokens(config, read_json(folder / "special_tokens_map.json", optional=True))
    control = {token for token, entry in added.items() if entry.special}
    bos, eos = (_id_of(engine, special.get(name)) for name in ("bos_token", "eos_token"))
    spelling = _spelling_of(engine, path)
    stops = _named_stops(folder) | _table_stops(engine, control, _template_text(folder, config))
    traits = Traits(
        spelling=spelling,
        control=frozenset(control),
        silent=frozenset(control),
        literal=frozenset(added.keys() - control) if spelling == "byte-level" else frozenset(),
        bos_id=bos,
        adds_bos=bos is not None and bool(config.get("add_bos_token", engine.encode("").ids[:1] == [bos])),
        stop_ids=frozenset(stops if eos is None else stops | {eos}),
        special_tokens=special,
    )
    return engine, size, traits


def _named_stops(folder: Path) -> set[int]:
    """Collect the eos ids that generation_config.json and config.json list."""
    config = read_json(folder / "config.json", optional=True)
    sources = (read_json(folder / "generation_config.json", optional=True), config, config.get("text_config"))
    lists = [source.get("eos_token_id", []) for source in sources if isinstance(source, dict)]
    return {token for listed in lists for token in _as_list(listed) if type(token) is int and token >= 0}


def _table_stops(engine: tokenizers.Tokenizer, control: Collection[int], template: str) -> set[int]:
    """Find the added tokens that end an answer though no file names them."""
    added = {entry.content: token for token, entry in engine.get_added_tokens_decoder().items()}
    return {added[text] for text in stop_texts(added, {t for t, token in added.items() if token in control}, template)}


def _template_text(folder: Path, config: Mapping[str, Any]) -> str:  # Any: what JSON holds
    """Return the source of the folder's chat templates, as it stands: it is only searched for the texts of tokens."""
    path = folder / "chat_template.jinja"
    try:
        return (
            path.read_text(encoding="utf-8", errors="replace") if path.is_file() else str(config.get("chat_template"))
        )
    except OSError as error:
        raise ModelNotFound(f"{path} cannot be read: {error.strerror}") from None


def _as_list(value: Any) -> list[Any]:  # Any: what JSON holds
    return value if isinstance(value, list) else [value]


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
