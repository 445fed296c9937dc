"""A file appears whole and checked, or not at all; tests/e2e/test_hub_faults.py has the network's part of it."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiplug.errors import DownloadFailed
from phiplug.models.download import Quiet, RemoteFile, fetch, partial_of, retry_after

CONTENT = b"GGUF and so on"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9/"  # these tests need no answer


def remote(etag=SHA256):
    return RemoteFile("phi.gguf", NOWHERE, len(CONTENT), etag)


def git_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.mark.parametrize("file", [remote(), remote(git_id(CONTENT))])
def test_bytes_that_all_came_before_are_checked_and_moved(tmp_path, file):
    goal = tmp_path / "blob"
    partial_of(goal).write_bytes(CONTENT)
    fetch(file, goal, Quiet())
    assert goal.read_bytes() == CONTENT
    assert not partial_of(goal).exists()


@pytest.mark.parametrize("etag", [hashlib.sha256(b"other").hexdigest(), git_id(b"other")])
def test_bytes_that_are_others_are_thrown_away(tmp_path, etag):
    goal = tmp_path / "blob"
    partial_of(goal).write_bytes(CONTENT)
    with pytest.raises(DownloadFailed, match=r"phi.gguf has another checksum than the hub lists, and was thrown away"):
        fetch(remote(etag), goal, Quiet())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("etag", ["", "0" * 39, "0" * 63, "G" * 64, "../" * 20 + "0000"])
def test_a_file_without_a_checksum_is_refused(etag):
    with pytest.raises(DownloadFailed, match=r"gives no checksum or size of phi.gguf"):
        remote(etag)


def test_a_file_without_a_size_is_refused():
    with pytest.raises(DownloadFailed, match=r"gives no checksum or size of phi.gguf"):
        RemoteFile("phi.gguf", NOWHERE, -1, "0" * 64)


@given(st.integers(min_value=0, max_value=10**6))
def test_the_seconds_that_a_hub_asks_to_wait_are_read(seconds):
    assert retry_after({"Retry-After": str(seconds)}) == seconds


@pytest.mark.parametrize("value", ["Wed, 21 Oct 2015 07:28:00 GMT", "-1", "1.5", "", "soon", "²"])
def test_a_wait_that_is_not_in_seconds_is_none(value):
    assert retry_after({"Retry-After": value}) is None


def written_by_another(path, data):
    with path.open("ab") as file:
        file.write(data)


def removed_by_another(path, _data):
    path.unlink()


@pytest.mark.parametrize("meddle", [written_by_another, removed_by_another])
def test_a_file_that_another_process_has_in_hand_is_not_taken_for_sound(tmp_path, meddle):
    """As where locks do nothing: Lustre, some NFS."""
    goal = tmp_path / "blob"
    partial_of(goal).write_bytes(CONTENT)

    class Meddling(Quiet):
        def finish(self):
            meddle(partial_of(goal), b"more")

    with pytest.raises(DownloadFailed, match=r"another process fetches phi\.gguf"):
        fetch(remote(), goal, Meddling())
    assert list(tmp_path.iterdir()) == []
