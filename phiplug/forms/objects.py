"""What the bodies of /v1/chat/completions and /v1/completions have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from phiplug.forms.answers import total_usage
from phiplug.forms.spelling import Spelling, usage

if TYPE_CHECKING:
    from phiplug.forms.answers import Answer
    from phiplug.forms.problems import Json


@dataclass(frozen=True, slots=True)
class Head:
    """What every object of one answer repeats.

    Attributes:
        id: of the answer.
        created: in seconds of Unix time.
        model: the name that is served.
        system_fingerprint: of what computed it.
    """

    id: str
    created: int
    model: str
    system_fingerprint: str

    def object(self, kind: str) -> Json:
        """Return the beginning of an object of this kind."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }


@dataclass(frozen=True, slots=True)
class Body(ABC):
    """One answer, whole.

    Attributes:
        head: what all of its objects repeat.
        choices: how many there are of each prompt.
        spelling: writes log-probabilities, or None where they were not asked for.
    """

    KIND: ClassVar[str]

    head: Head
    choices: int
    spelling: Spelling | None

    def whole(self, answers: Sequence[Answer]) -> Json:
        """Return the object of an answer that is not streamed."""
        return {
            **self.head.object(self.KIND),
            "choices": [self.choice(index, answers) for index in range(len(answers))],
            "usage": self.usage(answers),
        }

    @abstractmethod
    def choice(self, index: int, answers: Sequence[Answer]) -> Json:
        """Return the object of the answer number `index`."""

    def usage(self, answers: Sequence[Answer]) -> Json:
        """Return the token counts of all answers."""
        return usage(total_usage(answers, self.choices))
