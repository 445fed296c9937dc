"""Chooses the files of one model among the names of a folder or of a repository.

It sees names only and opens nothing. Names have forward slashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from phiplug.errors import ModelCorrupt, ModelNotFound

INDEX = "model.safetensors.index.json"
CONFIG = "config.json"

_PART = re.compile(r"-(\d{5})-of-(\d{5})(?=(\.gguf|\.safetensors)$)", re.IGNORECASE)  # of llama.cpp and transformers
_NO_MODEL = re.compile(r"^(imatrix|ggml-vocab)|mmproj", re.IGNORECASE)  # statistics, vocabularies, image projectors
_SHARD = re.compile(r"[\w.-]+\.safetensors", re.ASCII)
_BESIDE_WEIGHTS = re.compile(  # never *.py, and never pickled weights
    r"(config|generation_config|added_tokens|special_tokens_map|vocab|chat_template|tokenizer(_config)?)\.json"
    r"|tokenizer\.model|merges\.txt|chat_template\.jinja"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The files of one model.

    Attributes:
        files: their names; of a split the first part comes first, of a folder `config.json` does.
        format: "gguf", or "folder" for config.json beside safetensors.
    """

    files: tuple[str, ...]
    format: Literal["gguf", "folder"]


def select(names: Iterable[str], *, file: str | None = None, quant: str | None = None) -> Selection:
    """Choose one model.

    Args:
        names: what there is.
        file: a GGUF file that is wanted, or any part of a split.
        quant: a word that the wanted GGUF file has in its name, between other signs than letters, digits and `_`, in
            any case: "q4" chooses `phi-q4.gguf` and not `phi-Q4_K_M.gguf`.

    Raises:
        ModelNotFound: nothing fits, or several do; the message lists what there is.
        ModelCorrupt: a part of the chosen split is not among the names.
    """
    present = set(names)
    firsts = first_parts(present)
    if file is not None:
        return _named(file, present, firsts)
    if quant is not None:
        word = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(quant)}(?![A-Za-z0-9_])", re.IGNORECASE)
        fitting = [first for first in firsts if word.search(_PART.sub("", first)[: -len(".gguf")])]
        if len(fitting) != 1:
            raise ModelNotFound(
                f"{len(fitting) or 'no'} GGUF files are called {quant!r}; there is {spell(fitting or firsts)}",
                hint="name one of the files",
            )
        return _whole(fitting[0], present)
    if len(firsts) > 1:
        raise ModelNotFound(f"there are several models: {spell(firsts)}", hint="name one of the files")
    return _whole(firsts[0], present) if firsts else _folder(present)


def first_parts(names: Iterable[str]) -> list[str]:
    """Return the GGUF files that are models, sorted: of a split its first part, and no image projectors."""
    ggufs = (name for name in names if name.lower().endswith(".gguf"))
    models = (name for name in ggufs if not _NO_MODEL.search(PurePosixPath(name).name))
    return sorted(name for name in models if (part := _PART.search(name)) is None or int(part[1]) == 1)


def parts(name: str) -> list[str]:
    """Return every part of the split that a file belongs to, the first part first; the name alone where it is whole."""
    match = _PART.search(name)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        return [name]
    stem, count, ending = name[: match.start()], match[2], name[match.end() :]
    return [f"{stem}-{number:05}-of-{count}{ending}" for number in range(1, int(count) + 1)]


def shards(weight_map: object) -> list[str]:
    """Return the files that an index of safetensors names.

    Raises:
        ModelCorrupt: it is no index, or a name leads out of its folder.
    """
    files = list(weight_map.values()) if isinstance(weight_map, dict) else [None]
    sound = [file for file in files if isinstance(file, str) and _SHARD.fullmatch(file)]
    if len(sound) != len(files):
        raise ModelCorrupt(f"{INDEX} is not an index of safetensors")
    return sorted(set(sound))


def spell(names: Sequence[str]) -> str:
    """Spell a list that may be long: its first twelve."""
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return (", ".join(names[:12]) or "none") + more


def _named(file: str, present: set[str], firsts: list[str]) -> Selection:
    if file not in present:
        raise ModelNotFound(f"there is no file {file}; there is {spell(firsts)}")
    if not file.lower().endswith(".gguf"):
        raise ModelNotFound(f"{file} is not a GGUF file", hint="a model of other files is named by its folder alone")
    return _whole(file, present)


def _whole(file: str, present: set[str]) -> Selection:
    return Selection(tuple(_all_parts(file, present)), "gguf")


def _all_parts(file: str, present: set[str]) -> list[str]:
    files = parts(file)
    missing = [part for part in files if part not in present]
    if missing:
        raise ModelCorrupt(f"{len(missing)} of the {len(files)} parts of {file} are missing: {spell(missing)}")
    return files


def _folder(present: set[str]) -> Selection:
    weights = sorted(name for name in present if _SHARD.fullmatch(name))
    weights = [name for name in weights if name.startswith("model")] or weights  # a repository may hold them twice
    for file in weights:
        _all_parts(file, present)
    if CONFIG in present and weights:
        beside = sorted(name for name in present if _BESIDE_WEIGHTS.fullmatch(name) and name != CONFIG)
        index = [INDEX] if INDEX in present else []
        return Selection((CONFIG, *beside, *index, *weights), "folder")
    if CONFIG in present:
        raise ModelNotFound("there is config.json but no *.safetensors", hint="pickled weights (*.bin) are not read")
    raise ModelNotFound("there is no model", hint="a GGUF file, or config.json beside *.safetensors, is looked for")
