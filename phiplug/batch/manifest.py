"""What an output says of the run that wrote it: its rows, and beside it a file with the batch's terms.

`--resume` compares both with what is asked now. It writes no rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from phiplug.batch.seeds import key_of
from phiplug.batch.tasks import hashed
from phiplug.errors import InvalidParameter
from phiplug.userfiles import read_text, write_text

if TYPE_CHECKING:
    from phiplug.batch.tasks import Task

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What all rows of an output have in common.

    Attributes:
        created: when the batch began, in seconds of Unix time.
        terms: what was asked: the seed, how prompts are read.
        computed_by: the model, the engine, the processor, the threads. The same text comes only of the same.
    """

    created: int
    terms: dict[str, Any] = field(default_factory=dict)  # Any: texts and numbers
    computed_by: dict[str, Any] = field(default_factory=dict)  # Any: as above

    def write(self, path: Path) -> None:
        """Write it beside the output.

        Raises:
            InvalidParameter: it cannot be written.
        """
        write_text("output", path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read that of an earlier run.

        Raises:
            InvalidParameter: it is not there, or is damaged.
        """
        if not path.is_file():
            raise InvalidParameter("output", f"{path} is missing, which says how the rows were computed")
        try:
            found = json.loads(read_text("output", path))
            known = cls(**{name: found[name] for name in ("created", "terms", "computed_by")})
        except (ValueError, KeyError, TypeError):
            found, known = {}, cls(0)
        if found.get("format") != FORMAT:
            raise InvalidParameter("output", f"{path} is damaged, or of another version of phiplug")
        return known

    def require(self, now: Manifest, *, mixed: bool) -> None:
        """Refuse to go on under other terms, or on something else unless rows may be `mixed`.

        Raises:
            InvalidParameter: it names what is different.
        """
        for name, was in self.terms.items():
            if now.terms.get(name) != was:
                said = f"the rows that are there have {name} {was}, and this run {now.terms.get(name)}"
                raise InvalidParameter("resume", said, hint="give the same")
        for name, was in self.computed_by.items():
            if now.computed_by.get(name) != was and not mixed:
                said = f"the rows that are there were computed with {name} {was}, and now it is"
                hint = "`mixed` lets rows differ, and each says what computed it"
                raise InvalidParameter("resume", f"{said} {now.computed_by.get(name)}", hint=hint)


def manifest_path(output: Path) -> Path:
    """Return where the terms of an output are kept."""
    return output.with_name(output.name + ".batch")


class Done:
    """The lines that have a row already, each with its digest.

    Attributes:
        met: how many of them were seen in the input.
    """

    def __init__(self) -> None:
        self._digests: dict[bytes, str] = {}
        self.met = 0

    def __len__(self) -> int:
        return len(self._digests)

    @classmethod
    def of(cls, file: IO[bytes], name: str) -> tuple[Done, int]:
        """Read the rows of an output; return them, and where the last whole one ends.

        Raises:
            InvalidParameter: a line is no row of a batch, or two are of one line of the input.
        """
        done, end = cls(), 0
        for number, line in enumerate(file, 1):
            key, digest = _row_of(line)
            if key is None:
                if file.read(1):
                    raise InvalidParameter("output", f"line {number} of {name} is no row of a batch")
                break  # the last line, which was being written
            if key in done._digests:
                raise InvalidParameter("output", f"line {number} of {name} repeats a row")
            done._digests[key] = digest
            end += len(line)
        return done, end

    def has(self, task: Task) -> bool:
        """Whether a line has its row.

        Raises:
            InvalidParameter: it has, and said something else then.
        """
        known = self._digests.get(task.key)
        if known is None:
            return False
        if known != task.digest:
            raise InvalidParameter("input", f"line {task.line} is not what it was when its row was computed")
        self.met += 1
        return True

    def missing(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Yield those that have no row yet; raises as `has` and `require_all_met` do."""
        self.met = 0
        for task in tasks:
            if not self.has(task):
                yield task
        self.require_all_met()

    def require_all_met(self) -> None:
        """Refuse an input that lacks lines whose rows are there.

        Raises:
            InvalidParameter: it does.
        """
        if self.met < len(self):
            raise InvalidParameter("input", f"{len(self) - self.met} rows of the output are of none of its lines")


def _row_of(line: bytes) -> tuple[bytes | None, str]:
    """Return the key and the digest of a row, or None for what is no whole row."""
    if not line.endswith(b"\n"):
        return None, ""
    try:
        row = json.loads(line)
        return hashed(key_of(row["custom_id"], row["line"])), str(row["digest"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, ""
