"""What is on this machine is listed by references that lead to it, and removed without harm to the rest."""

import hashlib
import os

import pytest
from huggingface_hub import constants

from phiplug.errors import InvalidParameter, ModelError, ModelNotFound
from phiplug.models.hub import resolve
from phiplug.models.local import StoredModel, in_cache, in_packages, remove

NEW, OLD = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put(cache, repo, files, *, commit=NEW, revision="main"):
    """Lay files into the cache as huggingface_hub does."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    for name, content in files.items():
        blob, link = folder / "blobs" / hashlib.sha256(content).hexdigest(), folder / "snapshots" / commit / name
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(os.path.relpath(blob, link.parent))
    if revision:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / revision).write_text(commit)
    return folder


def references():
    return [model.reference for model in in_cache()]


def test_a_cache_that_is_not_there_holds_nothing():
    assert in_cache() == []


def test_each_gguf_is_a_model_of_its_own(cache):
    folder = put(cache, "a/phi", {"phi-q4.gguf": b"GGUF4", "q8/phi-q8.gguf": b"GGUF88", "README.md": b""})
    snapshot = folder / "snapshots" / NEW
    assert in_cache() == [
        StoredModel("hf:a/phi/phi-q4.gguf", snapshot / "phi-q4.gguf", "gguf", 5, "cache"),
        StoredModel("hf:a/phi/q8/phi-q8.gguf", snapshot / "q8" / "phi-q8.gguf", "gguf", 6, "cache"),
    ]


def test_a_split_is_one_model_as_large_as_its_parts(cache):
    put(cache, "a/phi", {"phi-00001-of-00002.gguf": b"GGUF1", "phi-00002-of-00002.gguf": b"22"})
    (model,) = in_cache()
    assert (model.reference, model.size) == ("hf:a/phi/phi-00001-of-00002.gguf", 7)


def test_a_split_that_is_not_whole_is_no_model(cache):
    put(cache, "a/phi", {"phi-00001-of-00002.gguf": b"GGUF1"})
    assert in_cache() == []


def test_a_folder_is_listed_by_its_repository(cache):
    put(cache, "a/phi", {"config.json": b"{}", "model.safetensors": b"123", "README.md": b"read me"})
    (model,) = in_cache()
    assert (model.reference, model.format, model.size) == ("hf:a/phi", "folder", 5)


def test_what_other_programs_fetched_of_a_repository_is_no_model(cache):
    put(cache, "a/phi", {"config.json": b"{}", "tokenizer.json": b"{}"})
    put(cache, "gpt2", {"config.json": b"{}", "model.safetensors": b"123"})
    assert in_cache() == []


def test_a_revision_is_part_of_the_reference(cache):
    put(cache, "a/phi", {"phi.gguf": b"GGUF"})
    put(cache, "a/phi", {"phi.gguf": b"GGUF-old"}, commit=OLD, revision="v1")
    assert references() == ["hf:a/phi/phi.gguf", "hf:a/phi/phi.gguf@v1"]


def test_a_commit_that_no_name_leads_to_is_the_reference(cache):
    put(cache, "a/phi", {"phi.gguf": b"GGUF"}, revision=None)
    assert references() == [f"hf:a/phi/phi.gguf@{NEW}"]


def test_every_reference_that_is_listed_leads_to_its_model(cache):
    put(cache, "a/phi", {"phi-q4.gguf": b"GGUF4", "q8/phi-q8.gguf": b"GGUF88"})
    put(cache, "a/phi", {"phi-q4.gguf": b"GGUF-old"}, commit=OLD, revision=None)
    put(cache, "b/mlx", {"config.json": b"{}", "model.safetensors": b"123"}, revision="v2")
    models = in_cache()
    assert len(models) == 4
    for model in models:
        assert resolve(model.reference, aliases={}, offline=True).path == model.path


def test_an_installed_package_lists_its_weights(tmp_path, monkeypatch):
    site = tmp_path / "site"
    (site / "phiplug_weights").mkdir(parents=True)
    (site / "phiplug_weights" / "phi.gguf").write_bytes(b"GGUF")
    (site / "phiplug_weights-1.dist-info").mkdir()
    (site / "phiplug_weights-1.dist-info" / "METADATA").write_text("Name: phiplug-weights\nVersion: 1\n")
    (site / "phiplug_weights-1.dist-info" / "RECORD").write_text(
        "phiplug_weights/phi.gguf,,\nphiplug_weights/gone.gguf,,\nphiplug-weights/x.gguf,,\nloose.gguf,,\n"
    )
    monkeypatch.setattr("sys.path", [str(site)])
    path = site / "phiplug_weights" / "phi.gguf"
    assert in_packages() == [StoredModel("package:phiplug_weights/phi.gguf", path, "gguf", 4, "package")]


def test_the_last_model_takes_its_repository_with_it(cache):
    folder = put(cache, "a/phi", {"phi-q4.gguf": b"GGUF4"})
    assert remove("hf:a/phi:q4", aliases={}) == 5
    assert not folder.exists()


def test_another_model_of_the_repository_stays(cache):
    put(cache, "a/phi", {"phi-q4.gguf": b"GGUF4", "phi-q8.gguf": b"GGUF88"})
    assert remove("hf:a/phi:q4", aliases={}) == 5
    assert references() == ["hf:a/phi/phi-q8.gguf"]
    assert resolve("hf:a/phi:q8", aliases={}, offline=True).path.read_bytes() == b"GGUF88"


def test_a_blob_that_another_revision_uses_stays(cache):
    put(cache, "a/phi", {"phi.gguf": b"GGUF"})
    put(cache, "a/phi", {"phi.gguf": b"GGUF"}, commit=OLD, revision="v1")
    assert remove("hf:a/phi@v1", aliases={}) == 0
    assert resolve("hf:a/phi/phi.gguf", aliases={}, offline=True).path.read_bytes() == b"GGUF"


def test_every_part_of_a_split_goes(cache):
    parts = {"q/phi-00001-of-00002.gguf": b"GGUF1", "q/phi-00002-of-00002.gguf": b"22"}
    put(cache, "a/phi", parts | {"other.gguf": b"GGUF"})
    assert remove("hf:a/phi/q/phi-00001-of-00002.gguf", aliases={}) == 7
    assert references() == ["hf:a/phi/other.gguf"]


def test_a_folder_goes_as_a_whole(cache):
    folder = put(cache, "a/phi", {"config.json": b"{}", "model.safetensors": b"123"})
    remove("hf:a/phi", aliases={})
    assert not folder.exists()


def test_the_bytes_of_an_unfinished_download_stay(cache):
    folder = put(cache, "a/phi", {"phi-q4.gguf": b"GGUF4", "phi-q8.gguf": b"GGUF88"})
    (folder / "blobs" / "c.incomplete").write_bytes(b"half")
    remove("hf:a/phi:q4", aliases={})
    assert (folder / "blobs" / "c.incomplete").exists()


def test_a_name_removes_what_it_stands_for_in_the_cache(cache):
    put(cache, "a/phi", {"phi-q4.gguf": b"GGUF4"})
    remove("phi", aliases={"phi": ["package:phiplug_weights/phi.gguf", "hf:a/other", "hf:a/phi:q4"]})
    assert in_cache() == []


def test_what_is_not_in_the_cache_cannot_be_removed():
    with pytest.raises(ModelNotFound, match=r"hf:a/phi is not in the cache \(`phiplug models list` shows"):
        remove("hf:a/phi", aliases={})


@pytest.mark.parametrize("reference", ["./phi.gguf", "package:phiplug_weights/phi.gguf", "phi", "unknown"])
def test_only_the_cache_is_cleared(reference):
    with pytest.raises(InvalidParameter, match="does not name a model in the hub's cache"):
        remove(reference, aliases={"phi": ["package:phiplug_weights/phi.gguf"]})


def test_a_file_that_cannot_be_removed_says_why(cache, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    put(cache, "a/phi", {"phi-q4.gguf": b"GGUF4"})
    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(ModelError, match=r"phi-q4.gguf cannot be removed \(check its permissions"):
        remove("hf:a/phi:q4", aliases={})


def test_a_repository_that_is_damaged_is_named_and_nothing_of_it_is_removed(cache):
    folder = put(cache, "a/phi", {"phi-q4.gguf": b"GGUF4", "README.md": b"read me"})
    (folder / "blobs" / hashlib.sha256(b"read me").hexdigest()).unlink()
    with pytest.raises(ModelError, match=r"models--a--phi is damaged: Blob missing .*\(remove this folder by hand"):
        remove("hf:a/phi:q4", aliases={})
    assert references() == ["hf:a/phi/phi-q4.gguf"]


def test_a_bare_reference_is_not_what_happens_to_be_cached(cache):
    put(cache, "a/phi", {"phi-q4.gguf": b"GGUF4"})
    with pytest.raises(ModelNotFound, match=r"not the list of what else .*\(name the file: hf:a/phi/phi-q4.gguf"):
        resolve("hf:a/phi", aliases={}, offline=True)


def test_shards_that_are_not_all_cached_are_no_model(cache):
    put(cache, "a/phi", {"config.json": b"{}", "model-00001-of-00002.safetensors": b"1"})
    assert in_cache() == []
    with pytest.raises(ModelNotFound, match="is not in the cache"):
        resolve("hf:a/phi", aliases={}, offline=True)
