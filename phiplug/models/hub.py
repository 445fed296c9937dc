"""Finds the files of a model by its reference.

Paths, installed packages, short names and the hub's cache are looked through here; `phiplug.models.repository` fetches
what is not in the cache. It reads no header: a damaged one is the header reader's to name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from phiplug.errors import ModelCorrupt, ModelError, ModelNotFound
from phiplug.folder import read_json
from phiplug.models.download import Progress, Quiet
from phiplug.models.reference import Reference, parse
from phiplug.models.repository import is_offline, listed_names, names_in, pull, snapshot_of
from phiplug.models.selection import INDEX, Selection, parts, select, shards, spell
from phiplug.spi import Cache, ModelFiles
from phiplug.userfiles import expanded


def resolve(
    reference: str,
    *,
    aliases: Mapping[str, Sequence[str]],
    offline: bool = False,
    update: bool = False,
    before_fetch: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
) -> ModelFiles:
    """Find a model's files; fetch them where they are on the hub and not yet in its cache.

    What an `hf:` reference means does not depend on what is cached: it chooses among the names that the hub listed.

    Args:
        reference: a path, a name in `aliases`, `package:import_name/file.gguf`, or
            `hf:owner/repo[:QUANT | /file.gguf][@revision]`.
        aliases: short names, each with the references that are tried for it, in order.
        offline: fetch nothing; HF_HUB_OFFLINE says the same.
        update: ask the hub what it has now, even if the model is here; without a network this asks nobody.
        before_fetch: is called where the model is not here, before the hub is asked; what it raises ends the search.
        progress: is told how far a download is.

    Raises:
        InvalidParameter: the reference is malformed.
        ModelNotFound: it leads to no file, or does not choose one model.
        ModelCorrupt: a part of the model is missing.
        ModelError: there is a file, but it cannot be read.
        DownloadFailed: the hub, the network or the disk would not let the files arrive whole.
    """
    parsed = parse(reference)
    finder = _Finder(offline or is_offline(), update, before_fetch, Quiet() if progress is None else progress)
    return finder.named(parsed, aliases) if parsed.kind == "name" else finder.follow(parsed)


def weight_files(files: ModelFiles) -> list[Path]:
    """Return the files with weights: a GGUF and its other parts, a folder's safetensors, or the one file."""
    if files.path.is_dir():
        return sorted(files.path.glob("*.safetensors"))
    return [files.path.with_name(name) for name in parts(files.path.name)]


def checksum_of(files: ModelFiles, cache: Cache) -> str:
    """Return the SHA-256 of a model: of its one file, or of the list of its files with theirs."""
    paths = weight_files(files)
    if len(paths) == 1:
        return sha256_of(paths[0], cache)
    together = "".join(f"{path.name} {sha256_of(path, cache)}\n" for path in paths)
    return hashlib.sha256(together.encode()).hexdigest()


