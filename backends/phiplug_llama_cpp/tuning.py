"""A number of threads that is still being found, and where it is remembered.

What else a machine does changes, and a number that was right beside a compiler is wrong without it. All cores being the
fastest holds for a day; fewer being faster is what something else that runs looks like, and holds for minutes. The
number itself stays until others have been tried.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from phiplug.spi import Cache
from phiplug_llama_cpp.threads import ThreadChoice

DAY = 86_400.0  # seconds
MINUTES = 600.0


class Tuning:
    """How the number of threads is chosen, and where that is remembered.

    Attributes:
        choice: what is known so far.
        cores: how many threads a prompt is computed with, whatever `choice` says of single tokens.
    """

    def __init__(self, candidates: tuple[int, ...], cache: Cache | None, key: str) -> None:
        """Start from what `cache` holds under `key`, the name of the machine and the model."""
        remembered = cache.get(key) if cache else None
        if not isinstance(remembered, Mapping):
            remembered = {}
        self.cores = candidates[0]
        self.choice = ThreadChoice(candidates, remembered.get("seconds"))
        self._cache, self._key = cache, key
        since = remembered.get("since")
        self._since = since if isinstance(since, float) else 0.0
        self._let_go_of_what_is_old()

    def learn(self) -> None:
        """Weigh the passes since the last call, and remember what they changed."""
        self._let_go_of_what_is_old()
        if self.choice.settle() and self._cache is not None:
            self._cache.set(self._key, {"since": self._since, "seconds": self.choice.to_json()})

    def _let_go_of_what_is_old(self) -> None:
        now = time.time()
        lifetime = DAY if self.choice.fastest == self.cores else MINUTES
        if not 0 <= now - self._since < lifetime:  # a clock that was set back tells nothing
            self._since = now
            self.choice.forget()
