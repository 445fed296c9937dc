"""Prompts have all cores, whatever number of threads was found for single tokens, and no bit of a row shows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_architectures import CONTEXT, TINY, VOCAB, Tiny, blocks, write

from phiplug.spi import LoadOptions, Model, ModelFiles, Step

pytestmark = pytest.mark.usefixtures("llama_cpp")

WIDE = Tiny("llama", hidden=256, heads=8, kv_heads=4, head_dim=32, feed_forward=512, tied=False)
IDS = np.random.default_rng(1).integers(VOCAB, size=CONTEXT).tolist()


def load(path: Path, **options: object) -> Model:
    from phiplug_llama_cpp import loading

    return loading.load_untried(ModelFiles(path.name, path, "gguf"), LoadOptions(ctx_size=CONTEXT, **options))


@pytest.mark.parametrize("kinds", [(), ("Q4_1",), ("Q8_0",), ("Q4_K",), ("F16",), ("Q4_0",)], ids=str)
def test_the_rows_of_a_prompt_do_not_depend_on_the_number_of_threads(kinds: tuple[str, ...], tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", WIDE, replaced=blocks(WIDE, kinds, seed=3)[0] if kinds else None)

    def rows(threads: int) -> np.ndarray:
        model = load(path, threads=threads)
        first = model.forward([Step(0, IDS[:300], 300)]).logits().copy()
        later = [
            model.forward([Step(0, IDS[at:end], end - at)]).logits().copy() for at, end in ((300, 316), (316, 512))
        ]
        model.close()
        return np.concatenate([first, *later])

    np.testing.assert_array_equal(rows(1), rows(2))


def test_only_pieces_of_prompts_have_all_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from phiplug_llama_cpp import loading

    monkeypatch.setattr(loading, "usable_cores", lambda: 2)
    model = load(write(tmp_path / "model.gguf", TINY["llama"]))
    asked = []
    monkeypatch.setattr(model._api, "llama_set_n_threads", lambda _, single, more: asked.append((single, more)))
    model._tuning.choice.seconds = {2: 0.02, 1: 0.01}
    model.autotune()
    assert model.info.threads == 1
    for size in (20, 1, 3, 40):
        model.forward([Step(0, IDS[:size])]).logits()
    assert asked == [(1, 2), (1, 1), (1, 2)]
    model.close()


def test_a_number_of_threads_that_was_asked_for_is_kept_for_prompts_too(tmp_path: Path, monkeypatch) -> None:
    model = load(write(tmp_path / "model.gguf", TINY["llama"]), threads=1)
    asked = []
    monkeypatch.setattr(model._api, "llama_set_n_threads", lambda *given: asked.append(given))
    model.forward([Step(0, IDS[:40])]).logits()
    assert asked == []
    model.close()
