"""What cannot be loaded is refused by name, and nothing ends the process."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import damaged
import gguf
import numpy as np
import pytest
import tiny
from small_models import Arrays, SmallModel
from tiny_architectures import TINY, Tiny, blocks, write

import phiplug_candle
from phiplug.errors import (
    BackendFailed,
    InvalidParameter,
    ModelCorrupt,
    ModelUnsupported,
    OutOfMemory,
    UnsupportedParameter,
)
from phiplug.spi import LoadOptions, Model, ModelFiles, Step
from phiplug.text.tokenizer import load_tokenizer
from phiplug_candle import memory
from phiplug_candle.bits import MEASURED


def load(path: Path, **options: object) -> Model:
    return phiplug_candle.load(ModelFiles(path.name, path, "gguf"), LoadOptions(**options))


def as_phiplug_loads(path: Path) -> None:
    load_tokenizer(ModelFiles(path.name, path, "gguf"))
    load(path, threads=1)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return SmallModel().write(tmp_path / "small.gguf")


def with_a_bias(arrays: Arrays) -> Arrays:
    return arrays | {"blk.1.attn_q.bias": np.ones(64, np.float32)}


def without_ffn_down(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if "ffn_down" not in name}


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        (SmallModel("falcon"), ModelUnsupported, "'falcon' model; the candle backend reads llama"),
        (SmallModel(metadata={"rope.scaling.type": "yarn"}), ModelUnsupported, "rotates positions by 'yarn'"),
        (SmallModel(metadata={"expert_count": 8}), ModelUnsupported, "llama.expert_count"),
        (SmallModel(metadata={"attention.head_count": 5}), ModelCorrupt, "5 heads of 16 numbers in 2 groups"),
        (SmallModel(metadata={"feed_forward_length": 95}), ModelCorrupt, "blk.0.ffn_gate.weight"),
        (SmallModel(metadata={"feed_forward_length": None}), ModelCorrupt, "feed_forward_length is None"),
        (SmallModel(change=with_a_bias), ModelUnsupported, "blk.1.attn_q.bias"),
        (SmallModel(change=without_ffn_down), ModelCorrupt, "lacks blk.0.ffn_down"),
        (SmallModel(freqs=(1.0, 2.0)), ModelCorrupt, "rope_freqs.weight"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused_by_name(
    model: SmallModel, error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        load(model.write(tmp_path / "model.gguf"), ctx_size=64)


def test_a_damaged_file_is_an_error_that_names_the_damage(tmp_path: Path) -> None:
    """A header that lies about a shape would let Candle read beyond the file."""
    path = tmp_path / "model.gguf"
    sound = damaged.parsed(tiny.write_llama(path, tiny.byte_tokens()))
    for name, data in damaged.mutants(sound):
        path.write_bytes(data)
        if name != "vocab_size = 1":  # which nobody reads where there is a vocabulary
            with pytest.raises((ModelCorrupt, ModelUnsupported)):
                as_phiplug_loads(path)


@pytest.mark.parametrize("kept", [0, 4, 100, 160_000, -1])
def test_a_file_that_was_cut_off_is_damaged(kept: int, tmp_path: Path) -> None:
    path = tiny.write_llama(tmp_path / "model.gguf", tiny.byte_tokens())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelCorrupt, match=r"cut off|is empty"):
        load(path)


def test_gemma_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="'gemma2' model"):
        load(write(tmp_path / "model.gguf", TINY["gemma2"]))


def test_a_type_that_candle_lacks_is_refused(tmp_path: Path) -> None:
    path = SmallModel(
        quantized=gguf.GGMLQuantizationType.TQ2_0, embedding=256, feed_forward=256, heads=4, head=64
    ).write(tmp_path / "model.gguf")
    with pytest.raises(ModelUnsupported, match="is TQ2_0, and Candle reads F32"):
        load(path)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"device": "cuda"}, "device"), ({"gpu_layers": 3}, "gpu_layers"), ({"ctx_size": 1000}, "ctx_size")],
)
def test_an_option_that_cannot_be_honoured_is_refused(small: Path, options: dict[str, object], name: str) -> None:
    if options.get("device") in phiplug_candle.probe().devices:
        pytest.skip("this build has it")
    with pytest.raises(UnsupportedParameter) as raised:
        load(small, **options)
    assert raised.value.name == name


@pytest.mark.skipif(platform.machine() not in MEASURED, reason="nothing is declared on this processor")
@pytest.mark.parametrize(
    ("kinds", "declared"),
    [(("Q4_1", "Q8_0"), (512, "all")), (("Q4_K", "Q6_K"), (1, "none")), (("Q4_K", "F16"), (1, "none"))],
    ids=str,
)
def test_what_it_declares_of_rows_follows_from_the_types_of_the_weights(
    kinds: tuple[str, ...], declared: tuple[int, str], tmp_path: Path
) -> None:
    tiny = Tiny("llama", hidden=256, heads=8, kv_heads=4, head_dim=32, feed_forward=512, tied=False)
    info = load(write(tmp_path / "model.gguf", tiny, replaced=blocks(tiny, kinds, seed=3)[0])).info
    assert (info.equal_passes, info.row_independence) == declared


def test_a_model_that_does_not_fit_is_an_error(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 10**6)
    with pytest.raises(OutOfMemory, match=r"with 2 x 512 tokens needs 0\.0 GB, and 0\.0 GB are free"):
        load(small, slots=2)


def test_a_context_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    path = SmallModel(context=2**30).write(tmp_path / "model.gguf")
    if memory.available() is None:
        pytest.skip("this system does not tell how much memory is free")
    with pytest.raises(OutOfMemory, match="lower --ctx-size"):
        load(path, ctx_size=2**24, slots=1000)


def test_a_token_outside_the_vocabulary_is_refused_and_changes_nothing(small: Path) -> None:
    model = load(small)
    model.forward([Step(0, [5, 6, 7])]).logits()
    for token in (-1, model.info.vocab_size):
        with pytest.raises(InvalidParameter, match="outside the vocabulary"):
            model.forward([Step(0, [token])])
    assert model.rewind(0, 100) == 3


def test_a_pass_beyond_the_context_is_an_error_of_one_line_and_changes_nothing(small: Path) -> None:
    model = load(small, ctx_size=16)
    model.forward([Step(0, [5, 6, 7])]).logits()
    with pytest.raises(BackendFailed, match="candle: ") as raised:
        model.forward([Step(0, [5] * 14)]).logits()
    assert "\n" not in str(raised.value)
    assert model.rewind(0, 100) == 3


def test_ctrl_c_interrupts_a_pass_and_leaves_the_slot_as_it_was(small: Path) -> None:
    script = f"""
