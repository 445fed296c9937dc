"""What a model's headers say, of a GGUF and of a folder."""

from __future__ import annotations

import json
import math

import pytest
from tiny import Shape, byte_tokens, write_llama

from phiplug.errors import ModelCorrupt, ModelNotFound
from phiplug.gguf import read_header
from phiplug.models.metadata import ModelMetadata, read_metadata
from phiplug.spi import ModelFiles

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "U32": 4}


def of_gguf(path):
    return read_metadata(ModelFiles("x", path, "gguf"))


def of_folder(path):
    return read_metadata(ModelFiles("x", path, "folder"))


def write_safetensors(path, tensors):
    """Write tensors of zeros: name -> (type, shape)."""
    entries, end = {"__metadata__": {"format": "mlx"}}, 0
    for name, (kind, shape) in tensors.items():
        start, end = end, end + math.prod(shape) * SIZES[kind]
        entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(end))


@pytest.fixture
def folder(tmp_path):
    """A folder of half precision in two files."""
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"num_key_value_heads": 2, "max_position_embeddings": 512, "torch_dtype": "bfloat16", "rope_theta": 5e5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    write_safetensors(tmp_path / "model-00001-of-00002.safetensors", {"embed.weight": ("BF16", (10, 8))})
    write_safetensors(tmp_path / "model-00002-of-00002.safetensors", {"norm.weight": ("F32", (8,))})
    return tmp_path


def configured(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return of_folder(folder)


def test_a_gguf_says_what_it_is(tmp_path):
    path = write_llama(tmp_path / "tiny.gguf", byte_tokens(), Shape(layers=3, heads=4, kv_heads=2, context=256))
    facts = of_gguf(path)
    assert (facts.architecture, facts.layers, facts.heads, facts.kv_heads) == ("llama", 3, 4, 2)
    assert (facts.context_length, facts.width, facts.rope) == (256, 64, "base 10,000")
    assert (facts.tokenizer, facts.quantization, facts.bits_per_weight) == ("byte-level BPE, gpt-2", "F32", 32.0)
    assert facts.parameters == read_header(path).parameter_count
    assert facts.size == path.stat().st_size


def test_a_real_gguf_says_what_its_makers_say(smollm2):
    facts = of_gguf(smollm2)
    assert (facts.parameters, facts.quantization, facts.licence) == (134_515_008, "Q4_1", "apache-2.0")
    assert facts.bits_per_weight == pytest.approx(5.74, abs=0.01)


def test_a_folder_says_what_it_is(folder):
    facts = of_folder(folder)
    assert (facts.architecture, facts.layers, facts.width, facts.kv_heads) == ("llama", 2, 8, 2)
    assert (facts.parameters, facts.quantization, facts.context_length) == (88, "bfloat16", 512)
    assert facts.bits_per_weight == pytest.approx(8 * (80 * 2 + 8 * 4) / 88)
    assert facts.size == sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert facts.rope == "base 500,000"


def test_packed_weights_count_as_what_they_stand_for(folder):
    packed = {
        "a.weight": ("U32", (16, 8)),  # 16 rows of 64 weights of 4 bits
        "a.scales": ("F16", (16, 1)),
        "a.biases": ("F16", (16, 1)),
        "b.weight": ("U32", (16, 16)),  # 16 rows of 64 weights of 8 bits
        "b.scales": ("F16", (16, 1)),
        "b.biases": ("F16", (16, 1)),
        "norm.weight": ("F16", (64,)),
    }
    for file in folder.glob("*.safetensors"):
        file.unlink()
    write_safetensors(folder / "model.safetensors", packed)
    facts = configured(folder, quantization={"bits": 4, "group_size": 64, "b": {"bits": 8, "group_size": 64}})
    assert facts.parameters == 16 * 64 + 16 * 64 + 64
    assert facts.quantization == "4 bits in groups of 64"


def test_a_stretched_rope_is_said(folder):
    stretched = {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}
    assert configured(folder, rope_theta=None, rope_parameters=stretched).rope == "base 10,000, linear scaling by 4"
    assert configured(folder, rope_theta=1e4, rope_parameters={"rope_type": "default"}).rope == "base 10,000"


def test_what_a_model_with_images_says_of_its_text_counts(folder):
    assert configured(folder, text_config={"num_hidden_layers": 9}).layers == 9


def test_layers_that_differ_count_as_the_largest(folder):
    assert configured(folder, num_key_value_heads=[2, 4, 3]).kv_heads == 4


def test_a_format_of_a_plugin_says_nothing(tmp_path):
    assert read_metadata(ModelFiles("x", tmp_path, "toy")) == ModelMetadata()


DAMAGED = {
    "nothing": b"",
    "a page": b"<!DOCTYPE html><html></html>",
    "a length beyond all measure": b"\xff" * 8,
    "no JSON": (4).to_bytes(8, "little") + b"{{{{",
    "a list": (2).to_bytes(8, "little") + b"[]",
    "no offsets": (22).to_bytes(8, "little") + b'{"a": {"shape": [2]}} ',
    "a shape of digits": (53).to_bytes(8, "little") + b'{"a": {"shape": ["2"], "data_offsets": [0, 8], "d": 0}}  ',
    "a shape of words": (58).to_bytes(8, "little") + b'{"a": {"shape": ["x"], "data_offsets": [0, 0], "dtype": 0}}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_safetensors_file_is_named(folder, content):
    (folder / "model-00002-of-00002.safetensors").write_bytes(content)
    with pytest.raises(ModelCorrupt, match="model-00002-of-00002"):
        of_folder(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000])
def test_a_config_that_is_none_is_named(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelCorrupt, match=r"config\.json"):
        of_folder(folder)


def test_a_config_of_odd_values_is_not_believed(folder):
    odd = {"model_type": 3, "hidden_size": "wide", "num_hidden_layers": True, "rope_theta": "x", "quantization": "q4"}
    facts = configured(folder, **odd)
    assert (facts.architecture, facts.width, facts.layers, facts.rope) == (None, None, None, None)


def test_a_config_with_a_byte_order_mark_is_read(folder):
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + (folder / "config.json").read_bytes())
    assert of_folder(folder).layers == 2


def test_a_folder_without_a_config_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        of_folder(tmp_path)
