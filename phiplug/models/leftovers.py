"""Finds what stays in the hub's cache beside models: lists of names, and downloads that were not finished.

The models themselves are `phiplug.models.local`'s.
"""

from __future__ import annotations

from pathlib import Path

from phiplug.models.download import PARTIAL
from phiplug.models.repository import NAMES, hub_cache, lock_of


def lists_of_names() -> list[Path]:
    """Return the files with the names that the hub listed for each commit."""
    return sorted(path for path in hub_cache().glob(f"models--*/{NAMES}/*") if path.is_file())


def partial_downloads() -> list[Path]:
    """Return the files that the next attempt continues, other programs' among them."""
    return sorted(hub_cache().glob(f"models--*/blobs/*{PARTIAL}"))


def remove_partial(path: Path) -> bool:
    """Remove what has arrived of a file, unless a process is fetching it now.

    Returns:
        whether it is gone.

    Raises:
        OSError: it cannot be removed.
    """
    from huggingface_hub.utils import WeakFileLock

    lock = lock_of(path.with_name(path.name.removesuffix(PARTIAL)))
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with WeakFileLock(lock, timeout=0.01):
            path.unlink(missing_ok=True)
    except TimeoutError:
        return False
    return True
