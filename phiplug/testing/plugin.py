"""What is promised around the passes: importing, probing, loading, refusing, and giving back what was taken."""

from __future__ import annotations

import gc
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phiplug.errors import ModelError, UnsupportedParameter
from phiplug.spi import API_VERSION, OLDEST_API, Backend, Model, ModelFiles, Probe, Step
from phiplug.testing.promises import expect, promise
from phiplug.testing.subject import Subject, find_module, some_tokens

GARBAGE = 1 << 16  # bytes of a file that is nothing
TRUNCATED = 1 << 22  # bytes that are left of a large file
NOISE = 1 << 20  # bytes by which a process may grow for reasons of its own, as measured: 0.3 MiB

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


class PluginPromises(Subject):
    """The promises of `Backend`, `Backend.load` and `Model.close`."""

    @promise
    def test_the_backend_introduces_itself(self, subject: Backend) -> None:
        """A backend has a name of lower case, digits and hyphens, a summary, and the API version of the core."""
        expect(bool(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", subject.name)), f"its name is {subject.name!r}")
        lines = subject.summary.splitlines()
        expect(len(lines) == 1 and bool(subject.summary.strip()), f"its summary has {len(lines)} lines")
        accepted = OLDEST_API <= subject.api <= API_VERSION
        expect(accepted, f"it was written for version {subject.api} of the contract, and this is {API_VERSION}")

    @promise
    def test_importing_the_plugin_imports_no_engine(self) -> None:
        """Importing the plugin and registering its backend imports no engine."""
        found = {name.partition(".")[0] for name in _alone(self._module())["imported"]}
        engines = sorted(found.intersection(self.engines))
        expect(not engines, f"it imports {', '.join(engines)}")

    @promise
    def test_a_probe_without_the_engine_says_so(self) -> None:
        """probe() never raises: without its engine it says why not, and what to install."""
        with_engines = _alone(self._module())
        without = _alone(self._module(), self.engines)
        expect(bool(with_engines["available"]), f"the engine does not work here: {with_engines['reason']}")
        if not without["available"]:
            expect(bool(without["reason"]), "without its engine it gives no reason")
            expect(bool(without["install"]), "without its engine it names no command that installs it")

    @promise
    def test_the_probe_is_quick(self, subject: Backend) -> None:
        """probe() is quick, and names the devices of a backend that works."""
        start = time.perf_counter()
        probe = subject.probe()
        seconds = time.perf_counter() - start
        expect(isinstance(probe, Probe), f"it returned {type(probe).__name__}")
        expect(seconds < self.probe_seconds, f"it took {seconds:.1f} s, and {self.probe_seconds:g} s is the limit")
        expect(bool(probe.devices), "it names no device")
        expect(not probe.reason, f"it gives a reason for not working: {probe.reason}")

    @promise
    def test_it_accepts_its_own_files_alone(self, subject: Backend, files: ModelFiles) -> None:
        """accepts() takes the files of its model, declines others, and never raises."""
        expect(subject.accepts(files) is True, f"it does not accept {files.reference!r}")
        for other in (
            ModelFiles("other", files.path.with_name("there-is-no-such-file"), "a format of nobody"),
            ModelFiles("other", Path(os.devnull), "a format of nobody"),
        ):
            expect(subject.accepts(other) is False, f"it accepts {other.path.name} in {other.format!r}")

    @promise
    def test_the_info_is_sane(self, subject: Backend, loaded: Model) -> None:
        """ModelInfo tells what was loaded: sizes, slots, device, weights and version."""
        info, options = loaded.info, self.options
        for name in ("vocab_size", "context_length", "slots", "chunk"):
            expect(getattr(info, name) >= 1, f"{name} is {getattr(info, name)}")
        for name in ("device", "quantization", "version"):
            expect(bool(getattr(info, name).strip()), f"{name} is empty")
        expect(info.slots in (1, options.slots), f"it has {info.slots} slots where {options.slots} were asked for")
        asked = min(options.ctx_size or 1, info.context_length) if info.slots == 1 else options.ctx_size or 1
        expect(info.context_length >= asked, f"a slot holds {info.context_length} where {asked} was asked for")
        devices = {device.partition(":")[0] for device in subject.probe().devices}
        expect(info.device.partition(":")[0] in devices, f"device {info.device!r} is not among the probe's")

    @promise
    @pytest.mark.parametrize("fault", ["missing", "empty", "garbage", "truncated"])
    def test_a_bad_file_is_a_model_error(self, fault: str, subject: Backend, files: ModelFiles, tmp_path: Path) -> None:
        """A bad file gives a ModelError."""
        bad = replace(files, path=_spoiled(files.path, fault, tmp_path))
        try:
            model = self.load(subject, bad)
        except ModelError as error:
            expect(bool(error.message), "its message is empty")
        else:
            model.close()
            expect(False, f"a model whose file is {fault} loaded as if it were whole")

    @promise
    def test_what_cannot_be_honoured_is_refused(self, subject: Backend, files: ModelFiles) -> None:
        """load() raises UnsupportedParameter for an option that it cannot honour, and names it."""
        wishes: dict[str, Any] = {"device": "no-such-device"}  # Any: a device is a str, a number of layers an int
        if subject.probe().devices == ("cpu",):
            wishes["gpu_layers"] = 1
        for name, value in wishes.items():
            try:
                model = subject.load(files, replace(self.options, **{name: value}))
            except UnsupportedParameter as error:
                expect(error.name == name, f"{name}={value!r} is refused by the name {error.name!r}")
            else:
                model.close()
                expect(False, f"{name}={value!r} was ignored")

    @promise
    def test_requests_leak_nothing(self, loaded: Model, record_property: Any) -> None:  # Any: pytest's
        """Requests leak neither memory nor file descriptors."""
        prompt = some_tokens(loaded, 3)
        warm_up = max(self.requests // 4, 1)
        for _ in range(warm_up):
            _request(loaded, prompt)
        memory, descriptors = _memory(), _descriptors()
        for _ in range(self.requests):
            _request(loaded, prompt)
        opened = _descriptors() - descriptors
        expect(opened <= 0, f"{self.requests} requests left {opened} file descriptors open")
        grown = _memory() - memory
        record_property("measured", f"{grown / 1024:.0f} KiB in {self.requests} requests")
        allowed = NOISE + self.requests * self.leak_bytes_per_request
        expect(grown <= allowed, f"{self.requests} requests took {grown:,} bytes, and {allowed:,} is the limit")

    @promise
    def test_close_gives_back_file_descriptors(self, subject: Backend, files: ModelFiles) -> None:
        """close() gives back every file descriptor that load() opened."""
        self.load(subject, files).close()  # what an engine opens once for the process is not counted
        before = _descriptors()
        for _ in range(3):
            model = self.load(subject, files)
            model.forward([Step(0, some_tokens(model, 2))]).logits()
            model.close()
        opened = _descriptors() - before
        expect(opened <= 0, f"three times load() and close() left {opened} open")

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


def _spoiled(path: Path, fault: str, folder: Path) -> Path:
    """Return a copy of the model at `path` whose one file, or largest file, has a fault."""
    if not path.exists():
        pytest.skip(f"the model is not a file or folder: {path}")
    copy = folder / path.name
    if path.is_file():
        _spoil(path, copy, fault)
        return copy
    largest = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    shutil.copytree(path, copy, copy_function=os.symlink)
    victim = copy / largest.relative_to(path)
    victim.unlink()
    _spoil(largest, victim, fault)
    return copy


def _spoil(source: Path, target: Path, fault: str) -> None:
    if fault == "empty":
        target.touch()
    elif fault == "garbage":
        target.write_bytes(random.Random(0).randbytes(GARBAGE))  # noqa: S311  reproducible, not secret
    elif fault == "truncated":
        with source.open("rb") as file:
            target.write_bytes(file.read(min(source.stat().st_size * 2 // 3, TRUNCATED)))


def _request(model: Model, prompt: list[int]) -> None:
    """What one request does: empty the slot, prefill, decode a token."""
    model.rewind(0, 0)
    model.forward([Step(0, prompt)]).logits()
    model.forward([Step(0, prompt[:1])]).logits()


def _memory() -> int:
    """The resident memory of this process in bytes; where the system does not tell, the most it ever was."""
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "win32":
        pytest.skip("resident memory is not measured on Windows")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _descriptors() -> int:
    """How many file descriptors this process has open; 0 where the system does not tell."""
    gc.collect()
    for folder in ("/proc/self/fd", "/dev/fd"):
        if Path(folder).is_dir():
            return len(os.listdir(folder))  # noqa: PTH208  counting, without a Path for each
    return 0