import os, signal, sys, threading
from pathlib import Path
import phiplug_candle
from phiplug.spi import LoadOptions, ModelFiles, Step
model = phiplug_candle.load(ModelFiles("m", Path({str(small)!r}), "gguf"), LoadOptions(threads=1))
model.forward([Step(0, [5, 6, 7])]).logits()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        model.forward([Step(0, [3] * 500)]).logits()
        model.rewind(0, 3)
except KeyboardInterrupt:
    print(model.rewind(0, 1000) in (3, 503), model.forward([Step(0, [8])]).logits().shape)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "True (1, 288)\n", done.stderr


@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_keeps_the_number_of_threads_that_it_began_with(small: Path, threads: int) -> None:
    script = f"""
from pathlib import Path
import phiplug_candle
from phiplug.errors import UnsupportedParameter
from phiplug.spi import LoadOptions, ModelFiles
files = ModelFiles("m", Path({str(small)!r}), "gguf")
found = [phiplug_candle.load(files, LoadOptions(threads=n)).info.threads for n in ({threads}, None, {threads})]
try:
    phiplug_candle.load(files, LoadOptions(threads={threads + 1}))
except UnsupportedParameter as error:
    print(found, error.name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == f"[{threads}, {threads}, {threads}] threads\n", done.stderr
