"""The Candle backend keeps phiplug's contract, with the families and the types of weights that it was written for."""

from __future__ import annotations

import ast
from pathlib import Path

import gguf
import pytest
from small_models import SmallModel
from tiny_architectures import Tiny, blocks, write

import phiplug_candle
from phiplug.spi import ModelFiles
from phiplug.testing import BackendContract

Type = gguf.GGMLQuantizationType
WIDE = {
    "embedding": 256,
    "feed_forward": 512,
    "heads": 8,
    "groups": 4,
    "head": 32,
    "rotated": 32,
}  # whole blocks of 256


class TestLlama(BackendContract):
    backend = "phiplug_candle"
    family = "llama"
    kind = Type.F32
    chunking_tolerance = 1e-4
    batching_tolerance = 1e-4
    long_prompt_tolerance = 1e-4

    @pytest.fixture
    def files(self, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
        """A small model in the place of `default_model`."""
        path: Path = tmp_path_factory.getbasetemp() / f"small-{self.family}-{self.kind.name}.gguf"
        if not path.exists():
            SmallModel(self.family, quantized=self.kind, **({} if self.kind is Type.F32 else WIDE)).write(path)
        return ModelFiles("small", path, "gguf")


class TestPhi3(TestLlama):
    family = "phi3"


class Quantized(TestLlama):
    chunking_tolerance = batching_tolerance = long_prompt_tolerance = 0.02


class TestLlamaQ8(Quantized):
    kind = Type.Q8_0


class TestPhi3Q8(Quantized):
    family, kind = "phi3", Type.Q8_0


class TestLlamaQ41(Quantized):
    kind = Type.Q4_1


class TestPhi3Q41(Quantized):
    family, kind = "phi3", Type.Q4_1


class TestLlamaQ4K(Quantized):
    """Of types that the gguf package cannot quantize to, so the blocks are random."""

    kinds = ("Q4_K",)

    @pytest.fixture
    def files(self, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
        """A small model in the place of `default_model`."""
        path: Path = tmp_path_factory.getbasetemp() / f"small-{self.family}-{'-'.join(self.kinds)}.gguf"
        if not path.exists():
            tiny = Tiny(self.family, hidden=256, heads=8, kv_heads=4, head_dim=32, feed_forward=512, tied=False)
            write(path, tiny, replaced=blocks(tiny, self.kinds, seed=3)[0])
        return ModelFiles("small", path, "gguf")


class TestPhi3Q4K(TestLlamaQ4K):
    family = "phi3"


class TestQuantizationsInOneLayer(TestLlamaQ4K):
    kinds = ("Q4_K", "Q6_K", "Q5_K")


class TestRowsThatDependOnNothingElse(TestLlamaQ4K):
    kinds = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K")


class TestQwen3(TestLlamaQ4K):
    family = "qwen3"


def test_it_imports_of_phiplug_what_is_made_for_plugins() -> None:
    sources = Path(phiplug_candle.__file__).parent.glob("*.py")
    nodes = [node for source in sources for node in ast.walk(ast.parse(source.read_text()))]
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    assert {name for name in modules if name.split(".")[0] == "phiplug"} == {
        "phiplug.checks",
        "phiplug.deferred",
        "phiplug.errors",
        "phiplug.gguf",
        "phiplug.gguf.hyperparameters",
        "phiplug.gguf.rotary",
        "phiplug.spi",
    }
