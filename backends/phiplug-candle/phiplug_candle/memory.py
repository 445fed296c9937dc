"""Estimates what a model needs and looks whether it is free: Rust ends the process when an allocation fails."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from phiplug.errors import OutOfMemory
from phiplug.gguf import Header, TensorInfo
from phiplug_candle.weights import Part, Sizes

REPACKED = {"Q4_K": 2.4, "Q6_K": 2.4, "Q8_0": 2.4}  # times what the file has: the blocks, and Candle's copy of them
BY_PROCESSOR = {"Q5_K": 1.3} if platform.machine() in ("x86_64", "AMD64") else {"Q4_0": 2.4, "Q5_K": 2.4}
"""The types that are kept in our own tiles on x86, and as the others elsewhere."""
WIDENED = {"F16": 2.0, "BF16": 2.0}  # Candle multiplies these as float32
FLOAT = 4  # bytes


def check(header: Header, sizes: Sizes, found: Sequence[Part], room: tuple[int, int], chunk: int) -> None:
    """Compare what the model will need with what is free.

    Args:
        header: of the GGUF.
        sizes: of the model.
        found: its parts.
        room: how many tokens a slot holds, and how many slots there are.
        chunk: how many tokens a pass may have.

    Raises:
        OutOfMemory: less is free than the weights, the caches and a pass will take. Where the system does not tell what
            is free, nothing is checked.
    """
    free = available()
    needed = _weights(header, found) + caches(sizes, *room) + _pass(sizes, chunk)
    if free is not None and needed > free:
        raise OutOfMemory(
            f"{header.path.name} with {room[1]} x {room[0]} tokens needs {needed / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} GB are free",
            hint="lower --ctx-size, or use a smaller model or quantization",
        )


def available() -> int | None:
    """Return how many bytes are free for this process: the smaller of the machine's and its control group's rest."""
    rest = [size for size in (_machine(), _group()) if size is not None]
    return min(rest, default=None)


def _weights(header: Header, found: Sequence[Part]) -> float:
    return sum(_tensor(header.tensors[name]) for part in found for name in part.sources)


def _tensor(info: TensorInfo) -> float:
    times = REPACKED | BY_PROCESSOR if len(info.shape) == 2 else {}
    return info.nbytes * (times.get(info.type, 1.0) + WIDENED.get(info.type, 0.0))


def caches(sizes: Sizes, context: int, slots: int) -> int:
    """Return the bytes of the key-value caches of all slots, and of the tables for rotating."""
    tables = context * sizes.rotated * FLOAT
    return slots * sizes.layers * 2 * context * sizes.groups * sizes.head * FLOAT + tables


def _pass(sizes: Sizes, chunk: int) -> int:
    """Return what the widest layer and one row of logits take at once."""
    widest = 4 * sizes.feed_forward + 4 * sizes.embedding + 4 * sizes.heads * sizes.head
    return chunk * widest * FLOAT + sizes.vocabulary * FLOAT


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _group() -> int | None:
    """Return what the nearest memory limit of a control group leaves, of version 2 or 1."""
    for limit, usage, root in (
        ("memory.max", "memory.current", Path("/sys/fs/cgroup")),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", Path("/sys/fs/cgroup/memory")),
    ):
        rests = [_rest(folder / limit, folder / usage) for folder in _folders(root)]
        if any(rest is not None for rest in rests):
            return min(rest for rest in rests if rest is not None)
    return None


def _folders(root: Path) -> list[Path]:
    """Return the folders of this process's group and of those around it, up to `root`."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return [root]
    paths = [root / line.rpartition(":")[2].strip("/") for line in lines if "memory" in line or line.startswith("0::")]
    return list(
        dict.fromkeys(folder for path in [*paths, root] for folder in (path, *path.parents) if _under(folder, root))
    )


def _under(folder: Path, root: Path) -> bool:
    return folder == root or root in folder.parents


def _rest(limit: Path, usage: Path) -> int | None:
    try:
        allowed, used = limit.read_text(encoding="ascii").strip(), int(usage.read_text(encoding="ascii"))
        stat = dict(line.split() for line in (limit.parent / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return None
    cached = int(stat.get("inactive_file", 0))  # the system drops these pages when it needs them
    return max(int(allowed) - used + cached, 0) if allowed.isdigit() else None
