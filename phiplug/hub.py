"""A model reference -> local files.

Paths, installed packages and short names are followed here. It reads no header and knows nothing of what is inside a
file; a damaged one is the header reader's to name.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from phiplug.errors import ModelCorrupt, ModelError, ModelNotFound
from phiplug.reference import Reference, is_inside, parse
from phiplug.spi import Memo, ModelFiles

_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)  # llama.cpp's naming of a split


def resolve(reference: str, *, aliases: Mapping[str, Sequence[str]], offline: bool = False) -> ModelFiles:
    """Find a model's files.

    Args:
        reference: a path, a name in `aliases`, `package:import_name/file.gguf`, or `hf:...`.
        aliases: short names, each with the references that are tried for it, in order.
        offline: fetch nothing.

    Raises:
        InvalidParameter: the reference is malformed.
        ModelNotFound: it leads to no file.
        ModelCorrupt: a part of the model is missing.
        ModelError: there is a file, but it cannot be read.
    """
    parsed = parse(reference)
    if parsed.kind == "name":
        return _named(parsed, aliases, offline=offline)
    return _follow(parsed, offline=offline)


def sha256_of(path: Path, memo: Memo) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, remembered by its path, size and time of change."""
    found = path.resolve()
    stat = found.stat()
    key = f"sha256:{found}:{stat.st_size}:{stat.st_mtime_ns}"
    known = memo.recall(key)
    if isinstance(known, str):
        return known
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    memo.remember(key, digest)
    return digest


def _follow(parsed: Reference, *, offline: bool) -> ModelFiles:  # noqa: ARG001  # the hub is next
    if parsed.kind == "package":
        return _in_package(parsed)
    if parsed.kind == "path":
        return _at_path(parsed.text, Path(parsed.place).expanduser())
    raise ModelNotFound(f"{parsed.text} is on the hub, which this version does not follow yet")


def _named(parsed: Reference, aliases: Mapping[str, Sequence[str]], *, offline: bool) -> ModelFiles:
    references = aliases.get(parsed.place)
    if references is None:
        if Path(parsed.place).exists():
            return _at_path(parsed.text, Path(parsed.place))
        raise _unknown(parsed.place, aliases)
    failures: list[ModelError] = []
    for text in references:
        try:
            found = _follow(parse(text), offline=offline)
        except ModelNotFound as error:
            failures.append(error)
        else:
            return ModelFiles(parsed.text, found.path, found.format)
    reasons = "; ".join(error.message for error in failures) or "nothing is tried for it"
    raise ModelNotFound(f"{parsed.place}: {reasons}", hint=failures[-1].hint if failures else None)


def _unknown(name: str, aliases: Mapping[str, Sequence[str]]) -> ModelNotFound:
    near = difflib.get_close_matches(name, aliases, n=1)
    hint = f"did you mean {near[0]}?" if near else f"name a path, hf:owner/repo, or one of {', '.join(sorted(aliases))}"
    return ModelNotFound(f"no model is called {name!r}", hint=hint)


def _in_package(parsed: Reference) -> ModelFiles:
    file = parsed.file or ""
    try:
        spec = importlib.util.find_spec(parsed.place)  # finds a top-level package without importing it
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ModelNotFound(
            f"the package {parsed.place} is not installed", hint="install the distribution that carries it"
        )
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, file)
        if path.exists():
            return _at_path(parsed.text, path)
    raise ModelNotFound(f"the package {parsed.place} has no file {file}")


def _at_path(reference: str, path: Path) -> ModelFiles:
    try:
        if path.is_dir():
            return _in_folder(reference, path)
        if not path.exists():
            raise ModelNotFound(f"there is no file {path}", hint=_meant(reference))
        if not path.is_file():
            raise ModelNotFound(f"{path} is not a regular file")
        with path.open("rb"):  # permissions are asked of the system, not computed
            return ModelFiles(reference, _first_part(path), "gguf")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error


def _meant(reference: str) -> str | None:
    if re.fullmatch(r"[\w-]+/[\w.-]+", reference):
        return f"a repository of the hub is written hf:{reference}"
    return None


def _first_part(path: Path) -> Path:
    """Return the first file of a split, once all its parts are seen to be there; any other path as it is."""
    match = _PART.search(path.name)
    if match is None:
        return path
    stem, count = path.name[: match.start()], int(match[2])
    parts = [path.with_name(f"{stem}-{index:05}-of-{count:05}.gguf") for index in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise ModelCorrupt(f"{len(missing)} of the {count} parts of {path.name} are missing: {_some(missing)}")
    return parts[0]


def _in_folder(reference: str, folder: Path) -> ModelFiles:
    names = sorted(path.name for path in folder.iterdir())
    if "config.json" in names and any(name.endswith(".safetensors") for name in names):
        _require_shards(folder)
        return ModelFiles(reference, folder, "folder")
    files = [name for name in names if name.lower().endswith(".gguf")]
    whole = [name for name in files if (part := _PART.search(name)) is None or int(part[1]) == 1]
    if len(whole) == 1:
        return ModelFiles(reference, _first_part(folder / whole[0]), "gguf")
    if whole:
        raise ModelNotFound(f"the folder {folder} holds several models: {_some(whole)}", hint="name one of the files")
    if "config.json" in names:
        raise ModelNotFound(f"the folder {folder} holds config.json but no *.safetensors")
    raise ModelNotFound(
        f"the folder {folder} holds no model", hint="a GGUF file, or config.json beside *.safetensors, is looked for"
    )


def _require_shards(folder: Path) -> None:
    """Raise ModelCorrupt where the folder's index names a shard that is not there, or outside."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        missing = [name for name in shards if not is_inside(name) or not (folder / name).is_file()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelCorrupt(f"{index} is not an index of safetensors") from error
    if missing:
        raise ModelCorrupt(f"{len(missing)} of {len(shards)} shards of {folder} are missing: {_some(missing)}")


def _some(names: Sequence[str]) -> str:
    """Spell a list that may be long: its first eight."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
