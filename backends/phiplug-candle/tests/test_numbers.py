"""Candle computes what NumPy computes from the same file, and what llama.cpp does for the families NumPy lacks."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import phiplug_numpy
import pytest
from small_models import SmallModel
from tiny_architectures import CONTEXT, TINY, VOCAB, write

import phiplug_candle
from phiplug.spi import LoadOptions, Model, ModelFiles, Step

FACTORS = tuple(1.0 + i / 8 for i in range(8))
LONG = {"rope.scaling.type": "longrope", "rope.scaling.original_context_length": 64, "rope.scaling.attn_factor": 1.19}
MODELS = {
    "llama": SmallModel("llama"),
    "phi3": SmallModel("phi3"),
    "untied": SmallModel("llama", tied=False),
    "phi3-untied": SmallModel("phi3", tied=False),
    "partial": SmallModel("phi3", rotated=8),
    "llama-3-factors": SmallModel("llama", freqs=tuple(1.0 + i for i in range(8))),
    "longrope": SmallModel("phi3", short=FACTORS, long=tuple(2.0 + i for i in range(8)), metadata=LONG),
}
SEEN_BY_LLAMA_CPP = [name for name in TINY if name.startswith(("llama", "mistral", "phi3", "qwen"))]


def load(path: Path, **options: object) -> Model:
    return phiplug_candle.load(ModelFiles(path.name, path, "gguf"), LoadOptions(**options))


def gap(left: np.ndarray, right: np.ndarray) -> float:
    """The largest difference, relative to the range of its row."""
    return float((np.abs(left - right).max(axis=1) / np.ptp(right, axis=1)).max())


@pytest.mark.parametrize("context", [48, 128], ids=["short-context", "long-context"])
@pytest.mark.parametrize("name", MODELS)
def test_it_computes_what_numpy_computes(name: str, context: int, tmp_path: Path) -> None:
    path = MODELS[name].write(tmp_path / "model.gguf")
    files, options = ModelFiles("model", path, "gguf"), LoadOptions(ctx_size=context, slots=2)
    ids = [3 + i * 7 % 50 for i in range(40)]
    steps = [Step(0, ids, 40), Step(1, ids[:5], 2)]
    ours, numpys = (backend.load(files, options).forward(steps).logits() for backend in (phiplug_candle, phiplug_numpy))
    assert gap(ours, numpys) < 1e-4


@pytest.mark.parametrize("name", SEEN_BY_LLAMA_CPP)
@pytest.mark.usefixtures("llama_cpp")
def test_it_computes_what_llama_cpp_computes(name: str, tmp_path: Path) -> None:
    from reference_llama import ReferenceLlama

    path = write(tmp_path / "model.gguf", TINY[name])
    model, reference = load(path, ctx_size=CONTEXT), ReferenceLlama(path, CONTEXT)
    ids = np.random.default_rng(1).integers(VOCAB, size=44).tolist()
    assert gap(model.forward([Step(0, ids[:40], 40)]).logits(), reference.feed(ids[:40])) < 1e-3
    for token in ids[40:]:
        assert gap(model.forward([Step(0, [token])]).logits(), reference.feed([token])) < 1e-3
    reference.close()


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_it_reads_every_type_as_numpy_does(kind: str, tmp_path: Path) -> None:
    small = SmallModel("llama", quantized=gguf.GGMLQuantizationType[kind])
    files = ModelFiles("model", small.write(tmp_path / "model.gguf"), "gguf")
    steps = [Step(0, list(range(3, 35)), 32)]
    ours, numpys = (
        backend.load(files, LoadOptions(ctx_size=64)).forward(steps).logits()
        for backend in (phiplug_candle, phiplug_numpy)
    )
    assert gap(ours, numpys) < 0.05  # Candle rounds the other factor to 8 bits


@pytest.mark.parametrize("key", ["rope.scaling.factor", "rope.scale_linear"])
def test_a_factor_of_0_rotates_as_1_does(key: str, tmp_path: Path) -> None:
    rows = [
        load(SmallModel(metadata={key: factor}).write(tmp_path / f"{factor}.gguf"))
        .forward([Step(0, list(range(3, 35)))])
        .logits()
        for factor in (0.0, 1.0, 2.0)
    ]
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
