"""Chooses the number of threads by how long passes of a single token took. It has no clock and knows no engine.

llama.cpp's threads wait for one another busily at each of some hundred operations of a pass, so one that loses its core
stops all. On two cores with one other process busy, SmolLM2-135M Q4_1 decoded 27 to 67 tokens/s with two threads and
155 to 160 with one; with the cores to itself, 190 with two. Nobody can know beforehand what else will run, so
the number is found by timing the passes that users ask for:

* A request keeps its number; another may be tried or chosen only in `choose`, which the model calls in `autotune`.
* Each candidate is tried in turn for one request, all cores first, until it has `ENOUGH` passes. The fastest is then
  kept, and remembered for a time (`tuning`), until passes take twice as long as they did when it was measured. Then all
  is measured anew.
* Prompts are computed with all physical cores: they lose less to a busy neighbour than single tokens do.
* The default, used with a seed and nothing remembered, is every physical core: llama.cpp's own default, the best on a
  quiet machine, and twice as fast as half of them for a prompt, which a first request waits for.
"""

from __future__ import annotations

import ctypes
import math
import os
import statistics
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ENOUGH = 8  # passes, of which the median counts: the first ones after a prompt find cold caches
RECENT = 64  # passes that are looked at; older ones say little of what else runs now
HALVED = 2.0  # times as long
WORTH = 1.05  # a smaller number must be faster by this factor: prompts are faster with more threads

_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class ThreadChoice:
    """The number of threads of one model, and what was measured for each candidate.

    Attributes:
        count: the number that passes use now.
        seconds: candidate -> the median duration of a pass, in seconds.
    """

    def __init__(self, candidates: tuple[int, ...], remembered: object = None) -> None:
        """Start from `remembered`, as `to_json` gave it; anything else in its place counts as nothing."""
        self._candidates = candidates
        self._recent: deque[float] = deque(maxlen=RECENT)
        self.seconds = _from_json(remembered, candidates)
        self.count = self.fastest

    def record(self, seconds: float) -> None:
        """Take the duration of one pass at `count` threads."""
        self._recent.append(seconds)

    def settle(self) -> bool:
        """Weigh the passes since the last call; return whether what is known changed enough to be remembered."""
        if len(self._recent) < ENOUGH:
            return False
        now = statistics.median(self._recent)
        self._recent.clear()
        before = self.seconds.get(self.count)
        if before is None or now > HALVED * before:
            self.seconds = {self.count: now} if before else self.seconds | {self.count: now}
            return True
        if now < before:
            self.seconds[self.count] = now
        return now * WORTH < before

    def choose(self) -> int:
        """Move to a candidate that was not measured yet, or else to the fastest, and return it."""
        untried = [count for count in self._candidates if count not in self.seconds]
        chosen = untried[0] if untried else self.fastest
        if chosen != self.count:
            self._recent.clear()
        self.count = chosen
        return chosen

    def forget(self) -> None:
        """Know nothing of any candidate, so that each is tried again; until then the number stays."""
        self.seconds = {}
        self._recent.clear()

    def to_json(self) -> dict[str, float]:
        """Return what to remember."""
        return {str(count): seconds for count, seconds in self.seconds.items()}

    @property
    def fastest(self) -> int:
        """The largest number that is about as fast as the fastest; where nothing was measured, the default."""
        if not self.seconds:
            return self._candidates[0]
        best = min(self.seconds.values())
        return max(count for count, seconds in self.seconds.items() if seconds <= WORTH * best)


def candidates(cores: int) -> tuple[int, ...]:
    """Return the numbers worth measuring, the default first: all cores, one left to others, half of them."""
    return tuple(dict.fromkeys((cores, max(cores - 1, 1), max(cores // 2, 1))))


def usable_cores() -> int:
    """Count the physical cores that this process may use: by affinity, by quota, on Apple silicon the fast ones."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    physical = len({_siblings(cpu) for cpu in cpus})
    return max(1, min(physical, _quota(), _performance_cores()))


def _siblings(cpu: int) -> str:
    """Name the core that a logical CPU belongs to; where the system does not tell, each is a core."""
    try:
        return (_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


def _quota() -> int:
    """How many CPUs a container may keep busy: cgroup v2's cpu.max is "QUOTA PERIOD", or "max PERIOD"."""
    try:
        quota, period = _QUOTA.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return sys.maxsize


def _performance_cores() -> int:
    """The fast cores of Apple silicon, as llama.cpp counts them; its slow ones would hold up the others."""
    if sys.platform != "darwin":
        return sys.maxsize
    count, size = ctypes.c_int32(), ctypes.c_size_t(4)
    failed = ctypes.CDLL(None).sysctlbyname(
        b"hw.perflevel0.physicalcpu", ctypes.byref(count), ctypes.byref(size), None, ctypes.c_size_t(0)
    )
    return sys.maxsize if failed or count.value < 1 else count.value


def _from_json(value: Any, candidates: tuple[int, ...]) -> dict[int, float]:  # Any: a file that others may write
    if not isinstance(value, Mapping):
        return {}
    known = {count: value.get(str(count)) for count in candidates}
    return {
        count: seconds
        for count, seconds in known.items()
        if isinstance(seconds, float) and math.isfinite(seconds) and seconds > 0
    }
