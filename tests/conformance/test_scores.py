"""Scores on every engine: what they are a log-softmax of, what they cost, and that engines choose alike."""

from __future__ import annotations

import importlib.util
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import absent
from tiny import Shape, byte_tokens, write_llama

from phiplug.load import load

FACTS = json.loads(Path(__file__).parents[1].joinpath("data", "facts.json").read_text(encoding="utf-8"))
CONTINUATIONS = [
    " Paris.",
    " London, as everybody knows who has been there.",
    " the",
    " Paris, and that of Italy is Rome.",
]
MODULES = {
    "toy": "phiplug_toy",
    "numpy": "phiplug_numpy",
    "llama-cpp": "llama_cpp",
    "mlx": "mlx_lm",
    "candle": "phiplug_candle._native",
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MODULES if name != "toy"]


@contextmanager
def loaded(backend, model, **options):
    """Load the toy, or a model on an engine that is installed here."""
    if not found(MODULES[backend]):
        absent(backend)
    reference = "toy" if backend == "toy" else str(model)
    with load(reference, backend=backend, threads=1 if backend in ("llama-cpp", "candle") else None, **options) as llm:
        yield llm


def found(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def log_softmax(rows):
    rows = rows.astype(np.float64)
    peaks = rows.max(axis=1, keepdims=True)
    return rows - peaks - np.log(np.exp(rows - peaks).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("backend", ["toy", *SLOW])
def test_a_score_is_a_float64_log_softmax_of_the_rows_that_its_passes_return(backend, smollm2, monkeypatch):
    rows = []
    with loaded(backend, smollm2) as llm:
        logits = llm.engine._guarded.logits

        def recorded(asked, count):
            rows.append(logits(asked, count).copy())
            return rows[-1]

        monkeypatch.setattr(llm.engine._guarded, "logits", recorded)
        scores = llm.score("The capital of France is", CONTINUATIONS)
    every = log_softmax(np.concatenate(rows))
    targets = [token for score in scores for token in score.tokens]
    expected = every[np.arange(len(targets)), targets]
    gap = np.abs(expected - [logprob for score in scores for logprob in score.logprobs]).max()
    print(f"{backend}: {len(targets)} tokens, largest difference {gap:.1e}")
    assert len(every) == len(targets) > 20
    assert gap <= 1e-9


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("backend", ["toy", *SLOW])
def test_four_continuations_of_300_tokens_compute_them_once(backend, slots, request, tmp_path, monkeypatch):
    if backend == "mlx":  # whose CPU device would take half a minute for 300 tokens of SmolLM2
        model = write_llama(tmp_path / "tiny.gguf", byte_tokens(), Shape(context=512))
    else:
        model = request.getfixturevalue("smollm2")
    with loaded(backend, model, slots=slots) as llm:
        vocabulary = min(llm.info.vocab_size, 250)
        context = [(3 + 7 * index) % vocabulary for index in range(300)]
        pairs = [(context, [(start + index) % vocabulary for index in range(5)]) for start in (10, 20, 30, 40)]
        computed = []
        forward = llm.engine._guarded.forward

        def counted(steps):
            computed.extend(len(step.tokens) for step in steps)
            return forward(steps)

        monkeypatch.setattr(llm.engine._guarded, "forward", counted)
        assert len(list(llm.score_ids(pairs))) == 4
    print(f"{backend}, {slots} slots: {sum(computed)} tokens computed")
    assert sum(computed) <= 340


@pytest.mark.slow
def test_llama_cpp_and_mlx_choose_the_same_answer_of_four(smollm2):
    chosen = {}
    for backend in ("llama-cpp", "mlx"):
        with loaded(backend, smollm2) as llm:
            chosen[backend] = [
                int(
                    np.argmax(
                        [score.total for score in llm.score(item["prompt"], [f" {each}" for each in item["choices"]])]
                    )
                )
                for item in FACTS
            ]
    same = sum(a == b for a, b in zip(*chosen.values(), strict=True))
    right = {backend: picks.count(0) for backend, picks in chosen.items()}
    print(f"the same choice in {same} of {len(FACTS)}; right: {right}")
    assert len(FACTS) == 50
    assert same >= 48
    assert min(right.values()) >= 35
