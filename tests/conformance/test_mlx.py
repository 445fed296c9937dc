"""The MLX backend passes the conformance tests, with plain caches and with rotating ones."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_architectures import TINY, VOCAB, WINDOW, write

from phiplug.errors import BackendFailed, UnsupportedParameter
from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Step
from phiplug.testing import BackendContract

pytestmark = pytest.mark.usefixtures("mlx")


class Tiny(BackendContract):
    """What both suites below declare: MLX's CPU sums in another order for other shapes."""

    backend = "mlx"
    chunking_tolerance = 1e-4
    batching_tolerance = 1e-4
    requests = 40
    interleavings = 4
    architecture: str

    @pytest.fixture
    def files(self, paths: dict[str, Path]) -> ModelFiles:
        return ModelFiles("tiny", paths[self.architecture], "gguf")


class TestPlainCaches(Tiny):
    architecture = "llama"
    requests = 200
    interleavings = 10


class TestRotatingCaches(Tiny):
    architecture = "gemma3"


class TestWindowsOverPlainCaches(Tiny):
    architecture = "gemma2"


@pytest.fixture(scope="module")
def backend() -> Backend:
    import phiplug_mlx

    return phiplug_mlx.phiplug_register_backends()[0]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return {name: write(folder / f"{name}.gguf", TINY[name]) for name in ("llama", "gemma2", "gemma3")}


@pytest.fixture(params=["llama", "gemma2", "gemma3"])
def eight(request: pytest.FixtureRequest, backend: Backend, paths: dict[str, Path]) -> Model:
    return backend.load(ModelFiles("tiny", paths[request.param], "gguf"), LoadOptions(ctx_size=128, slots=8))