def sha256_of(path: Path, cache: Cache) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, remembered by its path, size and time of change."""
    found = path.resolve()
    stat = found.stat()
    key = f"sha256:{found}:{stat.st_size}:{stat.st_mtime_ns}"
    known = cache.get(key)
    if isinstance(known, str):
        return known
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    cache.set(key, digest)
    return digest


class _Finder:
    """How references are followed in one call of `resolve`."""

    def __init__(self, offline: bool, update: bool, before_fetch: Callable[[], None], progress: Progress) -> None:
        self._offline = offline
        self._update = update
        self._before_fetch = before_fetch
        self._progress = progress

    def named(self, parsed: Reference, aliases: Mapping[str, Sequence[str]]) -> ModelFiles:
        references = aliases.get(parsed.place)
        if references is None:
            if os.path.exists(parsed.place):  # noqa: PTH110  Path.exists raises for what no file can be called
                return _at_path(parsed.text, Path(parsed.place))
            raise _unknown(parsed.place, aliases)
        failures: list[ModelError] = []
        for text in references:
            try:
                found = self.follow(parse(text))
            except ModelNotFound as error:
                failures.append(error)
            else:
                return ModelFiles(parsed.text, found.path, found.format)
        reasons = "; ".join(error.message for error in failures) or "nothing is tried for it"
        raise ModelNotFound(f"{parsed.place}: {reasons}", hint=failures[-1].hint if failures else None)

    def follow(self, parsed: Reference) -> ModelFiles:
        match parsed.kind:
            case "path":
                return _at_path(parsed.text, expanded(parsed.place))
            case "package":
                return _in_package(parsed)
            case "hub":
                return self._on_hub(parsed)
            case "name":
                raise ModelNotFound(f"{parsed.text!r} is a name, and names do not lead to names")

    def _on_hub(self, parsed: Reference) -> ModelFiles:
        known = _is_certain(parsed)
        found = cached(parsed) if self._offline or (known and not self._update) else None
        if found is None:
            self._before_fetch()
        if found is None and not self._offline:
            return _files(parsed.text, *pull(parsed, self._progress))
        if found is None:
            raise ModelNotFound(
                f"{parsed.text} is not in the cache, and the network is off limits",
                hint=f"fetch it once without `offline` and HF_HUB_OFFLINE: `phiplug models pull {parsed.text}`; "
                "or name a file of yours with -m FILE",
            )
        if found.format == "gguf" and not known and not parsed.quant:  # the repository may have others
            name = found.path.relative_to(snapshot_of(parsed)).as_posix()
            raise ModelNotFound(
                f"{parsed.text}: {name} is in the cache, but not the list of what else the repository has",
                hint=f"name the file: hf:{parsed.place}/{name}",
            )
        return found


def cached(parsed: Reference) -> ModelFiles | None:
    """Return the files that a hub reference chooses, if the cache has them all; the network is not asked.

    Where the cache does not know what the hub lists, the choice is among the files that are here.
    """
    folder = snapshot_of(parsed)
    here = names_in(folder)
    listed = listed_names(parsed.place, folder.name)
    try:
        selection = select(here if listed is None else listed, file=parsed.file, quant=parsed.quant)
        if selection.format == "folder":
            _require_shards(folder)
    except ModelError:
        return None
    return _files(parsed.text, folder, selection) if set(selection.files) <= set(here) else None


def _is_certain(parsed: Reference) -> bool:
    """Whether the cache can tell what the reference chooses: it names a file, or the cache knows the hub's list."""
    return parsed.file is not None or listed_names(parsed.place, snapshot_of(parsed).name) is not None


def _files(reference: str, folder: Path, selection: Selection) -> ModelFiles:
    path = folder if selection.format == "folder" else folder / selection.files[0]
    return ModelFiles(reference, path, selection.format)


def _unknown(name: str, aliases: Mapping[str, Sequence[str]]) -> ModelNotFound:
    import difflib

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
            raise ModelNotFound(f"there is no file {reference}", hint=_meant(reference))
        if not path.is_file():
            raise ModelNotFound(f"{path} is not a regular file")
        with path.open("rb"):  # permissions are asked of the system, not computed
            return ModelFiles(reference, _first_part(path), "gguf")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from error


def _meant(reference: str) -> str | None:
    page = re.fullmatch(r"https://huggingface\.co/([\w.-]+/[\w.-]+)/?", reference)
    if page:
        return f"the hub's model is written hf:{page[1]}"
    if re.fullmatch(r"[\w-]+/[\w.-]+", reference):
        return f"a repository of the hub is written hf:{reference}"
    return None


def _first_part(path: Path) -> Path:
    """Return the first file of a split, once all its parts are seen to be there; any other path as it is."""
    files = parts(path.name)
    missing = [name for name in files if not path.with_name(name).is_file()]
    if missing:
        raise ModelCorrupt(f"{len(missing)} of the {len(files)} parts of {path} are missing: {spell(missing)}")
    return path.with_name(files[0])


def _in_folder(reference: str, folder: Path) -> ModelFiles:
    try:
        selection = select(path.name for path in folder.iterdir() if path.is_file())
    except ModelError as error:
        raise type(error)(f"the folder {folder}: {error.message}", hint=error.hint) from error
    if selection.format == "folder":
        _require_shards(folder)
    return _files(reference, folder, selection)


def _require_shards(folder: Path) -> None:
    """Raise ModelCorrupt where the folder's index is none, or names a shard that is not there."""
    index = folder / INDEX
    if not index.exists():
        return
    try:
        files = shards(read_json(index)["weight_map"])
    except (ModelCorrupt, KeyError, TypeError) as error:
        raise ModelCorrupt(f"{index} is not an index of safetensors") from error
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise ModelCorrupt(f"{len(missing)} of the {len(files)} shards of {folder} are missing: {spell(missing)}")
