"""Headers that llama.cpp would not survive are refused by name, and those of real models are not."""

from pathlib import Path

import pytest

from phiplug.errors import ModelCorrupt, ModelUnsupported
from phiplug.gguf import Header, TensorInfo
from phiplug_llama_cpp.hyperparameters import check_hyperparameters
from phiplug_llama_cpp.memory import cache_bytes

LLAMA = {
    "block_count": 3, "embedding_length": 96, "attention.head_count": 6, "attention.head_count_kv": 2,
    "attention.key_length": 16, "attention.value_length": 16, "rope.dimension_count": 16,
}  # fmt: skip


def header(architecture="llama", tensors=None, **changed):
    keys = LLAMA | {name.replace("__", "."): value for name, value in changed.items()}
    metadata = {f"{architecture}.{name}": value for name, value in keys.items() if value is not None}
    shapes = tensors or {}
    table = {name: TensorInfo(name, shape, "F32", Path("m.gguf"), 0, 0) for name, shape in shapes.items()}
    return Header(Path("m.gguf"), 3, {"general.architecture": architecture, **metadata}, table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expert_used_count": 2}, "2 of 0 experts are used"),
        ({"expert_used_count": (0, 2, 0)}, "2 of 0 experts are used"),
        ({"expert_count": 4}, "0 of 4 experts are used"),
        ({"expert_count": 1025, "expert_used_count": 2}, "expert_count is 1025"),
        ({"expert_group_count": 1}, "0 experts are in 1 groups"),
        ({"nextn_predict_layers": 4}, "nextn_predict_layers is 4, of 3 layers"),
        ({"attention__head_count": 5}, "5 heads of attention share 2 heads of keys"),
        ({"attention__head_count_kv": (2, 4, 2)}, "6 heads of attention share 4 heads of keys"),
        ({"attention__key_length": 32}, "a head has 32 numbers of keys and 16 of values"),
        ({"rope__dimension_count": 8}, "8 of the 16 numbers of a head are rotated, and llama rotates all"),
        ({"rope__dimension_count": 15}, "15 of the 16 numbers of a head are rotated"),
        ({"architecture": "gemma3", "rope__dimension_count": 0}, "0 of the 16 numbers of a head are rotated"),
        ({"architecture": "gemma3", "rope__dimension_count": 18}, "18 of the 16 numbers of a head are rotated"),
        ({"architecture": "gemma3", "attention__sliding_window_pattern": 1}, "no layer has a window"),
    ],
)
def test_what_llama_cpp_would_assert_is_damage_with_a_name(change, message):
    with pytest.raises(ModelCorrupt, match=message):
        check_hyperparameters(header(**change))


def test_an_unknown_scaling_of_positions_is_unsupported():
    with pytest.raises(ModelUnsupported, match=r"rope\.scaling.type is 'dynamic'"):
        check_hyperparameters(header(rope__scaling__type="dynamic"))


@pytest.mark.parametrize("heads", [6, 5])
def test_the_fused_matrix_of_phi_3_must_have_the_heads_that_the_header_names(heads):
    tensors = {"blk.0.attn_qkv.weight": (160, 96), "blk.0.attn_output.weight": (96, 96)}
    shape = header("phi3", tensors, attention__head_count=heads, attention__head_count_kv=2 if heads == 6 else 5)
    if heads == 6:
        check_hyperparameters(shape)
    else:
        with pytest.raises(ModelCorrupt, match=r"attention\.head_count is 5"):
            check_hyperparameters(shape)


@pytest.mark.parametrize(
    "sound",
    [
        {},
        {"expert_count": 8, "expert_used_count": 2},
        {"architecture": "phi3", "rope__dimension_count": 12},
        {"architecture": "mamba", "attention__head_count": None, "rope__dimension_count": None},
        {"attention__head_count_kv": None},
        {"attention__key_length": None, "attention__value_length": None, "rope__dimension_count": None},
        {"rope__scaling__type": "longrope"},
    ],
)
def test_sound_headers_pass(sound):
    check_hyperparameters(header(**sound))


def test_a_cache_is_as_large_as_its_heads_say():
    qwen3 = header("qwen3", block_count=28, embedding_length=1024, attention__head_count=16,
                   attention__head_count_kv=8, attention__key_length=128, attention__value_length=128)  # fmt: skip
    assert cache_bytes(qwen3, 1000) == 2 * 1000 * 28 * 8 * (128 + 128)
    assert cache_bytes(qwen3, 1000, on_gpu=28) == 0
    assert cache_bytes(qwen3, 1000, on_gpu=21) == cache_bytes(qwen3, 1000) // 4
