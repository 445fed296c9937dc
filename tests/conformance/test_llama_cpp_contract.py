"""The llama.cpp backend passes the conformance tests on real weights: SmolLM2-135M-Instruct in Q4_1, one thread.

Beside others a slot is bit-equal, for each has a stream of key-value cells of its own. With how a prompt is split,
logits were bit-equal too in passes of fewer than 64 tokens. From there on llama.cpp computes attention in tiles, and
the last rows of 80 to 128 tokens were 0.02 to 0.04 of their range apart, as measured on AVX2.
"""

import pytest

from phiplug.spi import ModelFiles
from phiplug.testing import BackendContract


@pytest.mark.usefixtures("llama_cpp")
class TestLlamaCpp(BackendContract):
    backend = "llama-cpp"
    chunking_tolerance = 0.01
    batching_tolerance = 0.0
    long_prompt_tolerance = 0.06
    requests = 100
    interleavings = 8
    interleaving_steps = 14

    @pytest.fixture
    def files(self, smollm2):
        return ModelFiles("smollm2", smollm2, "gguf")
