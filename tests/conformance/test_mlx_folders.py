"""Folders as Hugging Face and MLX publish them: what they hold is computed, what is wrong with them is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_folders import CONFIGS, VOCAB, config_of, edit, load, module_of, published, row

from phiplug.errors import ModelCorrupt, ModelError, ModelNotFound, ModelUnsupported
from phiplug.spi import Step

pytestmark = pytest.mark.usefixtures("mlx")


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_folder_computes_what_mlx_lm_computes(kind: str, tmp_path: Path) -> None:
    import mlx.core as mx

    model = load(published(tmp_path / "model", kind))
    mx.random.seed(7)  # the same random weights again
    theirs = module_of(config_of(kind))
    tokens = list(range(0, 60, 3))[:8]  # within every window
    wanted = np.array(theirs(mx.array([tokens]))[0, -1].astype(mx.float32))
    np.testing.assert_allclose(row(model, tokens), wanted, atol=2e-4)
    assert model.info.vocab_size == VOCAB
    assert model.info.context_length == 128


@pytest.mark.parametrize("kind", CONFIGS)
def test_sequences_of_a_folder_decode_together(kind: str, tmp_path: Path) -> None:
    model = load(published(tmp_path / "model", kind), slots=3)
    held = {0: [1, 2, 3], 1: list(range(20))}
    for slot, tokens in held.items():
        row(model, tokens, slot)
    rows = model.forward([Step(0, [5]), Step(1, [6])]).logits().copy()
    np.testing.assert_allclose(rows[0], row(model, [*held[0], 5], 2), atol=2e-4)
    model.rewind(2, 0)
    np.testing.assert_allclose(rows[1], row(model, [*held[1], 6], 2), atol=2e-4)


def test_shards_are_one_model(tmp_path: Path) -> None:
    whole, parts = published(tmp_path / "whole", "llama"), published(tmp_path / "parts", "llama", shards=3)
    np.testing.assert_array_equal(row(load(parts), [1, 2, 3]), row(load(whole), [1, 2, 3]))


def test_a_quantized_folder_keeps_its_packing_and_says_so(tmp_path: Path) -> None:
    model = load(published(tmp_path / "model", "llama", bits=4))
    assert model.info.quantization == "affine 4-bit g32, float32 scales"
    assert "1 packed -> affine 8-bit g64, float32 scales" in model.info.metadata["weights"]
    plain = load(published(tmp_path / "plain", "llama"))
    assert 0 < np.abs(row(model, [1, 2]) - row(plain, [1, 2])).max() < np.ptp(row(plain, [1, 2]))


def test_phi3_in_a_folder_rotates_by_the_room_of_a_sequence(tmp_path: Path) -> None:
    folder = published(tmp_path / "model", "phi3")
    short, long = (row(load(folder, ctx_size=room), list(range(20))) for room in (32, 33))
    assert np.abs(short - long).max() > 1e-3


def test_code_that_a_folder_brings_is_never_run(tmp_path: Path) -> None:
    folder = published(tmp_path / "model", "llama")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    edit(folder, lambda config: config.update(auto_map={"AutoModelForCausalLM": "evil.Model"}))
    assert row(load(folder), [1]).shape == (VOCAB,)  # what mlx-lm knows needs no such code
    edit(folder, lambda config: config.update(model_file="evil.py"))
    with pytest.raises(ModelUnsupported, match="code of its own"):
        load(folder)
    edit(folder, lambda config: (config.pop("model_file"), config.update(model_type="evil")))
    with pytest.raises(ModelUnsupported, match="no model class for 'evil'"):
        load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/hosts", "a/b.safetensors", "..", "x.bin", "a\\b.safetensors"]
)
def test_shards_outside_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    folder = published(tmp_path / "model", "llama", shards=2)
    edit(folder, lambda index: index["weight_map"].update({"lm_head.weight": name}), "model.safetensors.index.json")
    with pytest.raises(ModelCorrupt, match=r"no \.safetensors file of this folder"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"num_hidden_layers": 3}, ModelCorrupt, r"lacks model\.layers\.2"),
        ({"num_hidden_layers": 1}, ModelUnsupported, r"has model\.layers\.1"),
        ({"num_hidden_layers": 10**9}, ModelCorrupt, "num_hidden_layers is 1000000000"),
        ({"num_hidden_layers": True}, ModelCorrupt, "num_hidden_layers is True"),
        ({"hidden_size": 128}, ModelCorrupt, r"is \[\d+, 64\]"),
        ({"hidden_size": "64"}, ModelCorrupt, "hidden_size is '64'"),
        ({"vocab_size": 66}, ModelCorrupt, r"is \[67, 64\]"),
        ({"num_attention_heads": 0}, ModelCorrupt, "num_attention_heads is 0"),
        ({"intermediate_size": -1}, ModelCorrupt, "intermediate_size is -1"),
        ({"rms_norm_eps": None}, ModelCorrupt, "does not describe a model"),
        ({"rope_scaling": {"type": "warped"}}, ModelCorrupt, "Unsupported RoPE type warped"),
        ({"rope_scaling": 5}, ModelCorrupt, "rope_scaling is 5"),
        ({"rope_theta": 0}, ModelCorrupt, "rope_theta is 0"),
        ({"rope_scaling": {"type": "linear", "factor": 0.0}}, ModelCorrupt, r"rope_scaling\.factor is 0\.0"),
        ({"model_type": None}, ModelCorrupt, "names no model_type"),
        ({"model_type": "../llama"}, ModelUnsupported, "no model class"),
        ({"model_type": "cache"}, ModelCorrupt, "does not describe a model"),
        ({"model_type": "mamba"}, ModelCorrupt, "does not describe a model"),
        ({"quantization": {"group_size": 32, "bits": 4}}, None, ""),  # says so, but no weight has scales
        ({"quantization_config": {"quant_method": "gptq"}}, ModelUnsupported, "quantized by 'gptq'"),
    ],
)
def test_a_config_that_lies_is_caught(
    change: dict[str, Any], error: type[ModelError] | None, reason: str, tmp_path: Path
) -> None:
    folder = published(tmp_path / "model", "llama")
    edit(folder, lambda config: config.update(change))
    if error is None:
        assert load(folder).info.quantization == "float32"
        return
    with pytest.raises(error, match=reason):
        load(folder)


@pytest.mark.parametrize("packing", [{"group_size": 64, "bits": 4}, {"group_size": 32, "bits": 7}, {"bits": 4}, "4bit"])
def test_a_packing_that_the_weights_do_not_have_is_caught(packing: Any, tmp_path: Path) -> None:
    folder = published(tmp_path / "model", "llama", bits=4)
    edit(folder, lambda config: config.update(quantization=packing))
    with pytest.raises(ModelError):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '"llama"', "\ufeff{}", '{"a": NaN'])
def test_a_config_that_is_no_object_is_corrupt(text: str, tmp_path: Path) -> None:
    folder = published(tmp_path / "model", "llama")
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelCorrupt):
        load(folder)


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = published(tmp_path / "model", "llama", shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="model-00002-of-00002"):
        load(folder)
    for path in folder.glob("model*"):
        path.unlink()
    with pytest.raises(ModelNotFound, match=r"no \.safetensors file"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"config\.json cannot be read"):
        load(folder)


def test_a_shard_cut_anywhere_is_an_error_and_never_a_crash(tmp_path: Path) -> None:
    folder = published(tmp_path / "model", "llama")
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for keep in np.linspace(0, len(whole) - 1, 25).astype(int):
        path.write_bytes(whole[:keep])
        with pytest.raises(ModelCorrupt):
            load(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [67, 64], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1, -4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 2**82]},
        {"dtype": "F32", "shape": "many", "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1]},
        {"dtype": "F31", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        [],
    ],
)
def test_a_shard_whose_header_lies_is_caught(entry: Any, tmp_path: Path) -> None:
    folder = published(tmp_path / "model", "llama")
    header = json.dumps({"lm_head.weight": entry}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 64)
    with pytest.raises(ModelError):
        load(folder)
