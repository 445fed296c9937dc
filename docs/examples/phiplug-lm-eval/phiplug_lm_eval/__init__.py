"""Makes lm-evaluation-harness know the model `phiplug`; importing this registers it.

The harness finds no plugins by itself, so `main` is its command line with that import before it.
"""

from __future__ import annotations

from lm_eval.__main__ import cli_evaluate

from phiplug_lm_eval.model import PhiplugLM

__all__ = ["PhiplugLM", "main"]


def main() -> None:
    """Run the harness's command line."""
    cli_evaluate()
