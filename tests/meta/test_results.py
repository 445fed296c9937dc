"""The results that people sent: each can be read, and names no machine of anyone's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phiplug.bench.page import page
from phiplug.bench.record import load

RESULTS = sorted((Path(__file__).parents[2] / "results").glob("*/*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_result_is_a_finished_run_with_a_page(path):
    run = load(path)
    assert run.complete
    assert all(row.samples or row.error for row in run.rows)
    assert page([run]).splitlines()[:2] == path.with_suffix(".html").read_text(encoding="utf-8").splitlines()[:2]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_result_names_a_host_or_a_user(path):
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["machine_info"]["node"] == written["phiplug"]["run"]["hardware"]["id"]
    assert "/" not in written["phiplug"]["run"]["model"]["reference"]


def test_there_is_a_result():
    assert RESULTS
