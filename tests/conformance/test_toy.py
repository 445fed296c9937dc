"""The toy backend passes the conformance tests, and exactly: its logits do not depend on chunks or neighbours."""

from phiplug.testing import BackendContract


class TestToy(BackendContract):
    backend = "toy"
    model = "toy"
    chunking_tolerance = 0.0
    batching_tolerance = 0.0
    long_prompt_tolerance = 0.0
    interleavings = 40
    interleaving_steps = 30
