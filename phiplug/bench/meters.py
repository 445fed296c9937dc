"""What a process and a machine have used: memory, energy, processor time, heat. A meter that is not there says None.

Nothing is estimated: energy comes from Intel's and AMD's RAPL counters as Linux shows them, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phiplug.errors import NotInstalled

if TYPE_CHECKING:
    from collections.abc import Iterable

RAPL = Path("/sys/class/powercap")  # https://docs.kernel.org/power/powercap/powercap.html
CGROUP = Path("/sys/fs/cgroup")  # https://docs.kernel.org/admin-guide/cgroup-v2.html
CPUS = Path("/sys/devices/system/cpu")
MEMINFO = Path("/proc/meminfo")  # https://docs.kernel.org/filesystems/proc.html

Counters = Mapping[str, tuple[int, int]]


def psutil() -> Any:  # Any: psutil has no types
    """Import psutil.

    Raises:
        NotInstalled: it is not there.
    """
    try:
        import psutil as imported  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise NotInstalled("psutil is not installed", hint="pip install 'phiplug[bench]'") from None
    return imported


def peak_memory() -> int:
    """Return the largest resident size of this process plus that of its children, in bytes."""
    children = psutil().Process().children(recursive=True)
    return _peak_of(os.getpid()) + sum(_peak_of(child.pid) for child in children)


def free_memory(root: Path = CGROUP) -> int:
    """Return how many bytes may still be taken, by the machine and by the control group that this process is in."""
    free = _available()
    limit, taken = _number(root / "memory.max"), _number(root / "memory.current")
    return free if limit is None or taken is None else min(free, max(0, limit - taken))


def _available(meminfo: Path = MEMINFO) -> int:
    """Return the bytes that this machine can still give: read from a file on Linux, and by psutil elsewhere."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return int(psutil().virtual_memory().available)


def energy_meter(root: Path = RAPL) -> Callable[[], Counters]:
    """Return what reads the energy counters of all processor packages, as microjoules and where they wrap."""
    zones = [zone for zone in sorted(root.glob("*rapl:?")) if _number(zone / "energy_uj") is not None]

    def read() -> Counters:
        return {
            zone.name: (_number(zone / "energy_uj") or 0, _number(zone / "max_energy_range_uj") or 0) for zone in zones
        }

    return read


def spent(before: Counters, after: Counters) -> float | None:
    """Return the joules between two readings, or None without a meter; a counter that wrapped once is right too."""
    if not before:
        return None
    microjoules = 0
    for name, (value, wrap) in after.items():
        used = value - before[name][0]
        microjoules += used if used >= 0 else used + wrap
    return microjoules / 1e6


def busy_s() -> float:
    """Return for how many seconds the cores of this machine have been busy, for anyone, since it started.

    What a hypervisor gave to its other guests counts: it was not there for us.
    """
    times = psutil().cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0)  # a guest's time is counted twice
    return float(sum(times) - idle)


def throttled(root: Path = CPUS) -> int | None:
    """Return how often heat has slowed the cores down since the machine started, or None where nobody counts."""
    counts = [_number(path) for path in root.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _peak_of(pid: int) -> int:
    """The high-water mark of a process; Linux's getrusage would count what it was before it became Python."""
    lines = _lines(Path(f"/proc/{pid}/status"))
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if pid == os.getpid() and sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others kilobytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    memory = psutil().Process(pid).memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
