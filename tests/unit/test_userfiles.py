"""Whatever a user names is opened in one place: failures are typed, and what was there is never lost."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from phiplug import userfiles
from phiplug.errors import InvalidParameter

UNREADABLE = ["~nosuch/x", "a\0b", "x" * 300, "nosuch", "."]


@pytest.mark.parametrize("path", UNREADABLE)
def test_what_cannot_be_read_is_an_error_with_the_parameters_name(path):
    with pytest.raises(InvalidParameter, match=r"^file: .* (cannot be read|is no regular file)"):
        userfiles.read_text("file", path)


@pytest.mark.parametrize("path", ["~nosuch/x", "a\0b", "x" * 300, "nosuch/x", "."])
@pytest.mark.parametrize("use", [userfiles.require_writable, lambda name, path: userfiles.write_text(name, path, "x")])
def test_what_cannot_be_written_is_an_error_before_and_during_the_work(tmp_path, monkeypatch, path, use):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameter, match=r"^file: .* cannot be written"):
        use("file", path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has none")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidParameter, match="is no regular file"):
        userfiles.read_text("file", tmp_path / "pipe")
    with pytest.raises(InvalidParameter, match="cannot be written: it is no regular file"):
        userfiles.write_text("file", tmp_path / "pipe", "x")


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(userfiles, "LARGEST", 4)
    (tmp_path / "a").write_text("12345")
    with pytest.raises(InvalidParameter, match="is larger than"):
        userfiles.read_text("file", tmp_path / "a")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfhello")
    assert userfiles.read_text("file", tmp_path / "a") == "hello"


def test_another_encoding_is_named(tmp_path):
    (tmp_path / "a").write_bytes("hello".encode("utf-16"))
    with pytest.raises(InvalidParameter, match=r"is not UTF-8.*begins as UTF-16; save it as UTF-8"):
        userfiles.read_text("file", tmp_path / "a")


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InvalidParameter, match="cannot be written: No space left on device"):
        userfiles.write_text("file", path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_goes_through_a_link_and_keeps_the_permissions(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    userfiles.write_text("file", link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_reading_takes_no_more_memory_than_the_text():
    class Small(io.BytesIO):
        def read(self, size=-1):
            assert 0 < size <= 2**16
            return super().read(size)

    assert userfiles.read_bounded(Small(b"x" * 2**18)) == b"x" * 2**18


def test_what_is_too_large_is_read_no_further(monkeypatch):
    monkeypatch.setattr(userfiles, "LARGEST", 2**16)
    assert 2**16 < len(userfiles.read_bounded(io.BytesIO(b"x" * 2**20))) <= 2**17
