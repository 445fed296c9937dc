"""Tests what `phiplug serve` says of a model that it has loaded."""

from __future__ import annotations

import pytest

from phiplug.cli.serve import described
from phiplug.server.ports import EngineInfo
from phiplug.spi import ModelInfo


def said(asked=None, free=2 * 10**9, **changes):
    given = {"device": "cpu", "threads": 2, "features": frozenset({"autotune"}), "cache_bytes": 755_000_000, **changes}
    info = ModelInfo(100, 4096, 8, given.pop("device"), "Q4_1", "1", **given)
    return described("m", EngineInfo("llama-cpp", info), asked, free)


def test_it_compares_the_cells_of_all_slots_with_what_is_free():
    assert "8 slots of 4096 tokens: 0.76 GB of 2.0 GB free;" in said()
    assert "0.76 GB of 0.5 GB free, which is too much;" in said(free=5 * 10**8)
    assert "free" not in said(cache_bytes=None)
    assert "too much" not in said(free=0, device="cuda:0")  # the cells are elsewhere


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "2 threads (measured, and fixed from now on);"),
        ({"asked": 2}, "2 threads;"),
        ({"features": frozenset()}, "2 threads;"),
        ({"features": frozenset(), "threads": 1}, "on cpu, 1 thread;"),
    ],
)
def test_it_says_which_threads_it_measured(given, words):
    assert words in said(**given)


def test_it_says_whether_a_row_depends_on_its_neighbours():
    assert said(row_independence="none").endswith("computed alone")
    assert said(row_independence="decode").endswith("decoded rows do not depend on their neighbours")
    assert said(row_independence="all").endswith("no row depends on its neighbours")
