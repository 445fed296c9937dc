"""Tests a plugin before it loads a model: what its backend says of itself, its imports and its probe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from phiplug.spi import API_VERSION, OLDEST_API, Backend, ModelFiles, Probe
from phiplug.testing.fixtures import ContractFixtures, find_module
from phiplug.testing.violation import conformance_test, expect

_ALONE = """
import importlib, json, sys
module, blocked = sys.argv[1], sys.argv[2].split()
sys.modules.update(dict.fromkeys(blocked))
backend = importlib.import_module(module).phiplug_register_backends()[0]
imported = sorted(name for name, found in sys.modules.items() if found is not None)
probe = backend.probe()
found = {name: getattr(probe, name) for name in ("available", "reason", "install")}
print(json.dumps(found | {"imported": imported}))
"""


class PluginTests(ContractFixtures):
    """What a `Backend` must say and do before `load`."""

    @conformance_test
    def test_the_backend_introduces_itself(self, implementation: Backend) -> None:
        """A backend has a name of lower case, digits and hyphens, a summary, and the API version of the core."""
        expect(
            bool(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", implementation.name)), f"its name is {implementation.name!r}"
        )
        lines = implementation.summary.splitlines()
        expect(len(lines) == 1 and bool(implementation.summary.strip()), f"its summary has {len(lines)} lines")
        expect(
            OLDEST_API <= implementation.api <= API_VERSION,
            f"it was written for version {implementation.api} of the contract, and this is {API_VERSION}",
        )

    @conformance_test
    def test_importing_the_plugin_imports_no_engine(self) -> None:
        """Importing the plugin and registering its backend imports no engine."""
        found = {name.partition(".")[0] for name in _alone(self._module())["imported"]}
        engines = sorted(found.intersection(self.engines))
        expect(not engines, f"it imports {', '.join(engines)}")

    @conformance_test
    def test_a_probe_without_the_engine_says_so(self) -> None:
        """probe() never raises: without its engine it says why not, and what to install."""
        with_engines = _alone(self._module())
        without = _alone(self._module(), self.engines)
        expect(bool(with_engines["available"]), f"the engine does not work here: {with_engines['reason']}")
        if not without["available"]:
            expect(bool(without["reason"]), "without its engine it gives no reason")
            expect(bool(without["install"]), "without its engine it names no command that installs it")

    @conformance_test
    def test_the_probe_is_quick(self, implementation: Backend) -> None:
        """probe() is quick, and names the devices of a backend that works."""
        probe, seconds = implementation.probe(), float("inf")  # the first call is not timed: it warms caches of files
        for _ in range(3):
            start = time.perf_counter()
            probe = implementation.probe()
            seconds = min(seconds, time.perf_counter() - start)
        expect(isinstance(probe, Probe), f"it returned {type(probe).__name__}")
        expect(
            seconds < self.probe_seconds, f"it takes {seconds:.1f} s at best, and {self.probe_seconds:g} s is the limit"
        )
        expect(bool(probe.devices), "it names no device")
        expect(not probe.reason, f"it gives a reason for not working: {probe.reason}")

    @conformance_test
    def test_it_accepts_its_own_files_alone(self, implementation: Backend, files: ModelFiles) -> None:
        """accepts() takes the files of its model, declines others, and never raises."""
        expect(implementation.accepts(files) is True, f"it does not accept {files.reference!r}")
        for other in (
            ModelFiles("other", files.path.with_name("there-is-no-such-file"), "a format of nobody"),
            ModelFiles("other", Path(os.devnull), "a format of nobody"),
        ):
            expect(implementation.accepts(other) is False, f"it accepts {other.path.name} in {other.format!r}")

    def _module(self) -> str:
        if self.plugin is None and isinstance(self.backend, Backend):
            pytest.skip("`backend` is a Backend; set `plugin` to the import name of its module")
        return self.plugin or find_module(str(self.backend))


def _alone(module: str, blocked: tuple[str, ...] = ()) -> dict[str, Any]:  # Any: what JSON holds
    """Import a plugin and probe it in a process of its own, where the modules `blocked` cannot be imported."""
    done = subprocess.run(  # noqa: S603  our own interpreter, on a program of ours
        [sys.executable, "-P", "-c", _ALONE, module, " ".join(blocked)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    expect(done.returncode == 0, f"in a process of its own it failed: {done.stderr.strip().rpartition(chr(10))[2]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
