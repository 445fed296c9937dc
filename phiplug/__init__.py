"""phiplug: run a language model through any engine, and have only the hardware change.

import phiplug

with phiplug.load("smollm2", backend="llama-cpp") as llm:
    for chunk in llm.stream("Write a haiku about ice hockey.", seed=7):
        print(chunk.text, end="", flush=True)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from phiplug.errors import PhiplugError, PhiplugWarning
from phiplug.load import load
from phiplug.types import (
    Chunk,
    Completion,
    Constraint,
    LogitsProcessor,
    Message,
    Request,
    SamplingParams,
    Timings,
    Tool,
    ToolCall,
    Usage,
)

if TYPE_CHECKING:
    from phiplug.conversation import Conversation
    from phiplug.llm import LLM, Stream

__version__ = "0.1.0"
__all__ = [
    "LLM",
    "Chunk",
    "Completion",
    "Constraint",
    "Conversation",
    "LogitsProcessor",
    "Message",
    "PhiplugError",
    "PhiplugWarning",
    "Request",
    "SamplingParams",
    "Stream",
    "Timings",
    "Tool",
    "ToolCall",
    "Usage",
    "load",
]


_LATE = {"LLM": "phiplug.llm", "Stream": "phiplug.llm", "Conversation": "phiplug.conversation"}


def __getattr__(name: str) -> Any:  # Any: a class; these bring numpy and tokenizers with them, so they wait
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
