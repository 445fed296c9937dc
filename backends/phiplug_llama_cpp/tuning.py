"""A number of threads that is still being found, and where it is remembered.

For a day: what else a machine does changes, and a number that was right beside a compiler is wrong without it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from phiplug.spi import Memo
from phiplug_llama_cpp.threads import ThreadChoice


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the number of threads is chosen, and where that is remembered.

    Attributes:
        choice: what is known so far.
        memo: where it is remembered, or None.
        key: under which name: of the machine and the model.
    """

    choice: ThreadChoice
    memo: Memo | None
    key: str

    @classmethod
    def recall(cls, candidates: tuple[int, ...], memo: Memo | None, key: str) -> Tuning:
        """Start from what was remembered today, or from nothing."""
        remembered = memo.recall(key) if memo else None
        if not isinstance(remembered, Mapping) or remembered.get("day") != _today():
            remembered = {}
        return cls(ThreadChoice(candidates, remembered.get("seconds")), memo, key)

    def learn(self) -> None:
        """Weigh the passes since the last call, and remember what they changed."""
        if self.choice.settle() and self.memo is not None:
            self.memo.remember(self.key, {"day": _today(), "seconds": self.choice.to_json()})


def _today() -> str:
    return time.strftime("%Y-%m-%d")
