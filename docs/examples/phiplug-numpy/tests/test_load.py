"""What a GGUF must hold, and what is said of one that does not; the two families are one model, stored in two ways."""

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import phiplug_numpy
import pytest
from small_models import TOKENS, SmallModel

from phiplug.errors import BackendFailed, ModelCorrupt, ModelUnsupported, OutOfMemory, UnsupportedParameter
from phiplug.spi import LoadOptions, Model, ModelFiles, Step

PROMPT = [1, 70, 101, 258, 5, 33, 9]
SHORT, LONG = (1.0,) * 8, tuple(np.linspace(1.1, 9.0, 8))


def load(small: SmallModel, folder: Path, **options: object) -> Model:
    path = small.write(folder / f"{small.family}.gguf")
    return phiplug_numpy.load(ModelFiles("small", path, "gguf"), LoadOptions(**options))


def logits(small: SmallModel, folder: Path, **options: object) -> np.ndarray:
    return load(small, folder, **options).forward([Step(0, PROMPT, len(PROMPT))]).logits()


@pytest.mark.parametrize("rotated", [16, 12])
def test_both_families_store_the_same_model(rotated: int, tmp_path: Path) -> None:
    llama, phi = (logits(SmallModel(family, rotated=rotated), tmp_path) for family in ("llama", "phi3"))
    assert llama.std() > 0.1
    np.testing.assert_allclose(llama, phi, atol=1e-5)


def test_what_is_loaded_is_said(tmp_path: Path) -> None:
    info = load(SmallModel(quantized=gguf.GGMLQuantizationType.Q8_0), tmp_path, ctx_size=100, slots=2).info
    assert (info.vocab_size, info.context_length, info.slots, info.device) == (len(TOKENS), 100, 2, "cpu")
    assert info.quantization == "F32, from Q8_0"
    assert info.version == np.__version__


def test_an_output_matrix_of_its_own_is_used(tmp_path: Path) -> None:
    untied = SmallModel(tied=False)
    same = replace(untied, change=lambda tensors: tensors | {"output.weight": tensors["token_embd.weight"]})
    tied = logits(SmallModel(), tmp_path)
    assert not np.allclose(logits(untied, tmp_path), tied, atol=0.1)
    np.testing.assert_allclose(logits(same, tmp_path), tied, atol=1e-6)


def test_phi_3_takes_its_short_factors_up_to_the_original_context_and_its_long_ones_beyond(tmp_path: Path) -> None:
    phi = SmallModel("phi3", short=SHORT, long=LONG, metadata={"rope.scaling.original_context_length": 128})
    plain, slowed = SmallModel("phi3"), SmallModel("llama", freqs=LONG)
    np.testing.assert_array_equal(logits(phi, tmp_path, ctx_size=128), logits(plain, tmp_path))
    np.testing.assert_allclose(logits(phi, tmp_path, ctx_size=129), logits(slowed, tmp_path), atol=1e-5)
    np.testing.assert_array_equal(logits(phi, tmp_path), logits(phi, tmp_path, ctx_size=129))
    assert not np.allclose(logits(plain, tmp_path), logits(slowed, tmp_path), atol=1e-2)


@pytest.mark.parametrize("key", ["rope.scaling.factor", "rope.scale_linear"])
def test_a_linear_scale_is_as_a_factor_for_every_pair(key: str, tmp_path: Path) -> None:
    scaled = logits(SmallModel(metadata={key: 4.0}), tmp_path)
    np.testing.assert_allclose(scaled, logits(SmallModel(freqs=(4.0,) * 8), tmp_path), atol=1e-5)
    switched_off = SmallModel(metadata={"rope.scaling.type": "none", key: 4.0})
    np.testing.assert_array_equal(logits(switched_off, tmp_path), logits(SmallModel(), tmp_path))


