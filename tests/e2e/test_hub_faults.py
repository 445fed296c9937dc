"""What goes wrong between here and the hub ends in one line, leaves no model behind, and a second attempt succeeds.

Each fault is made by a server on 127.0.0.1 that counts what it sends, so "only what was missing" is a number.
"""

import errno
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_hub
import huggingface_hub
import pytest
from fake_hub import FakeHub, Fault, etag_of
from huggingface_hub import constants

from phiplug.errors import DownloadFailed, ModelCorrupt, ModelNotFound, PhiplugError
from phiplug.models import download
from phiplug.models.hub import resolve

SIZE = 512 * 1024
WEIGHTS = b"GGUF" + random.Random(0).randbytes(SIZE - 4)
REPO = "microsoft/phi"
MODEL = f"hf:{REPO}:q4"
FOLDER = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": WEIGHTS}


@pytest.fixture(scope="module", autouse=True)
def session():
    yield
    huggingface_hub.close_session()


@pytest.fixture
def hub():
    hub = FakeHub()
    hub.add(REPO, {"README.md": b"Phi", "phi-q4.gguf": WEIGHTS})
    yield hub
    hub.close()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def at_the_fake_hub(hub, cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.0)


def get(reference=MODEL, **options):
    return resolve(reference, aliases={}, **options)


def fails(expected, reference=MODEL, **options):
    """Ask for a model that cannot be had; return the one line that says so."""
    with pytest.raises(PhiplugError) as caught:
        get(reference, **options)
    assert type(caught.value) is expected
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(reference)
    assert caught.value.hint
    return str(caught.value)


def models_in(cache):
    return [path for path in cache.glob("models--*/snapshots/**/*") if path.is_file()]


def kept_in(cache):
    """Return how many bytes of an unfinished download are there."""
    (kept,) = cache.rglob("*.incomplete")
    return kept.stat().st_size


def succeeds(hub, *, missing=SIZE):
    """Ask again, with the hub in order: the model comes, at the price of the bytes that were missing."""
    hub.mend()
    hub.total()
    files = get()
    assert files.path.read_bytes() == WEIGHTS
    assert hub.total() == missing
    return files


# The way it goes when nothing goes wrong


def test_a_model_is_fetched_once(hub, cache):
    files = get()
    assert (files.reference, files.format) == (MODEL, "gguf")
    assert files.path.read_bytes() == WEIGHTS
    hub.requests.clear()
    assert get() == files
    assert hub.requests == []


def test_huggingface_hub_finds_what_was_fetched_here(hub, cache):
    path = get().path
    found = huggingface_hub.hf_hub_download(REPO, "phi-q4.gguf", cache_dir=cache)
    assert Path(found) == path
    assert hub.total() == SIZE
    (repo,) = huggingface_hub.scan_cache_dir(cache).repos
    assert (repo.repo_id, repo.size_on_disk) == (REPO, SIZE)


def test_what_huggingface_hub_fetched_is_found_here(hub, cache):
    found = huggingface_hub.hf_hub_download(REPO, "phi-q4.gguf", cache_dir=cache)
    assert get(offline=True).path == Path(found)


def test_a_file_is_named_with_a_commit(hub):
    commit = hub.repositories[REPO].commit
    assert get(f"hf:{REPO}/phi-q4.gguf@{commit}").path.read_bytes() == WEIGHTS
    assert get(f"hf:{REPO}/phi-q4.gguf@{commit}", offline=True).path.parent.name == commit


def test_every_part_of_a_split_is_fetched(hub):
    hub.add(REPO, {f"phi-Q8_0-0000{part}-of-00003.gguf": WEIGHTS[part:] for part in (1, 2, 3)})
    path = get(f"hf:{REPO}:Q8_0").path
    assert path.name == "phi-Q8_0-00001-of-00003.gguf"
    assert [len(file.read_bytes()) for file in sorted(path.parent.iterdir())] == [SIZE - 1, SIZE - 2, SIZE - 3]


def test_a_repository_without_a_gguf_is_a_folder_without_code_and_pickles(hub):
    hub.add(REPO, FOLDER | {"pytorch_model.bin": WEIGHTS, "modeling_phi.py": b"exit()", "original/x.safetensors": b""})
    files = get(f"hf:{REPO}")
    assert files.format == "folder"
    assert sorted(path.name for path in files.path.rglob("*")) == sorted(FOLDER)
    assert get(f"hf:{REPO}", offline=True) == files