def ids(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(VOCAB, size=count).tolist()


def alone(model: Model, slot: int, tokens: list[int]) -> np.ndarray:
    """The row after `tokens`, computed in one pass in one empty slot."""
    model.rewind(slot, 0)
    return model.forward([Step(slot, tokens)]).logits()[0].copy()


def close(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.abs(left - right).max() <= 1e-4 * np.ptp(right))


def test_eight_decode_steps_call_the_module_once(eight: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for slot in range(8):
        eight.forward([Step(slot, ids(5 + 4 * slot, slot), rows=0)])  # of all lengths around the window
    calls = []
    kind = type(eight.module)
    whole = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda self, x, **given: calls.append(x.shape) or whole(self, x, **given))
    for token in range(6):
        eight.forward([Step(slot, [token]) for slot in range(8)]).logits()
    assert calls == [(8, 1)] * 6


def test_sequences_that_decode_together_give_what_each_gives_alone(eight: Model) -> None:
    held = {slot: ids(3 + 5 * slot, slot) for slot in range(7)}
    for slot, prompt in held.items():
        eight.forward([Step(slot, prompt)]).logits()
    for turn in range(WINDOW + 6):  # past the end of every rotating cache
        live = [slot for slot in held if (turn // 9) % 2 == 0 or slot % 2]  # now and then only some of them
        rows = eight.forward([Step(slot, [(7 * turn + slot) % VOCAB]) for slot in live]).logits().copy()
        for slot in live:
            held[slot].append((7 * turn + slot) % VOCAB)
    assert all(close(rows[live.index(slot)], alone(eight, 7, held[slot])) for slot in live)


def test_the_rows_of_a_mixed_pass_are_in_the_order_of_its_steps(eight: Model) -> None:
    prompts = {slot: ids(6, slot) for slot in range(5)}
    for slot in (4, 1, 3):
        eight.forward([Step(slot, prompts[slot])]).logits()
    steps = [Step(4, [9]), Step(0, prompts[0], rows=2), Step(1, [8]), Step(2, prompts[2], rows=0), Step(3, [7])]
    rows = eight.forward(steps).logits().copy()
    wanted = [[*prompts[4], 9], prompts[0][:-1], prompts[0], [*prompts[1], 8], [*prompts[3], 7]]
    assert len(rows) == 5
    assert all(close(row, alone(eight, 7, tokens)) for row, tokens in zip(rows, wanted, strict=True))


def test_one_of_a_batch_is_rewound_and_the_others_go_on(eight: Model) -> None:
    prompts = {slot: ids(10, slot) for slot in range(3)}
    for slot, prompt in prompts.items():
        eight.forward([Step(slot, prompt)]).logits()
    eight.forward([Step(slot, [5]) for slot in range(3)]).logits()
    assert eight.rewind(1, 8) == 8
    rows = eight.forward([Step(slot, [6]) for slot in range(3)]).logits().copy()
    assert close(rows[1], alone(eight, 7, [*prompts[1][:8], 6]))
    assert close(rows[2], alone(eight, 7, [*prompts[2], 5, 6]))


def test_a_rotating_cache_past_its_window_says_that_nothing_is_kept(backend: Backend, paths: dict[str, Path]) -> None:
    model = backend.load(ModelFiles("tiny", paths["gemma3"], "gguf"), LoadOptions(ctx_size=128, slots=2))
    prompt = ids(WINDOW + 6)
    model.forward([Step(0, prompt)]).logits()
    assert model.rewind(0, len(prompt)) == len(prompt)
    assert model.rewind(0, len(prompt) - 1) == 0
    assert model.rewind(0, 100) == 0
    assert close(alone(model, 0, prompt), alone(model, 1, prompt))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3"])
def test_caches_that_are_full_take_what_the_model_says(name: str, backend: Backend, paths: dict[str, Path]) -> None:
    from phiplug_mlx.slots import arrays_of

    model = backend.load(ModelFiles("tiny", paths[name], "gguf"), LoadOptions(ctx_size=256, slots=3))
    model.forward([Step(0, ids(250), rows=0)]).logits()
    for token in ids(6):
        model.forward([Step(0, [token])]).logits()
    assert 3 * sum(array.nbytes for array in arrays_of(model._slots.alone(0))) == model.info.cache_bytes


def test_a_full_cache_with_a_window_keeps_what_is_asked(backend: Backend, paths: dict[str, Path]) -> None:
    model = backend.load(ModelFiles("tiny", paths["gemma2"], "gguf"), LoadOptions(ctx_size=128))
    model.forward([Step(0, ids(WINDOW + 40))]).logits()
    assert model.rewind(0, WINDOW + 3) == WINDOW + 3


def test_a_copy_and_its_source_go_separate_ways(eight: Model) -> None:
    prompt = ids(12)
    eight.forward([Step(0, prompt)]).logits()
    assert eight.copy(0, 1, 9) == 9
    rows = eight.forward([Step(0, [3]), Step(1, [4])]).logits().copy()
    assert close(rows[0], alone(eight, 7, [*prompt, 3]))
    assert close(rows[1], alone(eight, 7, [*prompt[:9], 4]))


def test_a_model_goes_on_in_another_thread(eight: Model) -> None:
    """MLX's unfinished arrays belong to a thread; ours are finished before another can see them."""
    prompt, found = ids(12), []
    eight.forward([Step(0, prompt)])  # begun here, and not read

    def go_on() -> None:
        eight.copy(0, 1, 10)
        eight.forward([Step(0, [1]), Step(1, [2])])
        eight.rewind(1, 9)
        found.append(eight.forward([Step(1, [5])]).logits()[0].copy())

    for _ in range(2):
        thread = threading.Thread(target=go_on)
        thread.start()
        thread.join()
    assert [close(row, alone(eight, 7, [*prompt[:9], 5])) for row in found] == [True, True]


def test_a_pass_that_fails_empties_its_slots_and_no_other(eight: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for slot in range(3):
        eight.forward([Step(slot, ids(4))]).logits()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the kernel went away")

    with monkeypatch.context() as patch:
        patch.setattr(type(eight.module), "__call__", fail)
        with pytest.raises(BackendFailed, match="the kernel went away"):
            eight.forward([Step(0, [1]), Step(1, [1])])
    assert [eight.rewind(slot, 100) for slot in range(3)] == [0, 0, 4]
    assert close(alone(eight, 0, ids(9)), alone(eight, 2, ids(9)))


def test_what_mlx_cannot_do_is_refused_by_name(backend: Backend, paths: dict[str, Path]) -> None:
    files = ModelFiles("tiny", paths["llama"], "gguf")
    wishes = {"threads": 2, "device": "tpu", "gpu_layers": 3, "ctx_size": 10**6}
    for name, value in wishes.items():
        with pytest.raises(UnsupportedParameter) as raised:
            backend.load(files, LoadOptions(**{name: value}))
        assert raised.value.name == name
