"""Describes this machine: what a reader must know to compare its figures, and an id that equal machines share.

The id is made of what stays when software is updated: processor, cores, memory, graphics, system. So a regression of an
engine shows between two runs of one id. Host names, users and paths are left out.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from phiplug.bench import meters
from phiplug.bench.meters import psutil
from phiplug.bench.types import Hardware
from phiplug.errors import NotInstalled

if TYPE_CHECKING:
    from collections.abc import Mapping

COPY_BYTES = 2**27  # for each core, where memory allows
LEAST_COPY_BYTES = 2**25  # still more than a core's share of any cache
MOST_BYTES = 2**32  # of all copies together
COPIES = 5
NVIDIA_SMI = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


def identify(metadata: Mapping[str, str]) -> Hardware:
    """Look at this machine, and copy memory for about a second; `metadata` is what plugins add.

    Raises:
        NotInstalled: psutil or py-cpuinfo is missing.
    """
    from phiplug import __version__

    memory = psutil().virtual_memory().total
    cpu, gpus = _cpu(), _gpus()
    physical, logical = psutil().cpu_count(logical=False), os.cpu_count() or 1
    stays = [cpu, physical, logical, round(memory / 2**30), [gpu.partition(",")[0] for gpu in gpus], platform.system()]
    return Hardware(
        id=hashlib.sha256(repr([*stays, platform.machine()]).encode()).hexdigest()[:12],
        cpu=cpu,
        physical_cores=physical,
        logical_cores=logical,
        memory=memory,
        gpus=gpus,
        system=platform.system(),
        release=platform.release(),
        machine=platform.machine(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        phiplug=__version__,
        copy_bytes_per_s=copy_bandwidth(*copies(logical, meters.free_memory())),
        metadata=dict(metadata),
    )


def copies(cores: int, free: int) -> tuple[int, int]:
    """Return how many cores are to copy, and how many bytes each, within a quarter of the free memory.

    A host shows all of its cores to a container that may have little memory: copies become smaller, and then fewer.
    """
    budget = min(MOST_BYTES, free // 4) // 2  # each copy has a source and a target
    size = min(COPY_BYTES, max(LEAST_COPY_BYTES, budget // cores))
    return max(1, min(cores, budget // size)), size


def copy_bandwidth(cores: int, size: int) -> float:
    """Copy `size` bytes on each core at once, several times; return the most bytes read plus written in a second."""
    pairs = [(np.ones(size, np.uint8), np.empty(size, np.uint8)) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool:

        def copy_all() -> float:
            started = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))  # NumPy lets other threads run meanwhile
            return time.perf_counter() - started

        return 2 * size * cores / min(copy_all() for _ in range(COPIES))


def _cpu() -> str:
    try:
        import cpuinfo  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise NotInstalled("py-cpuinfo is not installed", hint="pip install 'phiplug[bench]'") from None
    info: dict[str, Any] = cpuinfo.get_cpu_info()  # Any: what it knows differs by system
    return str(info.get("brand_raw") or platform.processor() or platform.machine())


def _gpus() -> tuple[str, ...]:
    """Name the graphics processors: NVIDIA's by its own tool; Apple's belongs to the chip."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return (f"{_cpu()} GPU",)
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        done = subprocess.run([tool, *NVIDIA_SMI], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip()) if done.returncode == 0 else ()
