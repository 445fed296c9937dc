"""The NumPy example against llama.cpp: the same weights in float32 give the same numbers and the same text.

SmolLM2's Q4_1 file is unpacked twice: by the `gguf` package into a file of float32 that llama.cpp runs, and by the
example as it loads. So blocks, weights, layers and the token loop are all held to somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from tiny_architectures import CONTEXT, TINY, VOCAB, Tiny, blocks, write

from phiplug.gguf import StringArray, map_tensor, read_header
from phiplug.llm import LLM
from phiplug.spi import LoadOptions, Model, ModelFiles, Step

pytestmark = pytest.mark.usefixtures("llama_cpp")

TOKENS = 32
LOGITS = 1e-2  # how far a logit may be from llama.cpp's, which sums in another order; 1e-4 is what is measured
TINY_GAP = 1e-4  # of a row's range; 6e-5 is measured, for llama.cpp computes a float32 angle from the angle before it
QUANTIZED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
FAMILIES = {name: tiny for name, tiny in TINY.items() if tiny.architecture in ("llama", "phi3")}
PROMPTS = (
    "Write a short story about a lighthouse.",
    "Describe the city of Paris.",
    "Explain gravity to a child in two sentences.",
    "Write a Python function that reverses a string.",
    "List three uses of copper.",
    "Translate 'good morning' into German.",
    "Who wrote Hamlet, and when?",
    "Count from one to ten in words.",
    "¿Cuál es el río más largo del mundo?",
    "Explain why leaves are green in summer.",
)


def numpy_model(path: Path, **options: object) -> Model:
    import phiplug_numpy

    return phiplug_numpy.load(ModelFiles(path.name, path, "gguf"), LoadOptions(**options))


@pytest.fixture(scope="module")
def oracle(smollm2: Path) -> Iterator[LLM]:
    """SmolLM2 on the NumPy example, loaded as `phiplug run` does."""
    from phiplug import load

    with load(str(smollm2), backend="numpy", ctx_size=CONTEXT) as llm:
        yield llm


@pytest.fixture(scope="module")
def float32(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """SmolLM2's weights, unpacked by the `gguf` package, on llama.cpp."""
    from reference_llama import ReferenceLlama

    path = unpacked(smollm2, tmp_path_factory.mktemp("float32") / "smollm2.f32.gguf")
    model = ReferenceLlama(path, CONTEXT)
    path.unlink()  # half a gigabyte; llama.cpp has it mapped
    yield model
    model.close()


def unpacked(source: Path, target: Path) -> Path:
    """Write a GGUF whose tensors are those of `source` in float32."""
    header = read_header(source)
    writer = gguf.GGUFWriter(target, header.architecture)
    for key, value in header.metadata.items():
        if isinstance(value, tuple | StringArray):
            writer.add_array(key, list(value))
        elif key not in ("general.architecture", "general.file_type"):
            kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
            kinds[type(value)](key, value)
    for name, info in header.tensors.items():
        rows = np.asarray(map_tensor(info)).reshape(*info.shape[:-1], -1)
        writer.add_tensor(name, gguf.dequantize(rows, gguf.GGMLQuantizationType[info.type]).reshape(info.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.mark.slow
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_greedy_continuation_is_that_of_llama_cpp_on_the_same_weights(prompt, oracle, float32):
    answer = oracle.generate(prompt, max_tokens=TOKENS, temperature=0.0, repeat_penalty=1.0, seed=1)
    stops = oracle.engine.tokenizer.stop_ids

    float32.rewind(0)
    rows = [float32.feed(answer.prompt_ids)[-1]]
    tokens: list[int] = []
    while len(tokens) < TOKENS and (token := int(rows[-1].argmax())) not in stops:
        tokens.append(token)
        rows.append(float32.feed([token])[-1])
    assert list(answer.tokens) == tokens
    assert len(tokens) == TOKENS

    every = np.concatenate([chunk.copy() for chunk in oracle.engine.rows([*answer.prompt_ids, *tokens])])
    assert np.abs(every[-len(rows) :] - np.stack(rows)).max() < LOGITS


@pytest.mark.parametrize("name", FAMILIES)
def test_every_kind_of_llama_and_phi_3_computes_what_llama_cpp_does(name, tmp_path):
    from reference_llama import ReferenceLlama

    path = write(tmp_path / "model.gguf", FAMILIES[name])
    ours, theirs = numpy_model(path, ctx_size=CONTEXT), ReferenceLlama(path, CONTEXT)
    ids = np.random.default_rng(1).integers(VOCAB, size=400).tolist()
    for piece in (ids[:17], ids[17:380], *([token] for token in ids[380:])):
        logits = ours.forward([Step(0, piece, len(piece))]).logits()
        assert gap(logits, theirs.feed(piece)) < TINY_GAP
    theirs.close()


@pytest.mark.usefixtures("mlx")
@pytest.mark.parametrize("name", FAMILIES)
def test_every_kind_of_llama_and_phi_3_computes_what_mlx_does(name, tmp_path):
    import phiplug_mlx

    path = write(tmp_path / "model.gguf", FAMILIES[name])
    theirs = phiplug_mlx.load(ModelFiles(name, path, "gguf"), LoadOptions(ctx_size=CONTEXT, device="cpu"))
    ids = np.random.default_rng(1).integers(VOCAB, size=400).tolist()
    rows = [model.forward([Step(0, ids, len(ids))]).logits() for model in (numpy_model(path, ctx_size=CONTEXT), theirs)]
    assert gap(*rows) < TINY_GAP


def test_phi_3_turns_to_its_long_factors_where_llama_cpp_does(tmp_path):
    from reference_llama import ReferenceLlama

    path = write(tmp_path / "model.gguf", TINY["phi3-long"])
    ids = np.random.default_rng(2).integers(VOCAB, size=100).tolist()
    rows = {}
    for context in (256, 512):  # 256 is the original context; llama.cpp rounds to 256, so 257 would not be 257
        ours, theirs = numpy_model(path, ctx_size=context), ReferenceLlama(path, context)
        rows[context] = ours.forward([Step(0, ids, len(ids))]).logits()
        assert gap(rows[context], theirs.feed(ids)) < TINY_GAP
        theirs.close()
    assert gap(rows[256], rows[512]) > 0.01


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_packed_weights_compute_what_llama_cpp_does_from_unpacked_ones(family, tmp_path):
    from reference_llama import ReferenceLlama

    tiny = Tiny(family, hidden=256, heads=4, head_dim=64, feed_forward=512, layers=2)  # a K block is 256 numbers
    packed, plain = blocks(tiny, QUANTIZED, seed=3)
    ours = numpy_model(write(tmp_path / "packed.gguf", tiny, seed=3, replaced=packed), ctx_size=CONTEXT)
    theirs = ReferenceLlama(write(tmp_path / "plain.gguf", tiny, seed=3, replaced=plain), CONTEXT)
    ids = np.random.default_rng(3).integers(VOCAB, size=40).tolist()
    assert gap(ours.forward([Step(0, ids, len(ids))]).logits(), theirs.feed(ids)) < TINY_GAP
    theirs.close()


def gap(left: np.ndarray, right: np.ndarray) -> float:
    """The largest difference, relative to the range of its row."""
    return float((np.abs(left - right).max(axis=1) / np.ptp(right, axis=1)).max())