def test_progress_is_told_of_every_byte(hub):
    class Told(list):
        def start(self, name, total):
            self.append((name, total))

        def advance(self, count):
            self.append(count)

        def finish(self):
            self.append("finished")

    told = Told()
    get(progress=told)
    assert (told[0], sum(told[1:-1]), told[-1]) == (("phi-q4.gguf", SIZE), SIZE, "finished")


# Answers that are no file


@pytest.mark.parametrize("which", ["listing_status", "file_status"])
@pytest.mark.parametrize(
    ("status", "code", "expected", "said"),
    [
        (401, "RepoNotFound", ModelNotFound, "shows no repository microsoft/phi (look at the name; if it is private"),
        (401, "GatedRepo", DownloadFailed, "accept its terms at https://huggingface.co/microsoft/phi and set HF_TOKEN"),
        (403, "GatedRepo", DownloadFailed, "accept its terms at https://huggingface.co/microsoft/phi and set HF_TOKEN"),
        (404, "RepoNotFound", ModelNotFound, "shows no repository microsoft/phi (look at the name"),
        (404, None, ModelNotFound, "shows no repository microsoft/phi (look at the name"),
        (429, None, DownloadFailed, "asks for fewer requests (429) (try again in 77 seconds, or set HF_TOKEN)"),
        (500, None, DownloadFailed, "the hub failed (500) (try again later"),
        (503, None, DownloadFailed, "the hub failed (503) (try again later"),
    ],
)
def test_a_refusal_says_what_to_do(hub, cache, which, status, code, expected, said):
    hub.fault = Fault(code=code, retry_after=77 if status == 429 else None, **{which: status})
    assert said in fails(expected)
    assert models_in(cache) == []
    succeeds(hub)


def test_a_token_is_what_a_gated_repository_wants(hub, monkeypatch):
    hub.repositories[REPO].gated = True
    assert "accept its terms" in fails(DownloadFailed)
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    assert get().path.read_bytes() == WEIGHTS
    assert hub.tokens_at_store == 0


def test_a_hub_that_fails_for_a_moment_is_asked_again(hub, monkeypatch):
    hub.fault = Fault(file_status=503)
    monkeypatch.setattr(download.time, "sleep", lambda _seconds: setattr(hub, "fault", Fault()))
    assert get().path.read_bytes() == WEIGHTS


def test_a_revision_that_is_not_there_is_named(hub):
    with pytest.raises(ModelNotFound, match="microsoft/phi has no revision v9"):
        get(f"{MODEL}@v9")


def test_a_page_for_people_is_recognized_in_place_of_a_listing(hub, cache):
    hub.fault = Fault(html=True)
    assert "does not speak the hub's protocol (a proxy or a login page" in fails(DownloadFailed)
    succeeds(hub)


def test_a_page_for_people_is_recognized_in_place_of_a_file(hub, cache, monkeypatch):
    original = hub._server.RequestHandlerClass.resolve
    page = b"<!DOCTYPE html>" + bytes(SIZE - 15)  # even one of the right length
    monkeypatch.setattr(
        hub._server.RequestHandlerClass,
        "resolve",
        lambda self, *_: self.answer(200, page, {"Content-Type": "text/html"}),
    )
    assert "came 524288 bytes of text/html (a proxy or a login page" in fails(DownloadFailed)
    assert models_in(cache) == []
    monkeypatch.setattr(hub._server.RequestHandlerClass, "resolve", original)
    succeeds(hub)


