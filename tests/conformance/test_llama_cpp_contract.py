"""The llama.cpp backend keeps every promise on real weights: SmolLM2-135M-Instruct in Q4_1, one thread.

Beside others a slot is bit-equal, for each has a stream of key-value cells of its own. With how a prompt is split,
logits move: llama.cpp multiplies one row and many by different kernels.
"""

import pytest

from phiplug.spi import ModelFiles
from phiplug.testing import BackendContract


@pytest.mark.usefixtures("llama_cpp")
class TestLlamaCpp(BackendContract):
    backend = "llama-cpp"
    chunking_tolerance = 0.02
    batching_tolerance = 0.0
    requests = 200

    @pytest.fixture
    def files(self, smollm2):
        return ModelFiles("smollm2", smollm2, "gguf")
