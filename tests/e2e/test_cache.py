"""`phiplug cache` as a user types it: what is kept is listed whole, and removed when that is wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import WeakFileLock

from phiplug.cli import cache
from phiplug.models.repository import lock_of

COMMIT = "c" * 40


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """One file of each kind that is kept, and a model beside them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--a--phi"
    files = {
        "measurements": tmp_path / "cache" / "phiplug" / "cache.json",
        "history": tmp_path / "state" / "phiplug" / "chat_history",
        "log": tmp_path / "state" / "phiplug" / "log.db",
        "names": repository / "phiplug" / f"{COMMIT}.json",
        "downloads": repository / "blobs" / "e.incomplete",
        "models": repository / "snapshots" / COMMIT / "phi.gguf",
    }
    for count, path in enumerate(files.values(), 1):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * count)
    return files


def rows(phiplug):
    ran = phiplug("cache", "--json")
    assert (ran.code, ran.err) == (0, "")
    return {row["name"]: row for row in json.loads(ran.out)}


def there(kept):
    return {name for name, path in kept.items() if path.exists()}


def test_every_kind_is_listed_with_its_size_place_and_command(phiplug, kept):
    found = rows(phiplug)
    assert list(found) == [row.name for row in cache.ROWS]
    assert [found[name]["bytes"] for name in kept] == [1, 2, 3, 4, 5, 6]
    assert found["history"]["path"] == str(kept["history"])
    assert found["history"]["removed_by"] == "phiplug cache clear history"
    assert found["models"]["removed_by"] == "phiplug models rm MODEL"


def test_the_table_says_where_what_is_kept(phiplug, kept):
    shown = "".join(phiplug("cache").out.split())
    for name in ("measurements", "history"):
        assert str(kept[name]) in shown


def test_one_kind_is_removed_and_the_rest_stays(phiplug, kept):
    ran = phiplug("cache", "clear", "history", "--yes")
    assert (ran.code, ran.out, ran.err) == (0, "", "removed: history (2 bytes)\n")
    assert there(kept) == set(kept) - {"history"}


def test_all_is_removed_but_the_models(phiplug, kept):
    assert phiplug("cache", "clear", "--yes").code == 0
    assert there(kept) == {"models"}
    assert phiplug("cache", "clear", "--yes").err == "there is nothing to remove\n"


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_without_a_yes_nothing_is_removed(phiplug, kept, answer):
    ran = phiplug("cache", "clear", stdin=answer)
    assert (ran.code, ran.out) == (1, "")
    assert "nothing was removed (--yes removes without a question)" in ran.err
    assert there(kept) == set(kept)


def test_a_yes_removes(phiplug, kept):
    ran = phiplug("cache", "clear", "names", stdin="y\n")
    assert (ran.code, ran.out) == (0, "")
    assert there(kept) == set(kept) - {"names"}


@pytest.mark.parametrize(("what", "message"), [("models", "phiplug models rm MODEL"), ("x", "one of measurements,")])
def test_only_what_may_go_can_be_named(phiplug, kept, what, message):
    ran = phiplug("cache", "clear", what, "--yes")
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert there(kept) == set(kept)


def test_a_download_that_goes_on_stays(phiplug, kept):
    lock = lock_of(kept["downloads"].with_suffix(""))
    lock.parent.mkdir(parents=True)
    with WeakFileLock(lock):
        ran = phiplug("cache", "clear", "downloads", "--yes")
    assert ran.code == 0
    assert "e.incomplete stays: a process is fetching it" in ran.err
    assert there(kept) == set(kept)


def test_what_a_killed_process_left_beside_a_file_goes_with_it(phiplug, kept):
    left = kept["measurements"].with_name("cache.jsonx7f")
    left.write_bytes(b"abc")
    assert rows(phiplug)["measurements"]["bytes"] == 4
    phiplug("cache", "clear", "measurements", "--yes")
    assert not left.exists()


def test_a_file_that_cannot_be_removed_is_one_line(phiplug, kept, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    ran = phiplug("cache", "clear", "history", "--yes")
    assert ran.code == 1
    assert "chat_history cannot be removed: Permission denied (check the permissions of its folder)" in ran.err


def test_a_user_without_a_home_folder_keeps_nothing(phiplug, kept, monkeypatch):
    def homeless(*_arguments):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("platformdirs.user_cache_path", homeless)
    monkeypatch.setattr("platformdirs.user_state_path", homeless)
    found = rows(phiplug)
    assert [(found[name]["path"], found[name]["bytes"]) for name in ("measurements", "history")] == [(None, 0)] * 2


def test_the_list_has_json_and_its_commands_do_not(phiplug, kept):
    assert phiplug("cache", "--json", "clear", "--yes").code == 2
    assert there(kept) == set(kept)
