"""Tests `Backend.load`: that it loads the model, honours or refuses each option, and refuses damaged files."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phiplug.errors import ModelError, UnsupportedParameter
from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Step
from phiplug.testing.fixtures import ContractFixtures, Record
from phiplug.testing.violation import conformance_test, expect

REFUSED = -1  # what a size or a number of threads never is
GARBAGE = 1 << 16  # bytes of a file without meaning
TRUNCATED = 1 << 22  # bytes that are left of a large file


class LoadTests(ContractFixtures):
    """What `Backend.load` must do, and the `ModelInfo` that it leads to."""

    @conformance_test
    def test_the_model_loads(self, implementation: Backend, files: ModelFiles) -> None:
        """load() loads the model."""
        with self.deciding("load() failed, as reported above"):
            self.load(implementation, files).close()

    @conformance_test
    def test_every_id_of_the_vocabulary_can_be_appended(
        self, loaded: Model, files: ModelFiles, record_property: Record
    ) -> None:
        """vocab_size is the width of the logits, at least the tokenizer's, and forward takes every id below it."""
        width, known = loaded.info.vocab_size, self.tokenizer_size(files)
        beside = "" if known is None else f"; the tokenizer has {known} ids"
        with self.deciding("an id of the vocabulary cannot be appended, as reported above"):
            expect(known is None or known <= width, f"vocab_size is {width}{beside}")
            for token in sorted({0, width // 2, width - 1, *([known] if known and known < width else [])}):
                loaded.rewind(0, 0)
                try:
                    shape = loaded.forward([Step(0, [token])]).logits().shape
                except Exception as error:
                    how = f"{type(error).__name__}: {error}"
                    raise AssertionError(f"id {token} of a vocab_size of {width} fails with {how}{beside}") from error
                expect(shape == (1, width), f"vocab_size is {width}, and the shape of one row is {shape}{beside}")
        if known and known < width:
            record_property("measured", f"rows are {width - known} wider than the tokenizer")

    @conformance_test
    def test_the_info_is_sane(self, implementation: Backend, loaded: Model) -> None:
        """ModelInfo describes what was loaded: sizes, slots, device, weights and version."""
        info = loaded.info
        for name in ("vocab_size", "context_length", "slots", "chunk", "equal_passes"):
            expect(getattr(info, name) >= 1, f"{name} is {getattr(info, name)}")
        for name in ("device", "quantization", "version"):
            expect(bool(getattr(info, name).strip()), f"{name} is empty")
        devices = {device.partition(":")[0] for device in implementation.probe().devices}
        expect(info.device.partition(":")[0] in devices, f"device {info.device!r} is not among the probe's")

    @conformance_test
    def test_sizes_and_threads_are_honoured_or_refused(self, implementation: Backend, files: ModelFiles) -> None:
        """load() honours slots, threads and ctx_size, as ModelInfo then says, or raises UnsupportedParameter."""
        self.require_usable()
        longest = self._told(implementation, files, "context_length") or 1
        asked = [
            ("slots", 2),
            ("slots", 3),
            ("threads", 1),
            ("threads", 2),
            ("ctx_size", 100),
            ("ctx_size", longest + 1),
        ]
        for name, value in asked:
            field = "context_length" if name == "ctx_size" else name
            told = self._told(implementation, files, field, **{name: value})
            expect(
                told in (value, REFUSED),
                f"{name}={value} was asked for, load() did not refuse it, and ModelInfo.{field} is {told}",
            )

    @conformance_test
    @pytest.mark.parametrize("fault", ["missing", "empty", "garbage", "truncated"])
    def test_a_bad_file_is_a_model_error(
        self, fault: str, implementation: Backend, files: ModelFiles, tmp_path: Path
    ) -> None:
        """A bad file gives a ModelError."""
        self.require_usable()
        bad = replace(files, path=_spoiled(files.path, fault, tmp_path))
        try:
            model = self.load(implementation, bad)
        except ModelError as error:
            expect(bool(error.message), "its message is empty")
        else:
            model.close()
            expect(False, f"a model whose file is {fault} loaded as if it were whole")

    @conformance_test
    def test_what_cannot_be_honoured_is_refused(self, implementation: Backend, files: ModelFiles) -> None:
        """load() raises UnsupportedParameter for an option that it cannot honour, and names it."""
        self.require_usable()
        wishes: dict[str, Any] = {"device": "no-such-device"}  # Any: a device is a str, a number of layers an int
        if implementation.probe().devices == ("cpu",):
            wishes["gpu_layers"] = 1
        for name, value in wishes.items():
            try:
                model = implementation.load(files, replace(LoadOptions(device=self.options.device), **{name: value}))
            except UnsupportedParameter as error:
                expect(error.name == name, f"{name}={value!r} is refused by the name {error.name!r}")
            else:
                model.close()
                expect(False, f"{name}={value!r} was ignored")

    def _told(self, implementation: Backend, files: ModelFiles, field: str, **asked: int) -> int | None:
        """Return a field of the ModelInfo of a model that is loaded as `asked`, or REFUSED."""
        try:
            model = implementation.load(files, replace(LoadOptions(device=self.options.device), **asked))  # type: ignore[arg-type]  # each is an int
        except UnsupportedParameter as error:
            expect(error.name in asked, f"{asked} is refused by the name {error.name!r}")
            return REFUSED
        told: int | None = getattr(model.info, field)
        model.close()
        return told


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
