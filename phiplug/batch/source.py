"""Reads the lines of an input, each numbered, hashed and of a bounded size: JSON Lines, or a column of a table.

A record of a table becomes the JSON line that says the same. It does not know what a line asks for.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from phiplug.errors import InvalidParameter, NotInstalled
from phiplug.userfiles import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST = 8 * 2**20
"""Bytes of a line, as many as of a body in `phiplug serve`. What is beyond is read, hashed and not kept."""

_TABLES = {".csv": ",", ".tsv": "\t"}
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, OSError)


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        number: from 1; of a record that has several lines, that of its first.
        data: its bytes without the line's end; empty where `problem` says what is wrong with it.
        digest: 16 hexadecimal digits of the SHA-256 of all its bytes.
        problem: why it cannot be read, or empty.
    """

    number: int
    data: bytes
    digest: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        prompt: the column of the prompts.
        custom_id: the column of the ids, or None.
    """

    prompt: str = "prompt"
    custom_id: str | None = None

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [self.prompt, *([self.custom_id] if self.custom_id else [])]

    def line(self, number: int, prompt: object, custom_id: object = None) -> Line:
        """Return the line that says what a record says."""
        named = {} if self.custom_id is None else {"custom_id": custom_id}
        data = json.dumps({**named, "prompt": prompt}).encode()
        return Line(number, data, digest_of(data)) if len(data) <= LONGEST else _too_long(number, digest_of(data))


@dataclass(frozen=True, slots=True)
class Source:
    """An input: a file, or standard input for "-".

    Attributes:
        path: as the user wrote it.
        columns: of a table.
    """

    path: str
    columns: Columns = Columns()

    @property
    def is_pipe(self) -> bool:
        """Whether it can be read once only."""
        path = expanded(self.path)
        return self.path == "-" or (path.exists() and not path.is_file() and not path.is_dir())

    @property
    def size(self) -> int | None:
        """How many bytes it has, where that is known."""
        return None if self.is_pipe else expanded(self.path).stat().st_size

    @contextmanager
    def lines(self) -> Iterator[Reading]:
        """Open it and read its lines.

        Raises:
            InvalidParameter: it cannot be opened, or has not the columns that are asked for; or it is damaged, where
                that shows while it is read.
            NotInstalled: it is Parquet, and pyarrow is missing.
        """
        if self.path == "-" and sys.stdin is None:
            raise InvalidParameter("input", "standard input is closed")
        try:
            opened = cast("IO[bytes]", sys.stdin.buffer if self.path == "-" else expanded(self.path).open("rb"))
        except OSError as error:
            raise InvalidParameter("input", f"{self.path} cannot be read: {error.strerror}") from None
        try:
            yield Reading(opened, self._read(opened))
        finally:
            if self.path != "-":
                opened.close()

    def _read(self, opened: IO[bytes]) -> Iterator[Line]:
        at, name = 0, Path(self.path)
        packed = name.suffix == ".gz"
        kind = Path(name.stem).suffix if packed else name.suffix
        if kind == ".parquet":
            yield from _parquet(self.path, opened, self.columns)
            return
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=opened)) if packed else opened
        found = _records(file, _TABLES[kind], self.columns) if kind in _TABLES else json_lines(file)
        try:
            for line in found:
                at = line.number
                yield line
        except _DAMAGED as error:
            raise InvalidParameter("input", f"{self.path} cannot be read beyond line {at}: {error}") from None


class Reading:
    """The lines of an input that is open."""

    def __init__(self, opened: IO[bytes], lines: Iterator[Line]) -> None:
        self._opened = opened
        self._lines = lines

    def __iter__(self) -> Iterator[Line]:
        return self._lines

    @property
    def position(self) -> int:
        """How many of the input's bytes were read, about."""
        try:
            return self._opened.tell()
        except OSError:  # a pipe
            return 0


def digest_of(data: bytes) -> str:
    """Return the digest of a line."""
    return hashlib.sha256(data).hexdigest()[:16]


def json_lines(file: IO[bytes], longest: int = LONGEST) -> Iterator[Line]:
    """Yield the lines of a file of JSON Lines; a byte order mark is no part of the first."""
    for number, (data, digest, whole) in enumerate(_bounded(file, longest), 1):
        yield Line(number, data, digest) if whole else _too_long(number, digest)


def _bounded(file: IO[bytes], longest: int) -> Iterator[tuple[bytes, str, bool]]:
    """Yield each line without its end, with its digest, and whether it is all of it; what is too long is not kept."""
    first = True
    while piece := file.readline(longest + 2):
        if first:
            piece, first = piece.removeprefix(b"\xef\xbb\xbf"), False
        if len(piece.rstrip(b"\r\n")) <= longest and (piece.endswith(b"\n") or len(piece) <= longest):
            data = piece.removesuffix(b"\n").removesuffix(b"\r")
            yield data, digest_of(data), True
            continue
        hashed = hashlib.sha256(piece)
        while not piece.endswith(b"\n") and (piece := file.readline(2**16)):
            hashed.update(piece)
        yield b"", hashed.hexdigest()[:16], False


def _too_long(number: int, digest: str) -> Line:
    return Line(number, b"", digest, f"the line is longer than {LONGEST / 2**20:g} MiB")


def _records(file: IO[bytes], delimiter: str, columns: Columns) -> Iterator[Line]:
    """Yield the records of CSV as lines; the first one has the names of the columns."""
    csv.field_size_limit(LONGEST)
    at, cut = 0, []

    def texts() -> Iterator[str]:
        nonlocal at
        for data, digest, whole in _bounded(file, LONGEST):
            at += 1
            if not whole:
                cut.append(digest)
            yield data.decode("utf-8", "surrogateescape") + "\n"

    rows = csv.reader(texts(), delimiter=delimiter)
    header = next(rows, [])
    places = _places(header, columns)
    while True:
        number = at + 1
        cut.clear()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(number, b"", digest_of(str(error).encode()), f"the record is not CSV: {error}")
            continue
        if cut:
            yield _too_long(number, cut[0])
        else:
            cells = [row[place] if place < len(row) else None for place in places]
            yield columns.line(number, *cells) if row else Line(number, b"", digest_of(b""))


def _places(header: Sequence[str], columns: Columns) -> list[int]:
    for name in columns.names:
        if name not in header:
            known = ", ".join(header)[:200] or "none"
            raise InvalidParameter("column", f"there is no column {name!r}", hint=f"its columns: {known}")
    return [header.index(name) for name in columns.names]


def _parquet(path: str, opened: IO[bytes], columns: Columns) -> Iterator[Line]:
    """Yield the records of a Parquet file as lines; their numbers count records."""
    try:
        from pyarrow import parquet  # type: ignore[import-not-found, unused-ignore]
        from pyarrow.lib import ArrowException  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise NotInstalled("Parquet is read by pyarrow", hint="pip install 'phiplug[parquet]'") from None
    number = 0
    try:
        file = parquet.ParquetFile(opened)
        _places(file.schema_arrow.names, columns)
        for batch in file.iter_batches(batch_size=64, columns=columns.names):
            for record in batch.to_pylist():
                number += 1
                yield columns.line(number, *(_plain(record[name]) for name in columns.names))
    except (ArrowException, OSError) as error:
        said = str(error).partition("\n")[0]
        raise InvalidParameter("input", f"{path} cannot be read beyond record {number}: {said}") from None


def _plain(value: Any) -> Any:  # Any: what a column holds
    """Return what JSON can hold; anything else is its text, which no field of a request takes."""
    return value if isinstance(value, str | int | float | bool | None) else {"no text": str(value)[:100]}
