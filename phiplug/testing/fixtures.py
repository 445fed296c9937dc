"""Gives the conformance tests what they test: a backend, a model's files, and loaded models."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import pytest

from phiplug.errors import BackendNotFound, ModelNotFound, PhiplugError, UnsupportedParameter
from phiplug.models import hub
from phiplug.models.aliases import ALIASES
from phiplug.plugins.manager import BACKENDS, Plugins
from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Step
from phiplug.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from phiplug.spi import Logits

Record: TypeAlias = Callable[[str, object], None]  # pytest's record_property

TOLERANCE_CAP = 0.1
"""No backend may declare more. On SmolLM2, unrelated rows were 0.35 to 0.86 of their range apart, as measured; rows
after prompts of 24 tokens that differ in one, 0.03 to 0.42."""


class ContractFixtures:
    """The class attributes that say what is tested, documented in `BackendContract`, and the fixtures made of them."""

    backend: ClassVar[str | Backend]
    model: ClassVar[str | Path | ModelFiles | None] = None
    plugin: ClassVar[str | None] = None
    engines: ClassVar[tuple[str, ...]] = (
        "jax", "llama_cpp", "mlx", "mlx_lm", "onnxruntime", "tensorflow", "tokenizers", "torch", "transformers",
    )  # fmt: skip
    options: ClassVar[LoadOptions] = LoadOptions(ctx_size=640, slots=3, threads=1)
    chunking_tolerance: ClassVar[float] = 0.02
    batching_tolerance: ClassVar[float] = 0.02
    long_prompt_tolerance: ClassVar[float] = 0.1
    prompt_tokens: ClassVar[int] = 24
    long_prompt_tokens: ClassVar[int] = 80
    requests: ClassVar[int] = 1000
    leak_bytes_per_request: ClassVar[int] = 2048
    interleavings: ClassVar[int] = 20
    interleaving_steps: ClassVar[int] = 20
    long_positions: ClassVar[int] = 600
    probe_seconds: ClassVar[float] = 2.0

    _models: ClassVar[list[Model]] = []
    _unusable: ClassVar[str] = ""

    @classmethod
    def setup_class(cls) -> None:
        """Begin with no model loaded."""
        cls._models, cls._unusable = [], ""

    @classmethod
    def teardown_class(cls) -> None:
        """Close what the tests loaded."""
        for model in cls._models:
            model.close()
        cls._models = []

    @pytest.fixture
    def implementation(self) -> Backend:
        """The backend."""
        return find_backend(self.backend)

    @pytest.fixture
    def files(self, implementation: Backend) -> ModelFiles:
        """The model's files; override it where they come from a fixture."""
        return find_files(self.plugin or self.backend, self.model or implementation.default_model)

    @pytest.fixture
    def loaded(self, implementation: Backend, files: ModelFiles) -> Model:
        """A model with empty slots, loaded once for all tests of the class."""
        return self._emptied(0, implementation, files)

    @pytest.fixture
    def reference(self, implementation: Backend, files: ModelFiles) -> Model:
        """A second model of the same files, to compare with."""
        return self._emptied(1, implementation, files)

    @pytest.fixture
    def fresh(self, implementation: Backend, files: ModelFiles) -> Iterator[Model]:
        """A model of the test's own, which it may close."""
        self.require_usable()
        model = self.load(implementation, files)
        yield model
        model.close()

    def load(self, implementation: Backend, files: ModelFiles) -> Model:
        """Load with `options`, less those that the backend says it cannot honour."""
        options = self.options
        for _ in range(3):
            try:
                return implementation.load(files, options)
            except UnsupportedParameter as error:
                options = _without(options, error)
        return implementation.load(files, options)

    @contextmanager
    def deciding(self, otherwise: str) -> Iterator[None]:
        """Let the tests that follow skip, saying why, if what is done within fails."""
        try:
            yield
        except Exception:
            type(self)._unusable = otherwise
            raise

    def require_usable(self) -> None:
        """Skip the test if an earlier one found that no test can use the model."""
        if self._unusable:
            pytest.skip(self._unusable)

    def tokenizer_size(self, files: ModelFiles) -> int | None:
        """Return how many ids the tokenizer of `files` has, or None where no tokenizer is found."""
        try:
            own = _plugin_hook(self.plugin or self.backend, "phiplug_tokenizer")
            tokenizer = (own(files) if own else None) or load_tokenizer(files)
        except PhiplugError:
            return None
        return int(tokenizer.vocab_size)

    def _emptied(self, index: int, implementation: Backend, files: ModelFiles) -> Model:
        self.require_usable()
        while len(self._models) <= index:
            with self.deciding("load() failed, as reported above"):
                self._models.append(self.load(implementation, files))
        model = self._models[index]
        for slot in range(model.info.slots):
            model.rewind(slot, 0)
        return model


