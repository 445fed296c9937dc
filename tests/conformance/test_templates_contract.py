"""The backend that `plugins new --for gguf` writes keeps the contract as soon as its one method is written."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from tiny import byte_tokens, write_llama

from phiplug.errors import ModelUnsupported, UnsupportedParameter
from phiplug.plugins.templates import gguf, model, plugin
from phiplug.spi import Backend, LoadOptions, ModelFiles
from phiplug.testing import BackendContract


def compute(self, slot, tokens, rows):
    """Logits that depend on all that the slot holds, and on nothing else."""
    held = [*self._held[slot], *tokens]
    seeds = [zlib.crc32(repr(held[:end]).encode()) for end in range(len(held) - rows + 1, len(held) + 1)]
    found = [np.random.default_rng(seed).normal(0, 3, self.info.vocab_size) for seed in seeds]
    return np.array(found, np.float32).reshape(rows, self.info.vocab_size)


@pytest.fixture(autouse=True)
def written(monkeypatch):
    monkeypatch.setattr(model.ExampleModel, "compute", compute)


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory):
    path = write_llama(tmp_path_factory.mktemp("template") / "tiny.gguf", byte_tokens())
    return ModelFiles("tiny", path, "gguf")


class TestTheTemplate(BackendContract):
    backend = Backend("example", "a new backend", plugin.probe, plugin.accepts, plugin.load, api=2)
    plugin = "phiplug.plugins.templates.plugin"
    engines = ()

    @pytest.fixture
    def files(self, tiny_llama):
        return tiny_llama


def test_another_architecture_is_refused_by_name(tiny_llama, monkeypatch):
    monkeypatch.setattr(gguf, "ARCHITECTURES", ("phi3",))
    with pytest.raises(ModelUnsupported, match="architecture llama"):
        gguf.load(tiny_llama, LoadOptions())


def test_a_context_beyond_the_models_is_refused(tiny_llama):
    with pytest.raises(UnsupportedParameter, match="257 is more than the model's 256"):
        gguf.load(tiny_llama, LoadOptions(ctx_size=257))