@pytest.mark.parametrize("key", ["rope.scaling.factor", "rope.scale_linear"])
def test_a_linear_scale_of_0_is_none(key: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(logits(SmallModel(metadata={key: 0.0}), tmp_path), logits(SmallModel(), tmp_path))


def test_the_magnitude_of_rotated_numbers_is_used(tmp_path: Path) -> None:
    louder = SmallModel("phi3", metadata={"rope.scaling.attn_factor": 1.19})
    assert not np.allclose(logits(louder, tmp_path), logits(SmallModel("phi3"), tmp_path), atol=1e-2)


UNSUPPORTED = {
    "'qwen2' model": SmallModel("qwen2"),
    r"llama\.expert_count": SmallModel(metadata={"expert_count": 8}),
    r"phi3\.logit_scale": SmallModel("phi3", metadata={"logit_scale": 0.5}),
    "'yarn'": SmallModel(metadata={"rope.scaling.type": "yarn"}),
    "the layers differ in attention.head_count": SmallModel(metadata={"attention.head_count": [4, 2]}),
    r"blk\.0\.attn_q\.bias": SmallModel(change=lambda t: t | {"blk.0.attn_q.bias": np.zeros(64, np.float32)}),
    r"blk\.2\.attn_q\.weight and 8 more tensors": SmallModel(layers=3, metadata={"block_count": 2}),
}


@pytest.mark.parametrize("said", UNSUPPORTED)
def test_what_is_not_computed_here_is_named(said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match=said) as raised:
        load(UNSUPPORTED[said], tmp_path)
    assert "llama-cpp" in (raised.value.hint or "")


def without(name: str) -> SmallModel:
    return SmallModel(change=lambda tensors: {key: array for key, array in tensors.items() if key != name})


CORRUPT = {
    r"lacks blk\.1\.ffn_down\.weight": without("blk.1.ffn_down.weight"),
    r"lacks token_embd\.weight": without("token_embd.weight"),
    r"lacks output_norm\.weight": without("output_norm.weight"),
    r"lacks rope_factors_short\.weight": SmallModel("phi3", long=LONG),
    r"blk\.0\.attn_k\.weight is \(32, 64\)": SmallModel(metadata={"attention.head_count_kv": 4}),
    "a number that is not positive": SmallModel(freqs=(1.0,) * 7 + (0.0,)),
    "4 heads of 16 numbers in 3 groups": SmallModel(metadata={"attention.head_count_kv": 3}),
    "15 of the 16 numbers of a head are rotated": SmallModel(metadata={"rope.dimension_count": 15}),
    r"llama\.attention\.head_count is 0": SmallModel(metadata={"attention.head_count": 0}),
    r"llama\.feed_forward_length is None": SmallModel(metadata={"feed_forward_length": None}),
    r"llama\.attention\.layer_norm_rms_epsilon is None": SmallModel(
        metadata={"attention.layer_norm_rms_epsilon": None}
    ),
    r"llama\.rope\.scaling\.factor is -2\.0": SmallModel(metadata={"rope.scaling.factor": -2.0}),
}


@pytest.mark.parametrize("said", CORRUPT)
def test_what_is_damaged_is_named(said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelCorrupt, match=said):
        load(CORRUPT[said], tmp_path)


@pytest.mark.parametrize(("name", "value"), [("threads", 2), ("gpu_layers", -1), ("device", "cuda"), ("ctx_size", 513)])
def test_an_option_that_cannot_be_honoured_is_named(name: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedParameter) as raised:
        load(SmallModel(), tmp_path, **{name: value})
    assert raised.value.name == name


def test_a_pass_that_finds_no_memory_leaves_the_slot_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(SmallModel(), tmp_path)
    model.forward([Step(0, PROMPT)]).logits()

    def no_memory(*_: object) -> np.ndarray:
        raise MemoryError("Unable to allocate 9 GiB")

    with monkeypatch.context() as patched:
        patched.setattr("phiplug_numpy.transformer.silu", no_memory)
        asked = model.forward([Step(0, PROMPT)])
        with pytest.raises(OutOfMemory, match="9 GiB"):
            asked.logits()
    with pytest.raises(BackendFailed, match="failed before"):
        asked.logits()
    assert model.rewind(0, 100) == len(PROMPT)


def test_a_slot_and_its_copy_go_on_apart(tmp_path: Path) -> None:
    model = load(SmallModel(), tmp_path, slots=2)
    model.forward([Step(0, PROMPT)]).logits()
    assert model.copy(0, 1, 4) == 4
    assert model.copy(0, 0, 5) == 5
    first, second = model.forward([Step(0, [7]), Step(1, [7])]).logits()
    assert not np.array_equal(first, second)
    assert (model.rewind(0, 100), model.rewind(1, 100)) == (6, 5)
