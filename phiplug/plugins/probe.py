"""Reports which backends work here, each probed in a process of its own.

An engine's libraries may be slow to load, crash, or clash with another's, so no probe runs in the process that lists
them. `python -P -m phiplug.plugins.probe NAME` is the child's side; its stdout is the report and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from phiplug.errors import PhiplugError, PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from phiplug.plugins.manager import Plugin, Plugins

TIMEOUT_S = 20.0  # loading a CUDA library from a cold disk takes several


@dataclass(frozen=True, slots=True)
class BackendReport:
    """A backend plugin and what its probe said.

    Attributes:
        name: what `--backend` takes.
        distribution: what brought it, with its version.
        available: it works here.
        reason: why it does not; empty when it does.
        install: the command that would make it work.
        devices: what it can compute on, the preferred one first.
        versions: of the engine and what belongs to it.
    """

    name: str
    distribution: str
    summary: str = ""
    available: bool = False
    reason: str = ""
    install: str = ""
    devices: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def report_backends(plugins: Plugins, *, timeout_s: float = TIMEOUT_S) -> list[BackendReport]:
    """Probe every backend plugin, several at a time, and return a report of each, by name."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(lambda plugin: _report(plugin, timeout_s), plugins.of("phiplug.backends")))


def _report(plugin: Plugin, timeout_s: float) -> BackendReport:
    """Ask about one plugin in a process of its own."""
    owner = f"{plugin.distribution} {plugin.version}"
    command = [sys.executable, "-P", "-m", "phiplug.plugins.probe", plugin.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)  # noqa: S603  ourselves
    except subprocess.TimeoutExpired:
        return BackendReport(plugin.name, owner, reason=f"its probe gave no answer within {timeout_s:g} s")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return BackendReport(plugin.name, owner, reason=_last_words(done))
    known = {each.name for each in fields(BackendReport)} - {"name", "distribution"}
    if not isinstance(answer, dict) or not answer.keys() <= known:
        return BackendReport(plugin.name, owner, reason="its probe printed no report")
    return BackendReport(plugin.name, owner, **answer)


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"ended with code {done.returncode}"
    lines = done.stderr.strip().splitlines()
    return f"its probe {how}" + (f": {lines[-1]}" if lines else "")


def _probe(name: str) -> dict[str, Any]:  # Any: what JSON holds
    """Probe one backend in this process, and return the fields of its BackendReport."""
    from phiplug.plugins.backends import probe
    from phiplug.plugins.manager import Plugins

    try:
        backend = Plugins.installed().backend(name)
    except PluginError as error:
        return {"reason": error.message, "install": error.hint or ""}
    try:
        found = probe(backend)
    except PhiplugError as error:
        return {"summary": backend.summary, "reason": error.message}
    return {"summary": backend.summary, **asdict(found), "versions": dict(found.versions)}


def main() -> None:
    """Print the report of the backend that the command line names; what anything else prints goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        json.dump(_probe(sys.argv[1]), out)


if __name__ == "__main__":
    main()
