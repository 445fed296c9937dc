"""One GGUF file on both engines: MLX computes from it what llama.cpp does; and a bad one is an error that says why."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from tiny_architectures import CONTEXT, TINY, VOCAB, blocks, write

from phiplug.errors import ModelCorrupt, ModelError, ModelNotFound, ModelUnsupported, OutOfMemory, PhiplugError
from phiplug.gguf.quantization import BLOCK_OF
from phiplug.spi import LoadOptions, Model, ModelFiles, Step

pytestmark = pytest.mark.usefixtures("mlx", "llama_cpp")

TOLERANCE = 1e-3  # of a row's range; Gemma's comes from llama.cpp's float16 table of GELU, the others reach 1e-5


def load(path: Path, **options: object) -> Model:
    import phiplug_mlx

    return phiplug_mlx.load(ModelFiles(path.name, path, "gguf"), LoadOptions(**options))


def feed(model: Model, tokens: list[int], slot: int = 0) -> np.ndarray:
    return model.forward([Step(slot, tokens, len(tokens))]).logits().copy()


def gap(left: np.ndarray, right: np.ndarray) -> float:
    """The largest difference, relative to the range of its row."""
    return float((np.abs(left - right).max(axis=1) / np.ptp(right, axis=1)).max())


@pytest.fixture(params=TINY)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Model, object]]:
    """The same tiny model on MLX and on llama.cpp."""
    from reference_llama import ReferenceLlama

    path = write(tmp_path / "model.gguf", TINY[request.param])
    model, reference = load(path, ctx_size=CONTEXT, slots=2), ReferenceLlama(path, CONTEXT)
    yield model, reference
    model.close()
    reference.close()


def test_both_engines_compute_the_same_from_one_file(both: tuple[Model, object]) -> None:
    model, reference = both
    ids = np.random.default_rng(1).integers(VOCAB, size=64).tolist()
    whole = feed(model, ids[:40])
    assert gap(whole, reference.feed(ids[:40])) < TOLERANCE
    for token in ids[40:48]:
        assert gap(feed(model, [token]), reference.feed([token])) < TOLERANCE

    model.rewind(0, 0)
    reference.rewind(0)
    pieces = [feed(model, piece) for piece in (ids[:17], ids[17:39], ids[39:40])]
    assert gap(np.concatenate(pieces), whole) < TOLERANCE
    assert gap(pieces[0], reference.feed(ids[:17])) < TOLERANCE

    kept = model.rewind(0, 25)
    reference.rewind(min(kept, 17))
    replayed = feed(model, ids[kept:64])
    assert gap(replayed[-1:], reference.feed(ids[min(kept, 17) : 64])[-1:]) < TOLERANCE


@pytest.mark.parametrize("name", TINY)
def test_a_batch_computes_what_each_of_its_sequences_does(name: str, tmp_path: Path) -> None:
    model = load(write(tmp_path / "model.gguf", TINY[name]), ctx_size=CONTEXT, slots=3)
    rng = np.random.default_rng(2)
    ids = [rng.integers(VOCAB, size=length).tolist() for length in (5, 31)]
    for slot in (0, 1):
        feed(model, ids[slot][:-2], slot)
    for back in (2, 1):
        rows = model.forward([Step(slot, [ids[slot][-back]]) for slot in (0, 1)]).logits().copy()
    for slot in (0, 1):
        model.rewind(2, 0)
        assert gap(rows[slot : slot + 1], feed(model, ids[slot], 2)[-1:]) < 1e-4


def test_phi3_rotates_by_the_room_of_a_sequence(tmp_path: Path) -> None:
    """Short factors while a slot has no more room than the model's original context, and long ones beyond."""
    path = write(tmp_path / "model.gguf", TINY["phi3-long"])  # its original context is 256
    ids = list(range(40))
    rows = {room: feed(load(path, ctx_size=room), ids) for room in (128, 256, 257, 512)}
    np.testing.assert_array_equal(rows[128], rows[256])
    np.testing.assert_array_equal(rows[257], rows[512])
    assert gap(rows[256], rows[512]) > TOLERANCE


