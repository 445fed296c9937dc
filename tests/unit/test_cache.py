"""What was measured once is remembered; what cannot be is only forgotten."""

from __future__ import annotations

import errno

from phiplug.models.cache import FileCache


def test_a_fact_is_remembered_between_processes(tmp_path):
    FileCache(tmp_path / "deep" / "cache.json").set("threads", {"count": 2})
    assert FileCache(tmp_path / "deep" / "cache.json").get("threads") == {"count": 2}


def test_facts_do_not_disturb_one_another(tmp_path):
    cache = FileCache(tmp_path / "cache.json")
    cache.set("a", 1)
    cache.set("b", 2)
    cache.set("a", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (3, 2, None)
    assert [path.name for path in tmp_path.iterdir()] == ["cache.json"]


def test_a_damaged_file_is_an_empty_one(tmp_path):
    path = tmp_path / "cache.json"
    for damage in (b"{", b"[1]", b"\xff\xfe", b""):
        path.write_bytes(damage)
        assert FileCache(path).get("a") is None
    FileCache(path).set("a", 1)
    assert FileCache(path).get("a") == 1


def test_where_nothing_can_be_written_nothing_is_remembered(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = FileCache(tmp_path / "file" / "cache.json")
    cache.set("a", 1)
    assert cache.get("a") is None


def test_a_value_that_is_no_json_is_forgotten_and_leaves_no_file(tmp_path):
    FileCache(tmp_path / "cache.json").set("a", object())
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_brackets_is_an_empty_one(tmp_path):
    (tmp_path / "cache.json").write_text("[" * 100_000)
    assert FileCache(tmp_path / "cache.json").get("a") is None


def test_a_full_disk_leaves_no_half_written_file(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    FileCache(tmp_path / "cache.json").set("a", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_without_a_file_keeps_nothing():
    cache = FileCache(None)
    cache.set("a", 1)
    assert cache.get("a") is None
