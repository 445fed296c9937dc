"""Bytes become text as Python's own incremental decoder turns them into text, piece by piece.

`pieces` are in hexadecimal; after each of them `deltas` has the text that is new.
"""

import json
from pathlib import Path

import pytest

from phiplug.engine.detokenize import Detokenizer

ROWS = json.loads((Path(__file__).parents[1] / "data" / "streaming.json").read_text(encoding="utf-8"))
SOURCE = Path(__file__).parents[3] / "shared" / "golden" / "streaming.json"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_each_piece_gives_the_text_that_it_completes(row):
    detokenizer = Detokenizer()
    assert [detokenizer.feed(bytes.fromhex(piece)) for piece in row["pieces"]] == row["deltas"]
    assert detokenizer.flush() == row["flush"]
    assert "".join(row["deltas"]) + row["flush"] == bytes.fromhex("".join(row["pieces"])).decode("utf-8", "replace")


@pytest.mark.skipif(not SOURCE.is_file(), reason="the source of the rows is not part of this repository")
def test_no_row_of_the_source_is_missing():
    records = json.loads(SOURCE.read_text(encoding="utf-8"))["records"]
    assert [(record["pieces_hex"], record["expected_flush"]) for record in records] == [
        (row["pieces"], row["flush"]) for row in ROWS
    ]