@pytest.mark.parametrize("name", ["llama", "phi3", "gemma3"])
def test_a_quantized_file_computes_with_the_numbers_it_stands_for(name: str, tmp_path: Path) -> None:
    """All types in one file: the logits are those of the same file dequantized beforehand."""
    tiny = replace(TINY[name], hidden=256, heads=8, head_dim=32, kv_heads=8, feed_forward=512, layers=6)
    kinds = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16"]
    packed, plain = blocks(tiny, kinds, seed=3)
    model = load(write(tmp_path / "packed.gguf", tiny, replaced=packed))
    reference = load(write(tmp_path / "plain.gguf", tiny, replaced=plain))
    ids = list(range(0, 80, 2))
    assert gap(feed(model, ids), feed(reference, ids)) < 1e-4
    weights = model.info.metadata["weights"]
    for text in (
        "Q4_K -> affine 4-bit g32, float32 scales",
        "Q5_1 -> affine 5-bit",
        "Q6_K -> float32",
        "BF16 -> float32",
    ):
        assert text in weights
    assert reference.info.quantization == "float32"


def test_a_gpu_would_hold_float16_or_what_the_file_has(tmp_path: Path) -> None:
    import mlx.core as mx

    from phiplug_mlx.devices import Precision, precision_for

    half, whole = Precision(mx.float16, mx.float16), Precision(mx.float32, mx.float32)
    bfloat = Precision(mx.bfloat16, mx.bfloat16)
    assert precision_for("metal", {"float16", "float32"}, packed=True, exact_scales=False) == half
    assert precision_for("metal", {"float16"}, packed=True, exact_scales=True) == whole
    assert precision_for("cuda", {"bfloat16", "float32"}, packed=False, exact_scales=False) == bfloat
    assert precision_for("cuda", {"float32"}, packed=False, exact_scales=False) == whole
    assert precision_for("cpu", {"float16"}, packed=True, exact_scales=False) == whole


def test_what_a_gpu_would_hold_gives_nearly_the_same_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from phiplug_mlx import gguf_model

    tiny = replace(TINY["qwen2"], hidden=128, heads=8, feed_forward=256)
    packed, _ = blocks(tiny, ["Q4_0", "Q5_1", "Q8_0"], seed=4)
    path = write(tmp_path / "model.gguf", tiny, replaced=packed)
    exact = feed(load(path), list(range(20)))
    on_cpu = gguf_model.precision_for
    monkeypatch.setattr(gguf_model, "precision_for", lambda device, *given, **named: on_cpu("metal", *given, **named))
    model = load(path)
    assert model.info.metadata["compute"] == model.info.logits_precision == "float16"
    assert "Q4_0 -> affine 4-bit g32, float16 scales" in model.info.metadata["weights"]
    assert gap(feed(model, list(range(20))), exact) < 0.03
    exactly = load(path, exact_scales=True)
    assert "float32 scales" in exactly.info.metadata["weights"]
    assert gap(feed(exactly, list(range(20))), exact) < 1e-6


def test_smollm2_loads_whole_and_knows_the_capital_of_france(smollm2: Path) -> None:
    model = load(smollm2, ctx_size=256)
    assert model.info.metadata["weights"] == (
        "210 Q4_1 -> affine 4-bit g32, float32 scales; 61 F32 -> float32; 1 Q8_0 -> affine 8-bit g32, float32 scales"
    )
    row = model.forward([Step(0, [504, 3575, 282, 4649, 314])]).logits()[0]  # "The capital of France is"
    assert int(row.argmax()) == 7042  # " Paris"
    assert (row.shape, row.dtype, row.flags.writeable) == ((49152,), np.float32, False)


# What is not as it should be.