def _without(options: LoadOptions, refused: UnsupportedParameter) -> LoadOptions:
    """Return `options` less one that the backend cannot honour and the tests can do without."""
    match refused.name:
        case "slots":
            return replace(options, slots=1)
        case "threads":
            return replace(options, threads=None)
        case "ctx_size":
            return replace(options, ctx_size=None)
    raise refused


def find_backend(backend: str | Backend) -> Backend:
    """Find a backend by the name of its entry point, or of its module."""
    if isinstance(backend, Backend):
        return backend
    try:
        return Plugins.installed().backend(backend)
    except BackendNotFound:
        if not backend.isidentifier() or importlib.util.find_spec(backend) is None:
            raise
        registered = importlib.import_module(backend).phiplug_register_backends()
        if len(registered) != 1:
            raise BackendNotFound(f"{backend} registers {len(registered)} backends; name one of them") from None
        return registered[0]  # type: ignore[no-any-return]  # the module is found while running


def find_module(backend: str) -> str:
    """Return the import name of a plugin, given it or the name of its entry point."""
    entries = [plugin.entry for plugin in Plugins.installed().of(BACKENDS) if plugin.name == backend]
    return entries[0].module if entries else backend


def find_files(backend: str | Backend, model: str | Path | ModelFiles | None) -> ModelFiles:
    """Find a model's files: as they are given, as the backend's own plugin knows them, or as `phiplug run` would."""
    if isinstance(model, ModelFiles):
        return model
    if model is None:
        raise ModelNotFound("no model is named", hint="name one, or give the Backend a default_model")
    own = _plugin_hook(backend, "phiplug_find_model")
    found = own(str(model)) if own else None
    if isinstance(found, ModelFiles):
        return found
    return hub.resolve(str(model), aliases={name: alias.references for name, alias in ALIASES.items()})


def _plugin_hook(backend: str | Backend, hook: str) -> Any:  # Any: a function of a module found while running
    """Return the backend plugin's own implementation of a hook, or None."""
    return getattr(importlib.import_module(find_module(backend)), hook, None) if isinstance(backend, str) else None


def some_tokens(model: Model, count: int, seed: int = 0) -> list[int]:
    """Return `count` ids drawn from the whole vocabulary, always the same for a seed."""
    drawn: list[int] = np.random.default_rng(seed).integers(model.info.vocab_size, size=count).tolist()
    return drawn


def ask(model: Model, tokens: Sequence[int], *, slot: int = 0, rows: int = 1) -> Logits:
    """Append `tokens` to one slot in one pass and return a copy of the rows, which outlives the next pass."""
    return model.forward([Step(slot, tokens, rows)]).logits().copy()


def held(model: Model, slot: int) -> int:
    """Return how many tokens a slot holds, as the backend counts them."""
    return model.rewind(slot, model.info.context_length)


def require_slots(model: Model, count: int) -> None:
    """Skip the test where the model keeps fewer sequences apart."""
    if model.info.slots < count:
        pytest.skip(f"the backend keeps {model.info.slots} sequence(s) apart, and this takes {count}")