def test_a_hub_that_is_not_there_is_named(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the connection to http://127.0.0.1:9 failed" in fails(DownloadFailed)


@pytest.fixture
def through_a_proxy(monkeypatch):
    """Send requests through the proxy of HTTP_PROXY, also those to this machine."""

    def choose(address):
        for name in ("http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", address)
        monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
        huggingface_hub.close_session()

    yield choose
    monkeypatch.undo()
    huggingface_hub.close_session()


def test_a_proxy_that_is_not_there_is_named(hub, through_a_proxy):
    through_a_proxy("http://127.0.0.1:9")
    said = fails(DownloadFailed)
    assert "the connection to http://hub.invalid through the proxy of HTTP_PROXY failed" in said
    assert "correct HTTP_PROXY or unset it" in said


@pytest.mark.parametrize("address", ["foo://there", "http://127.0.0.1:port", "socks5://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_one_is_named(hub, through_a_proxy, address):
    if address.startswith("socks") and importlib.util.find_spec("socksio"):
        pytest.skip("httpx can speak to such proxies here")
    through_a_proxy(address)
    assert "HTTP_PROXY names no proxy that can be used" in fails(DownloadFailed)


@pytest.mark.parametrize("repo", ["a/b--c", "a/b.git", "a/b-", "a/" + "b" * 100])
def test_a_name_that_no_repository_can_have_is_refused(hub, repo):
    assert f"no repository can be called {repo}" in fails(ModelNotFound, f"hf:{repo}")
    assert hub.requests == []


def test_a_hub_that_lists_no_checksum_is_not_trusted(hub, monkeypatch):
    monkeypatch.setattr(fake_hub, "sibling", lambda name, content: {"rfilename": name, "size": len(content)})
    assert "gives no checksum or size of phi-q4.gguf" in fails(DownloadFailed)
    assert hub.total() == 0


def test_offline_asks_nobody(hub):
    assert "the network is off limits (fetch it once without `offline`" in fails(ModelNotFound, offline=True)
    assert hub.requests == []


def test_what_must_be_so_before_a_fetch_is_asked_before_the_hub(hub):
    def refuse():
        raise ModelCorrupt("not now")

    with pytest.raises(ModelCorrupt, match="not now"):
        get(before_fetch=refuse)
    assert hub.requests == []
    get()
    assert get(before_fetch=refuse).format == "gguf"  # it is here


def test_hf_hub_offline_says_the_same(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "the network is off limits" in fails(ModelNotFound)
    assert hub.requests == []


@pytest.mark.parametrize("reference", [f"hf:{REPO}", f"hf:{REPO}:Q4_K", f"hf:{REPO}/other.gguf"])
def test_a_choice_that_is_none_lists_what_there_is(hub, reference):
    hub.add(REPO, {"phi-Q4_K_M.gguf": WEIGHTS, "phi-Q8_0.gguf": WEIGHTS, "mmproj-phi-f16.gguf": WEIGHTS})
    with pytest.raises(ModelNotFound, match=r"phi-Q4_K_M\.gguf, phi-Q8_0\.gguf"):
        get(reference)
    assert hub.total() == 0


def test_a_repository_that_lacks_a_part_of_a_split_says_so(hub):
    hub.add(REPO, {"phi-q4-00001-of-00002.gguf": WEIGHTS})
    with pytest.raises(ModelCorrupt, match=r"1 of the 2 parts .* missing: phi-q4-00002-of-00002.gguf"):
        get()
    assert hub.total() == 0


def test_a_name_that_leads_out_of_its_repository_is_no_file(hub, cache):
    hub.add(REPO, {"../../phi-q4.gguf": WEIGHTS})
    with pytest.raises(ModelNotFound, match="no GGUF files are called 'q4'; there is none"):
        get()


@pytest.mark.parametrize("name", ["a\0b-q4.gguf", "\ud800-q4.gguf", "\x1b[31m-q4.gguf", "d/" * 2000 + "q4.gguf", 5])
def test_a_name_that_no_disk_holds_is_no_file(hub, name, monkeypatch):
    monkeypatch.setattr(fake_hub, "sibling", lambda _name, content: {"rfilename": name, "size": len(content)})
    with pytest.raises(ModelNotFound, match="no GGUF files are called 'q4'; there is none"):
        get()


# What the cache has already


def test_half_a_snapshot_of_another_program_is_completed(hub, cache):
    hub.add(REPO, FOLDER)
    huggingface_hub.hf_hub_download(REPO, "config.json", cache_dir=cache)
    huggingface_hub.hf_hub_download(REPO, "model.safetensors", cache_dir=cache)
    assert sorted(path.name for path in get(f"hf:{REPO}").path.iterdir()) == sorted(FOLDER)


def test_a_bare_reference_means_the_same_whatever_is_cached(hub, cache):
    hub.add(REPO, {"phi-Q4_K_M.gguf": WEIGHTS, "phi-Q8_0.gguf": WEIGHTS})
    huggingface_hub.hf_hub_download(REPO, "phi-Q8_0.gguf", cache_dir=cache)
    for offline in (False, True):  # the list that was asked for is kept
        with pytest.raises(ModelNotFound):
            get(f"hf:{REPO}", offline=offline)


def test_an_update_fetches_the_newest_commit_and_the_rest_asks_nobody(hub):
    old = get(update=True).path
    hub.add(REPO, {"phi-q4.gguf": WEIGHTS[:-1]}, commit="d" * 40)
    assert get().path == old
    assert get(update=True).path.read_bytes() == WEIGHTS[:-1]
    hub.requests.clear()
    assert get().path.parent.name == "d" * 40
    assert hub.requests == []


def test_an_update_without_a_network_is_what_is_here(hub):
    assert get().path == get(offline=True, update=True).path


def test_equal_files_are_both_there_where_links_are_not_allowed(hub, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    hub.add(REPO, FOLDER)  # config.json and tokenizer.json have the same bytes
    assert sorted(path.name for path in get(f"hf:{REPO}").path.iterdir()) == sorted(FOLDER)


# Bytes that do not all come


@pytest.mark.parametrize("tenth", range(10))
def test_a_cut_connection_costs_only_what_was_missing(hub, cache, tenth):
    hub.fault = Fault(cut_at=SIZE * tenth // 10)
    assert "the connection to http://127.0.0.1" in fails(DownloadFailed)
    assert hub.total() == SIZE * tenth // 10
    assert models_in(cache) == []
    succeeds(hub, missing=SIZE - SIZE * tenth // 10)


def test_a_connection_that_is_cut_once_is_continued_at_once(hub, monkeypatch):
    hub.fault = Fault(cut_at=SIZE // 2)
    monkeypatch.setattr(download.time, "sleep", lambda _seconds: setattr(hub, "fault", Fault()))
    assert get().path.read_bytes() == WEIGHTS
    assert hub.total() == SIZE


def test_a_cut_that_no_length_announced_is_noticed(hub, cache):
    hub.fault = Fault(cut_at=SIZE // 2, announces_no_length=True)
    assert "the answer ended after 262144 of 524288 bytes" in fails(DownloadFailed)
    succeeds(hub, missing=SIZE // 2)


def test_a_hub_that_cannot_continue_begins_anew(hub):
    hub.fault = Fault(cut_at=SIZE // 2)
    fails(DownloadFailed)
    hub.fault = Fault(ignores_range=True)
    hub.total()
    assert get().path.read_bytes() == WEIGHTS
    assert hub.total() == SIZE


def test_a_connection_that_says_nothing_more_is_given_up(hub, cache, monkeypatch):
    hub.fault = Fault(stall_at=SIZE // 2)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    assert "failed: timed out" in fails(DownloadFailed)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 10)
    succeeds(hub, missing=SIZE // 2)


def test_a_slow_drip_is_given_up(hub, cache, monkeypatch):
    hub.fault = Fault(drip=0.02)
    with monkeypatch.context() as patch:
        patch.setattr(download, "WINDOW", 0.3)
        line = fails(DownloadFailed)
    assert "bytes of phi-q4.gguf arrived in" in line
    assert "what has arrived is kept" in line
    assert models_in(cache) == []
    succeeds(hub, missing=SIZE - kept_in(cache))


def test_bytes_with_another_checksum_are_thrown_away(hub, cache):
    hub.fault = Fault(wrong_at=SIZE // 3)
    assert "has another checksum than the hub lists, and was thrown away" in fails(DownloadFailed)
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    succeeds(hub)


def test_a_small_file_with_another_checksum_is_thrown_away(hub, cache):
    hub.add(REPO, FOLDER)
    hub.fault = Fault(wrong_at=0)
    assert "config.json has another checksum" in fails(DownloadFailed, f"hf:{REPO}")
    assert models_in(cache) == []


def test_a_folder_is_no_model_before_its_last_file_came(hub, cache):
    hub.add(REPO, FOLDER)
    hub.fault = Fault(cut_at=1000)
    fails(DownloadFailed, f"hf:{REPO}")
    assert models_in(cache) == []
    hub.fault = Fault()
    hub.total()
    assert get(f"hf:{REPO}").format == "folder"
    assert hub.total() == SIZE - 1000


def test_leftovers_that_are_too_long_are_not_continued(hub, cache):
    blobs = cache / "models--microsoft--phi" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{etag_of(WEIGHTS)}.incomplete").write_bytes(bytes(SIZE + 1))
    succeeds(hub)


def test_a_blob_of_another_length_is_fetched_again(hub, cache):
    blobs = cache / "models--microsoft--phi" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / etag_of(WEIGHTS)).write_bytes(WEIGHTS[:-1])
    succeeds(hub)


# Disks


@pytest.fixture
def small_disk(cache):
    """The cache on a disk of its own, which `remount` changes."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small disk")
    cache.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", cache], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.decode().strip()}")
    yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", cache], check=True)
    subprocess.run(["umount", cache], check=True)


def test_a_disk_without_room_is_noticed_before_the_first_byte(hub, small_disk):
    line = fails(DownloadFailed)
    assert "0.5 MB are to be fetched and the disk of" in line
    assert "0.3 MB free (make room, or set HF_HOME" in line
    assert hub.total() == 0
    small_disk("size=64m")
    succeeds(hub)


def test_a_disk_that_fills_on_the_way_keeps_what_it_took(hub, cache, small_disk, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))
        assert os.strerror(errno.ENOSPC) in fails(DownloadFailed)
    assert models_in(cache) == []
    assert 0 < kept_in(cache) < SIZE
    small_disk("size=64m")
    succeeds(hub, missing=SIZE - kept_in(cache))


def test_a_read_only_cache_is_named(hub, cache, small_disk):
    small_disk("size=64m,ro")
    line = fails(DownloadFailed)
    assert f"the cache {cache} cannot be written: {os.strerror(errno.EROFS)}" in line
    assert "set HF_HOME to a folder that can be written" in line
    small_disk("rw")
    files = succeeds(hub)
    small_disk("ro")
    assert get() == files


def test_a_file_where_the_cache_should_be_is_named(hub, cache):
    cache.write_bytes(b"")
    assert f"the cache {cache} cannot be written: {os.strerror(errno.ENOTDIR)}" in fails(DownloadFailed)
    cache.unlink()
    succeeds(hub)


def test_where_links_are_not_allowed_the_file_itself_is_in_its_place(hub, cache, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(errno.EPERM, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    files = get()
    assert not files.path.is_symlink()
    assert files.path.read_bytes() == WEIGHTS
    assert get(offline=True) == files
    assert len([path for path in cache.rglob("*") if path.is_file() and path.stat().st_size == SIZE]) == 1


# Processes


@pytest.fixture
def process(hub, cache, monkeypatch):
    """Start a process that asks for the model, with nothing but the environment to lead it to the hub."""
    started = []
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}
    script = f"from phiplug.models.hub import resolve; print(resolve({MODEL!r}, aliases={{}}).path)"

    def start():
        started.append(subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.wait()
        child.stdout.close()


def wait_until(happened):
    while not happened():
        time.sleep(0.01)  # the suite's time-out is what ends a wait that is in vain


def test_a_process_that_is_killed_in_the_middle_leaves_what_it_had(hub, cache, process):
    half = SIZE // 2
    hub.fault = Fault(stall_at=half)
    child = process()
    wait_until(lambda: any(path.stat().st_size == half for path in cache.rglob("*.incomplete")))
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert models_in(cache) == []
    succeeds(hub, missing=half)


def test_of_two_processes_one_fetches_and_both_get_the_model(hub, cache, process):
    hub.fault = Fault(stall_at=SIZE // 2)
    children = [process(), process()]
    wait_until(lambda: hub.listings == 2 and hub.sent.get("phi-q4.gguf") == SIZE // 2)
    hub.fault.release.set()
    paths = {child.communicate()[0] for child in children}
    assert [child.returncode for child in children] == [0, 0]
    assert len(paths) == 1
    assert Path(paths.pop().decode().strip()).read_bytes() == WEIGHTS
    assert hub.total() == SIZE
