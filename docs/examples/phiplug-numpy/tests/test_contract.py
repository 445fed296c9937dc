"""The backend passes the conformance tests and stays outside of phiplug: this is all that an author has to write."""

import ast
from pathlib import Path

import phiplug_numpy
import pytest
from small_models import SmallModel

from phiplug.spi import ModelFiles
from phiplug.testing import BackendContract


class TestLlama(BackendContract):
    backend = "numpy"
    family = "llama"
    engines = (*BackendContract.engines, "numpy")  # to this plugin, NumPy is the engine
    chunking_tolerance = 1e-5  # matrices of other shapes are summed in another order
    batching_tolerance = 0.0  # each slot is computed on its own

    @pytest.fixture
    def files(self, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
        """A small model in the place of `default_model`, which would take minutes."""
        path: Path = tmp_path_factory.getbasetemp() / f"small-{self.family}.gguf"
        if not path.exists():
            SmallModel(self.family, context=1024).write(path)
        return ModelFiles("small", path, "gguf")


class TestPhi3(TestLlama):
    family = "phi3"


def test_it_imports_of_phiplug_what_is_made_for_plugins() -> None:
    sources = Path(phiplug_numpy.__file__).parent.glob("*.py")
    nodes = [node for source in sources for node in ast.walk(ast.parse(source.read_text()))]
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name for name in modules if name.split(".")[0] == "phiplug"} == {
        "phiplug.checks",
        "phiplug.deferred",
        "phiplug.errors",
        "phiplug.gguf",
        "phiplug.gguf.hyperparameters",
        "phiplug.gguf.rotary",
        "phiplug.spi",
    }
