"""What was measured once is remembered; what cannot be is only forgotten."""

from __future__ import annotations

from phiplug.memo import FileMemo


def test_a_fact_is_remembered_between_processes(tmp_path):
    FileMemo(tmp_path / "deep" / "memo.json").remember("threads", {"count": 2})
    assert FileMemo(tmp_path / "deep" / "memo.json").recall("threads") == {"count": 2}


def test_facts_do_not_disturb_one_another(tmp_path):
    memo = FileMemo(tmp_path / "memo.json")
    memo.remember("a", 1)
    memo.remember("b", 2)
    memo.remember("a", 3)
    assert (memo.recall("a"), memo.recall("b"), memo.recall("c")) == (3, 2, None)
    assert [path.name for path in tmp_path.iterdir()] == ["memo.json"]


def test_a_damaged_file_is_an_empty_one(tmp_path):
    path = tmp_path / "memo.json"
    for damage in (b"{", b"[1]", b"\xff\xfe", b""):
        path.write_bytes(damage)
        assert FileMemo(path).recall("a") is None
    FileMemo(path).remember("a", 1)
    assert FileMemo(path).recall("a") == 1


def test_where_nothing_can_be_written_nothing_is_remembered(tmp_path):
    (tmp_path / "file").write_text("in the way")
    memo = FileMemo(tmp_path / "file" / "memo.json")
    memo.remember("a", 1)
    assert memo.recall("a") is None
