"""Tests how lines are read: each once, numbered, hashed, and of a bounded size."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.batch import source as module
from phiplug.batch.source import Columns, Source, digest_of, json_lines
from phiplug.errors import InvalidParameter, NotInstalled

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)


def read(path, **columns):
    with Source(str(path), Columns(**columns)).lines() as lines:
        return list(lines)


@given(st.lists(st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"").rstrip(b"\r")), max_size=20))
def test_each_line_is_read_once_with_its_number_and_its_bytes(datas):
    found = list(json_lines(io.BytesIO(b"".join(data + b"\n" for data in datas))))
    expected = [datas[0].removeprefix(b"\xef\xbb\xbf"), *datas[1:]] if datas else []
    assert [line.data for line in found] == expected
    assert [line.number for line in found] == list(range(1, len(datas) + 1))
    assert all(line.digest == digest_of(line.data) and not line.problem for line in found)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.booleans())
def test_a_line_that_is_too_long_is_named_and_the_others_are_read(sizes, ends):
    datas = [bytes([97 + at % 26]) * size for at, size in enumerate(sizes)]
    text = b"\n".join(datas) + (b"\n" if ends or not datas[-1] else b"")
    found = list(json_lines(io.BytesIO(text), longest=10))
    assert [line.data for line in found] == [data if len(data) <= 10 else b"" for data in datas]
    assert [bool(line.problem) for line in found] == [len(data) > 10 for data in datas]
    assert len({line.digest for line in found}) == len(set(datas))


def test_the_end_of_a_line_may_be_windows_and_the_last_may_have_none():
    assert [line.data for line in json_lines(io.BytesIO(b"a\r\n\r\nb"))] == [b"a", b"", b"b"]


def test_a_line_of_a_hundred_megabytes_takes_no_such_memory(tmp_path):
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 2**20)
        file.write(b"\n{}\n")
    tracemalloc.start()
    long, short = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (long.number, long.data, long.problem) == (1, b"", "the line is longer than 8 MiB")
    assert (short.number, short.data) == (2, b"{}")
    assert peak < 40 * 2**20


def test_a_compressed_file_has_the_lines_of_the_plain_one(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt": "a"}\n\n')
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "a"}\n\n'))
    assert read(tmp_path / "a.jsonl.gz") == read(tmp_path / "a.jsonl")


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:30] + b"\xff" * 9 + data[39:]])
def test_a_damaged_file_is_refused_with_the_last_line_that_was_read(tmp_path, damage):
    (tmp_path / "a.jsonl.gz").write_bytes(damage(gzip.compress(b"".join(b"%d\n" % at for at in range(20_000)))))
    with pytest.raises(InvalidParameter, match=r"cannot be read beyond line \d+"):
        read(tmp_path / "a.jsonl.gz")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidParameter, match="No such file"):
        read(tmp_path / "none.jsonl")


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=10))
def test_a_record_becomes_the_line_that_says_the_same(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["id", "question"])
        writer.writerows((name, said.replace("\r", "")) for name, said in records)
    found = [json.loads(line.data) for line in read(path, prompt="question", custom_id="id")]
    said = [{"custom_id": name.replace("\r", ""), "prompt": said.replace("\r", "")} for name, said in records]
    assert [{key: value.replace("\r", "") for key, value in each.items()} for each in found] == said


def test_records_are_numbered_by_their_first_lines_and_what_is_wrong_is_a_line_too(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 60)
    long = "x" * 100
    (tmp_path / "a.csv").write_bytes(f'prompt,n\none,1\n"two\nlines",2\n\n{long},3\nlast\n\xff,5\n'.encode("latin-1"))
    found = read(tmp_path / "a.csv")
    assert [line.number for line in found] == [2, 3, 5, 6, 7, 8]
    assert [json.loads(line.data)["prompt"] if line.data else None for line in found] == [
        "one", "two\nlines", None, None, "last", "\udcff"
    ]  # fmt: skip
    assert "longer" in found[3].problem


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    (tmp_path / "a.tsv").write_text("name\ttext\nx\ty\n", encoding="utf-8")
    with pytest.raises(InvalidParameter, match="its columns: name, text"):
        read(tmp_path / "a.tsv")
    assert json.loads(read(tmp_path / "a.tsv", prompt="text")[0].data) == {"prompt": "y"}


def test_parquet_without_pyarrow_is_refused_with_the_command_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(NotInstalled, match=r"phiplug\[parquet\]"):
        read(tmp_path / "a.parquet")


def test_parquet_has_a_line_for_each_record(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    table = pyarrow.table({"prompt": ["a", None, "c"], "key": ["1", "2", "3"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", custom_id="key")
    assert [json.loads(line.data)["prompt"] for line in found] == ["a", None, "c"]
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InvalidParameter, match="cannot be read beyond record 0"):
        read(tmp_path / "b.parquet")