def test_an_architecture_that_is_not_in_the_table_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", replace(TINY["llama"], architecture="mamba"))
    with pytest.raises(ModelUnsupported, match="is a 'mamba' model; the MLX backend reads llama, phi3"):
        load(path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", TINY["llama"], replaced={"blk.1.ffn_up.weight": None})
    with pytest.raises(ModelCorrupt, match=r"model\.gguf lacks blk\.1\.ffn_up\.weight"):
        load(path)


@pytest.mark.parametrize(
    "name",
    ["blk.0.ffn_gate_exps.weight", "blk.3.attn_q.weight", "output.bias", "some.thing", "blk.0.self_attn.q_proj.weight"],
)
def test_a_tensor_that_is_left_over_is_named(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", TINY["llama"], replaced={name: np.zeros((4, 32))})
    with pytest.raises(ModelUnsupported, match=name.replace(".", r"\.")):
        load(path)


@pytest.mark.parametrize("name", ["blk.2.attn_k.weight", "token_embd.weight", "blk.0.attn_norm.weight"])
def test_a_tensor_of_the_wrong_shape_is_named(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", TINY["llama-untied"], replaced={name: np.zeros((34, 64))})
    with pytest.raises(ModelCorrupt, match=rf"{name} is \[34, 64\]|output\.weight is"):
        load(path)


def test_a_type_that_cannot_be_turned_into_an_array_is_named(tmp_path: Path) -> None:
    raw = np.zeros((96, 3 * BLOCK_OF["IQ4_NL"].bytes), np.uint8)
    path = write(
        tmp_path / "model.gguf", TINY["llama"],
        replaced={"blk.0.attn_q.weight": (raw, gguf.GGMLQuantizationType.IQ4_NL)},
    )  # fmt: skip
    with pytest.raises(ModelUnsupported, match=r"blk\.0\.attn_q\.weight is IQ4_NL"):
        load(path)


LIES = {
    "attention.head_count": 0,
    "attention.head_count_kv": 4,  # 6 heads cannot share 4
    "attention.key_length": 15,
    "block_count": 500,
    "embedding_length": 2**19,
    "feed_forward_length": 2**30,
    "rope.dimension_count": 64,
    "rope.freq_base": -1.0,
    "rope.scaling.factor": float("nan"),
    "attention.layer_norm_rms_epsilon": float("inf"),
}


@pytest.mark.parametrize("key", LIES)
def test_a_number_that_cannot_be_is_an_error_of_the_file(key: str, tmp_path: Path) -> None:
    tiny = TINY["llama"]
    path = write(tmp_path / "model.gguf", replace(tiny, keys={**tiny.keys, key: LIES[key]}))
    with pytest.raises(ModelCorrupt, match=r"model\.gguf"):
        load(path)


@pytest.mark.parametrize(
    ("name", "keys", "reason"),
    [
        ("llama", {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}, "rotates positions by 'yarn'"),
        ("llama", {"attention.value_length": 32}, "keys and values differ in length"),
        ("qwen2", {"attention.key_length": 32, "attention.value_length": 32}, "heads are not of the size"),
    ],
)
def test_a_sound_model_beyond_mlx_lm_is_unsupported(
    name: str, keys: dict[str, object], reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "model.gguf", replace(TINY[name], keys={**TINY[name].keys, **keys}))
    with pytest.raises(ModelUnsupported, match=reason):
        load(path)


def test_rope_factors_of_the_wrong_number_or_value_are_errors(tmp_path: Path) -> None:
    for numbers in (np.ones(5), np.zeros(8), np.full(8, np.nan)):
        path = write(tmp_path / "model.gguf", TINY["llama-3-factors"], replaced={"rope_freqs.weight": numbers})
        with pytest.raises(ModelCorrupt, match=r"factors|rope_freqs"):
            load(path)


def test_a_file_cut_anywhere_is_an_error_and_never_a_crash(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", TINY["llama"])
    whole = path.read_bytes()
    for keep in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:keep])
        with pytest.raises(ModelError):
            load(path)
    path.unlink()
    with pytest.raises(ModelNotFound):
        load(path)


def test_flipped_bytes_in_the_header_load_or_are_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", replace(TINY["llama"], layers=1))
    whole, rng = path.read_bytes(), np.random.default_rng(8)
    size = whole.index(b"blk.0") + 800
    for _ in range(60):
        broken = bytearray(whole)
        for at in rng.integers(0, size, 3):
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        with contextlib.suppress(PhiplugError):  # anything else fails the test, and a crash ends the run
            load(path).close()


def test_weights_beyond_the_machine_are_refused_before_they_fill_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "model.gguf", TINY["llama"])
    monkeypatch.setattr("phiplug_mlx.devices.os.sysconf", lambda name: 512)  # pages of 512 bytes, and 512 of them
    with pytest.raises(OutOfMemory, match=r"would take 0\.0 GB"):
        load(path)
