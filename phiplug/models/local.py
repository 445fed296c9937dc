"""Lists the models in the hub's cache and in installed packages, and removes those of the cache.

It reads names and sizes, no headers: what is inside a file is the header reader's to say. The cache's layout is
described in `phiplug.models.repository`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from phiplug.errors import InvalidParameter, ModelError, ModelNotFound
from phiplug.models.hub import cached
from phiplug.models.reference import Reference, parse
from phiplug.models.repository import cache_of, hub_cache, names_in
from phiplug.models.selection import Selection, first_parts, parts, select

if TYPE_CHECKING:
    from huggingface_hub import DeleteCacheStrategy

    from phiplug.spi import ModelFiles


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model on this machine.

    Attributes:
        reference: what `--model` takes to mean it, with a commit where no revision's name leads to it.
        path: the GGUF file (the first one of a split), or the folder.
        format: "gguf" or "folder".
        size: of all its files, in bytes.
        place: where it is: in the hub's cache, or in an installed package.
    """

    reference: str
    path: Path
    format: str
    size: int
    place: Literal["cache", "package"]


def in_cache() -> list[StoredModel]:
    """Return the whole models in the hub's cache, in the order of their references."""
    found = (model for folder in hub_cache().glob("models--*") for model in _in_repository(folder))
    return sorted(found, key=lambda model: model.reference)


def in_packages() -> list[StoredModel]:
    """Return the GGUF files that installed distributions list as theirs, in the order of their references."""
    found = []
    for distribution in importlib.metadata.distributions():
        record = distribution.read_text("RECORD") or ""
        if ".gguf" not in record:  # most have none, and a record is long
            continue
        names = [file.as_posix() for file in distribution.files or () if "/" in file.as_posix()]
        for name in first_parts(names):
            with contextlib.suppress(ModelError, InvalidParameter, OSError):
                reference = parse(f"package:{name}").text
                folder = Path(str(distribution.locate_file("")))
                found.append(_stored(reference, folder, select(names, file=name), "package"))
    return sorted(found, key=lambda model: model.reference)


def remove(reference: str, *, aliases: Mapping[str, Sequence[str]]) -> int:
    """Remove a model from the hub's cache, and whatever of its bytes no other model there uses.

    Args:
        reference: an `hf:` reference, or a name that stands for one.
        aliases: short names, each with the references that are tried for it.

    Returns:
        how many bytes became free.

    Raises:
        InvalidParameter: the reference is malformed, or names something outside the cache.
        ModelNotFound: the cache has no such model.
        ModelError: the files cannot be removed.
    """
    parsed = _in_the_cache(reference, aliases)
    found = cached(parsed)
    if found is None:
        hint = "`phiplug models list` shows what is; a package is removed with pip"
        raise ModelNotFound(f"{reference} is not in the cache", hint=hint)
    repository = cache_of(parsed.place).resolve()
    deletion = _deletion(found, repository)
    deletion.execute()  # it logs what it cannot remove
    if os.path.lexists(found.path):
        raise ModelError(f"{found.path} cannot be removed", hint="check its permissions")
    return deletion.expected_freed_size


def _in_the_cache(reference: str, aliases: Mapping[str, Sequence[str]]) -> Reference:
    """Return the hub reference that is meant; of several for a name, the first one that is cached."""
    parsed = parse(reference)
    meant = [parse(text) for text in aliases.get(reference, ())] if parsed.kind == "name" else [parsed]
    hubs = [each for each in meant if each.kind == "hub"]
    if not hubs:
        hint = "a package is removed with pip, and a file of yours is yours to remove"
        raise InvalidParameter("model", f"{reference!r} does not name a model in the hub's cache", hint=hint)
    return next((each for each in hubs if cached(each)), hubs[0])


def _in_repository(folder: Path) -> Iterator[StoredModel]:
    owner, _, name = folder.name.removeprefix("models--").partition("--")
    if not name:  # of the hub's first days; such a repository has no owner, and no reference leads to it
        return
    revisions = _names_of_commits(folder / "refs")
    for snapshot in folder.glob("snapshots/*"):
        at = revisions.get(snapshot.name, snapshot.name)
        where = f"hf:{owner}/{name}"
        suffix = "" if at == "main" else f"@{at}"
        names = names_in(snapshot)
        for file in first_parts(names):
            with contextlib.suppress(ModelError):  # a split that is not whole is no model
                yield _stored(f"{where}/{file}{suffix}", snapshot, select(names, file=file), "cache")
        with contextlib.suppress(ModelError, InvalidParameter):
            files = cached(parse(where + suffix))
            if files is not None and files.format == "folder":
                yield _stored(where + suffix, snapshot, select(names), "cache")


def _names_of_commits(refs: Path) -> dict[str, str]:
    """Return the revision that leads to each commit; `main` where there are several."""
    found: dict[str, str] = {}
    for name in sorted(names_in(refs), key=lambda name: name == "main"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found[(refs / name).read_text(encoding="ascii").strip()] = name
    return found


def _stored(reference: str, folder: Path, selection: Selection, place: Literal["cache", "package"]) -> StoredModel:
    size = sum((folder / name).stat().st_size for name in selection.files)
    path = folder if selection.format == "folder" else folder / selection.files[0]
    return StoredModel(reference, path, selection.format, size, place)


def _deletion(found: ModelFiles, repository: Path) -> DeleteCacheStrategy:
    """Plan the removal of a model: of its commit, or of its files alone where the commit holds other models."""
    from huggingface_hub import scan_cache_dir

    cache = scan_cache_dir(hub_cache())
    folder = found.path if found.format == "folder" else found.path.parent
    for revision in (each for repo in cache.repos if repo.repo_path == repository for each in repo.revisions):
        if revision.snapshot_path in (snapshot := folder.resolve(), *snapshot.parents):
            ours = parts(found.path.name)
            models = [file for file in revision.files if file.file_name.lower().endswith(".gguf")]
            files = [file for file in models if file.file_path.parent == snapshot and file.file_name in ours]
            alone = found.format == "folder" or len(models) == len(files)
            return cache.delete_revisions(revision.commit_hash) if alone else cache.delete_files(*files)
    reasons = [str(warning) for warning in cache.warnings if str(repository) in str(warning)]
    raise ModelError(
        f"{repository} is damaged: {'; '.join(reasons) or 'huggingface_hub does not see it'}",
        hint="remove this folder by hand",
    )
