"""Makes the command line `llm` know phiplug's models; it finds this file through its entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import llm

from llm_phiplug.model import PhiplugModel
from phiplug.models.aliases import ALIASES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PhiplugModel", "register_models"]


@llm.hookimpl
def register_models(register: Callable[[llm.Model], None]) -> None:
    """Register a model for each of phiplug's short names, and `phiplug`, whose option `model` names any other."""
    register(PhiplugModel("phiplug", None))
    for name in ALIASES:
        register(PhiplugModel(f"phiplug/{name}", name))
