"""Skips these tests where the extension is not built, or fails them where it must be."""

from __future__ import annotations

import importlib.util
import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def extension() -> None:
    """Asks for the extension in Rust, which `make test` builds if it finds cargo."""
    try:
        from phiplug_candle import _native  # noqa: F401  the import is the test
    except ImportError as error:
        said = f"phiplug-candle is not built: {error}"
        if os.environ.get("PHIPLUG_REQUIRE_CANDLE"):
            pytest.fail(said)
        pytest.skip(said)


@pytest.fixture(scope="session")
def llama_cpp() -> None:
    """Asks for llama-cpp-python."""
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed")
