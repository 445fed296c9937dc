"""The conformance tests, as one class that a backend author inherits."""

from __future__ import annotations

from phiplug.testing.cache import CacheTests
from phiplug.testing.guesses import GuessTests
from phiplug.testing.interleaving import InterleavingTests
from phiplug.testing.loading import LoadTests
from phiplug.testing.passes import PassTests
from phiplug.testing.plugin import PluginTests
from phiplug.testing.positions import PositionTests
from phiplug.testing.resources import ResourceTests


class BackendContract(
    ResourceTests, PositionTests, GuessTests, InterleavingTests, CacheTests, PassTests, LoadTests, PluginTests
):  # pytest runs the tests of the last base first: what fails first is nearest to the cause
    """Every requirement of `phiplug.spi`, as a test. Inherit it, name a backend and a model, run pytest:

        from phiplug.testing import BackendContract

        class TestMine(BackendContract):
            backend = "mine"
            model = "smollm2"

    Attributes:
        backend: the entry point's name, the plugin's import name, or a `Backend`.
        model: a reference as `--model` takes it, `ModelFiles`, or None for the backend's `default_model`. Where it
            comes from a fixture, override the fixture `files` instead.
        plugin: the import name of the plugin, where `backend` is a `Backend`.
        engines: modules that importing the plugin must not import, and that are hidden from its probe in one test.
        options: how to load; `slots`, `threads` and `ctx_size` are left out where the backend refuses them.
        chunking_tolerance: how far logits may differ with how a prompt of `prompt_tokens` is split, as
            `phiplug.testing.difference` counts: relative to the range of the row. At most TOLERANCE_CAP; 0 declares
            bit-equality.
        batching_tolerance: how far they may differ with what is computed in the other slots; likewise.
        long_prompt_tolerance: how far the last row of `long_prompt_tokens` may differ with the size of the chunks;
            likewise. It is apart, because engines turn to other kernels for passes of many tokens.
        prompt_tokens: the length of most prompts.
        long_prompt_tokens: the length of a long one.
        requests: how many are made to look for leaks, after a quarter as many that are not counted.
        leak_bytes_per_request: what the process may grow by for each.
        interleavings: how many orders of calls are tried.
        interleaving_steps: how many calls one of them has.
        long_positions: how far into a slot logits are compared, where the context is as long.
        probe_seconds: what `probe` may take.
    """
