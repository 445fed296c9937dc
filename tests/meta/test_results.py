"""The results that people sent: each can be read, is whole, and names no machine of anyone's; the table is of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phiplug.bench.results import problems_of_file, table, with_table

FOLDER = Path(__file__).parents[2] / "results"
RESULTS = sorted(FOLDER.glob("*/*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_is_wrong_with_a_result(path):
    assert problems_of_file(path) == []


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_result_names_a_host(path):
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["machine_info"]["node"] == written["phiplug"]["run"]["hardware"]["id"]


def test_every_file_of_the_folder_belongs_to_a_result():
    expected = {each for path in RESULTS for each in (path, path.with_suffix(".html"))} | {FOLDER / "README.md"}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} == expected


def test_the_table_is_of_all_results():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert with_table(page, table(FOLDER)) == page, "`make results` writes it anew"


def test_there_is_a_result():
    assert RESULTS
