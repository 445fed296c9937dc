"""phiplug: run a language model through any engine, and have only the hardware change."""

from __future__ import annotations

__version__ = "0.1.0"
