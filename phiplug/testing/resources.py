"""Tests that a backend gives back what it takes: memory and file descriptors."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

from phiplug.spi import Backend, Model, ModelFiles, Step
from phiplug.testing.fixtures import ContractFixtures, Record, some_tokens
from phiplug.testing.violation import conformance_test, expect

NOISE = 1 << 20  # bytes by which a process may grow for reasons of its own, as measured: 0.3 MiB
LARGE = 8 << 20  # bytes of a model whose weights stand out from that noise
CLOSED = 10


class ResourceTests(ContractFixtures):
    """What requests and `Model.close` must give back."""

    @conformance_test
    def test_requests_leak_nothing(self, loaded: Model, record_property: Record) -> None:
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

    @conformance_test
    def test_close_gives_back_file_descriptors(self, implementation: Backend, files: ModelFiles) -> None:
        """close() gives back every file descriptor that load() opened."""
        self.require_usable()
        self.load(implementation, files).close()  # what an engine opens once for the process is not counted
        before = _descriptors()
        for _ in range(3):
            model = self.load(implementation, files)
            model.forward([Step(0, some_tokens(model, 2))]).logits()
            model.close()
        opened = _descriptors() - before
        expect(opened <= 0, f"three times load() and close() left {opened} open")

    @conformance_test
    def test_close_gives_back_the_weights(
        self, implementation: Backend, files: ModelFiles, record_property: Record
    ) -> None:
        """close() gives back the memory of the weights, even while somebody still refers to the closed model."""
        self.require_usable()
        size = _size(files.path)
        if size < LARGE:
            pytest.skip(f"the model has {size / 2**20:.1f} MiB, and weights that stay are measured from 8 MiB on")
        kept = []  # a reference to each closed model, as a traceback or a cache of the application may hold
        before = 0
        for number in range(CLOSED + 1):
            model = self.load(implementation, files)
            model.forward([Step(0, some_tokens(model, 2))]).logits()
            model.close()
            kept.append(model)
            if number == 0:
                before = _private_memory()  # what an engine allocates once for the process is not counted
        grown = _private_memory() - before
        record_property("measured", f"{grown / 2**20:.1f} MiB after {CLOSED} models of {size / 2**20:.0f} MiB")
        expect(
            grown < size,
            f"{CLOSED} closed models left {grown / 2**20:.0f} MiB, more than one file of {size / 2**20:.0f} MiB",
        )


def _private_memory() -> int:
    """Return how many bytes belong to this process alone: neither shared with others nor given back."""
    gc.collect()
    try:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        pytest.skip("this system does not say how much memory a process has for itself")
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


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
