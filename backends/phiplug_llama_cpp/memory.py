"""How much memory a key-value cache takes, and how much this process may have; it knows no engine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from phiplug.gguf import Header

FLOAT16 = 2  # bytes

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def cache_bytes(header: Header, cells: int, *, on_gpu: int = 0) -> int:
    """Return the bytes of main memory that `cells` tokens take; the last `on_gpu` layers keep theirs elsewhere."""
    layers: int = header.hyperparameter("block_count") or 0
    heads = _per_layer(header, "attention.head_count", layers)
    groups = _per_layer(header, "attention.head_count_kv", layers) or heads
    divided = (header.hyperparameter("embedding_length") or 0) // max(1, *heads)
    sizes: int = (header.hyperparameter("attention.key_length") or divided) + (
        header.hyperparameter("attention.value_length") or divided
    )
    return FLOAT16 * cells * sizes * sum(groups[: max(layers - on_gpu, 0)])


def _per_layer(header: Header, name: str, layers: int) -> tuple[int, ...]:
    """Return a number for each layer; a file may give one for all, or none."""
    value = header.hyperparameter(name) or ()
    return value if isinstance(value, tuple) else (value,) * layers


def memory_limit() -> int:
    """Return the most bytes that this process may have: the machine's memory, or less by its control group."""
    if not hasattr(os, "sysconf"):
        return sys.maxsize
    return min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), _group_limit())


def _group_limit() -> int:
    """Find the smallest limit of this process's control group and those around it, in versions 1 and 2."""
    try:
        lines = _OWN_GROUP.read_text().splitlines()
    except OSError:
        return sys.maxsize
    limits = [sys.maxsize]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _limits(_CGROUPS, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(_CGROUPS / "memory", path, "memory.limit_in_bytes")
    return min(limits)


def _limits(root: Path, path: str, name: str) -> list[int]:
    """Read a limit from the root down to a group; in a container the path may lead outside of what is mounted."""
    groups = [root]
    for part in Path(path.lstrip("/")).parts:
        groups.append(groups[-1] / part)
    found = []
    for group in groups:
        try:
            found.append(int((group / name).read_text()))
        except (OSError, ValueError):  # ValueError: "max"
            continue
    return found
