"""A number of threads that is still being found, and where it is remembered.

Measurements hold for a day: what else a machine does changes, and a number that was right beside a compiler is wrong
without it. The number itself stays until others have been tried.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from phiplug.spi import Cache
from phiplug_llama_cpp.threads import ThreadChoice


class Tuning:
    """How the number of threads is chosen, and where that is remembered.

    Attributes:
        choice: what is known so far.
    """

    def __init__(self, candidates: tuple[int, ...], cache: Cache | None, key: str) -> None:
        """Start from what `cache` holds under `key`, the name of the machine and the model."""
        remembered = cache.get(key) if cache else None
        if not isinstance(remembered, Mapping):
            remembered = {}
        self.choice = ThreadChoice(candidates, remembered.get("seconds"))
        self._cache, self._key, self._day = cache, key, remembered.get("day")
        self._let_go_of_yesterday()

    def learn(self) -> None:
        """Weigh the passes since the last call, and remember what they changed."""
        self._let_go_of_yesterday()
        if self.choice.settle() and self._cache is not None:
            self._cache.set(self._key, {"day": self._day, "seconds": self.choice.to_json()})

    def _let_go_of_yesterday(self) -> None:
        today = time.strftime("%Y-%m-%d")
        if self._day != today:
            self._day = today
            self.choice.forget()
