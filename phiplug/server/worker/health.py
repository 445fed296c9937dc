"""Judges from what was seen of a worker whether it hangs, and from its deaths whether another try makes sense.

A clock alone says nothing: on a busy machine a healthy worker may be silent for seconds. So a worker hangs only where
its computing thread has used no processor time. This file reads no clock and no process table; it is told.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from phiplug.server.worker.wire import Beat

QUIET_S = 10.0
"""Without processor time for so long, a thread that computes on the CPU does not compute."""

PASSES = 20
"""A pass that hangs has taken this many times as long as the longest one before."""

ACCELERATOR_S = 60.0
"""Elsewhere than on the CPU, where processor time says nothing, a pass that takes so long hangs."""

STOPS = 2
"""So many looks in a row must find a process stopped."""

LATE_S = 5.0
"""A look that comes so long after the one before shows that this process itself was held up."""

DEATHS, WINDOW_S, PAUSE_S = 3, 60.0, 60.0
"""So many deaths within the window open the circuit; a trial is made after each pause."""

Verdict = Literal["is stopped", "hangs"]


@dataclass(frozen=True, slots=True)
class Look:
    """What the system says of a process.

    Attributes:
        at: when, in seconds of a monotonic clock.
        is_stopped: a signal has stopped it.
        cpu_s: the processor time that all its threads have used.
    """

    at: float
    is_stopped: bool
    cpu_s: float


class _Changes:
    """A number, and since when it has been what it is."""

    def __init__(self) -> None:
        self._value: float | None = None
        self._since = 0.0

    def note(self, value: float | None, at: float) -> None:
        if value != self._value:
            self._value, self._since = value, at

    def forget(self) -> None:
        self._value = None

    def quiet(self, at: float) -> float:
        return 0.0 if self._value is None else at - self._since


class Watch:
    """What was seen of one worker's process, from its start to its death."""

    def __init__(self, started: float) -> None:
        self._on_cpu: bool | None = None
        self._beat: Beat | None = None
        self._beat_at = self._looked_at = started
        self._thread, self._process = _Changes(), _Changes()
        self._stops = 0

    def loaded(self, device: str) -> None:
        """Note that the model is loaded and where it computes; nobody can say how long loading may take."""
        self._on_cpu = device == "cpu"

    def beat(self, beat: Beat, at: float) -> None:
        """Note what the worker says of itself."""
        self._beat, self._beat_at = beat, at
        self._thread.note(beat.cpu_s, at)

    def judge(self, look: Look, *, owes: bool) -> Verdict | None:
        """Say what is wrong with a worker, which `owes` something while requests wait for it; None if nothing is."""
        if look.at - self._looked_at > LATE_S:
            self._begin_anew(look.at)
        self._looked_at = look.at
        self._process.note(look.cpu_s, look.at)
        self._stops = self._stops + 1 if look.is_stopped else 0
        if self._stops >= STOPS:
            return "is stopped"
        if self._on_cpu is None or not owes or self._beat is None:
            return None
        return "hangs" if self._hangs(self._beat, look.at) else None

    def _hangs(self, beat: Beat, at: float) -> bool:
        silent_s = at - self._beat_at
        is_silent = silent_s >= QUIET_S
        if beat.pass_s is None and not is_silent:
            return False
        pass_s = (beat.pass_s or 0.0) + silent_s
        if not self._on_cpu:
            return pass_s >= ACCELERATOR_S
        clock = self._process if is_silent or beat.cpu_s is None else self._thread
        return clock.quiet(at) >= QUIET_S and pass_s > PASSES * beat.longest_s

    def _begin_anew(self, at: float) -> None:
        self._beat_at, self._stops = at, 0
        self._thread.forget()
        self._process.forget()


class Circuit:
    """Counts deaths: several within a minute open it, and then it is tried after a pause until a trial lives."""

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._deaths: deque[float] = deque()
        self._trial_at: float | None = None

    def died(self, at: float) -> bool:
        """Note a death; return whether the circuit is open, so that the next start has to wait."""
        self._deaths.append(at)
        while self._deaths[0] < at - WINDOW_S:
            self._deaths.popleft()
        trial_failed = self._trial_at is not None and at <= self._trial_at + WINDOW_S
        is_open = trial_failed or len(self._deaths) >= DEATHS
        self._trial_at = at + self._pause_s if is_open else None
        return is_open

    def pause(self, at: float) -> float:
        """Return in how many seconds the next start may be made."""
        return 0.0 if self._trial_at is None else max(0.0, self._trial_at - at)
