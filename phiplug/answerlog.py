"""The log of answers: what was asked and what came back, in a SQLite file for this user's eyes.

It knows no models and prints nothing. Full-text search is SQLite's FTS5; where that is missing, or finds nothing, rows
are compared one by one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phiplug.errors import LogFailed
from phiplug.printable import shortened

if TYPE_CHECKING:
    import sqlite3

LONGEST = 2**20  # characters of a text that is kept whole; an index of more takes longer than an answer
LARGEST_JOURNAL = 2**20  # bytes; reading them takes a millisecond when the log is opened
WAIT_S = 1.0  # for another process that writes; it holds the lock for a millisecond

_SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (id INTEGER PRIMARY KEY, messages TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
  id INTEGER PRIMARY KEY, time REAL NOT NULL, command TEXT NOT NULL, conversation INTEGER, model TEXT NOT NULL,
  backend TEXT NOT NULL, system TEXT, prompt TEXT NOT NULL, answer TEXT NOT NULL, reasoning TEXT NOT NULL,
  details TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS of_conversation ON answers (conversation);
CREATE TABLE IF NOT EXISTS indexed (id INTEGER NOT NULL);
INSERT INTO indexed SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM indexed);
"""
_INDEX = """
CREATE VIRTUAL TABLE IF NOT EXISTS answers_text USING fts5(
  prompt, answer, system, content='answers', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
);
"""
VERSION = 1


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """An answer, and what it answers.

    Attributes:
        command: "run" or "chat".
        model: its reference.
        backend: what computed it.
        prompt: the user's message, or the whole text where it was raw.
        answer: the text that came.
        system: the system message, or None.
        reasoning: what came before the answer.
        details: the seed, how many tokens, how fast, ..., as JSON has them.
        conversation: which one it belongs to, or None.
        time: seconds since 1970; 0 stands for now.
        id: its number, once it is in the log.
    """

    command: str
    model: str
    backend: str
    prompt: str
    answer: str
    system: str | None = None
    reasoning: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)  # Any: what JSON holds
    conversation: int | None = None
    time: float = 0.0
    id: int = 0


@dataclass(frozen=True, slots=True)
class LoggedConversation:
    """A conversation: the messages that it began with, as JSON has them, and the answers since, none of them undone."""

    id: int
    messages: Sequence[Mapping[str, Any]]  # Any: what JSON holds
    answers: Sequence[LoggedAnswer]


_COLUMNS = tuple(each.name for each in fields(LoggedAnswer))
_ROWS = f"SELECT {', '.join(_COLUMNS)} FROM answers"  # noqa: S608  names of our own
_ADD = f"INSERT INTO answers ({', '.join(_COLUMNS[:-1])}) VALUES ({', '.join('?' * (len(_COLUMNS) - 1))})"  # noqa: S608


class AnswerLog:
    """An open log. Every failure is a `LogFailed`.

    One thread at a time may use it, and not only the one that opened it.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, *, wait_s: float = WAIT_S) -> None:
        """Open the file, and make it where there is none; wait so long for another process that writes."""
        import sqlite3  # 4 ms

        self.path = path
        with self._failing():
            _make(path)
            self._database = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
        self._keeper: sqlite3.Connection | None = None
        try:
            with self._failing():
                self._prepare()
                self._keep_journal()
        except BaseException:
            self._database.close()
            raise

    def add(self, answer: LoggedAnswer) -> int:
        """Keep an answer, and return its number."""
        values = {name: getattr(answer, name) for name in _COLUMNS[:-1]}
        kept = {name: shortened(value, LONGEST) if isinstance(value, str) else value for name, value in values.items()}
        kept |= {"time": answer.time or time.time(), "details": json.dumps(dict(answer.details), ensure_ascii=False)}
        with self._failing(), self._transaction():
            number = self._database.execute(_ADD, list(kept.values())).lastrowid or 0
            self._index()
        return number

    def begin_conversation(self, messages: Sequence[Mapping[str, Any]] = ()) -> int:  # Any: what JSON holds
        """Return the number of a new conversation that begins with these messages."""
        with self._failing():
            said = json.dumps(list(messages), ensure_ascii=False)
            return self._database.execute("INSERT INTO conversations (messages) VALUES (?)", [said]).lastrowid or 0

    def undo(self, number: int) -> None:
        """Take an answer out of its conversation; the log keeps it."""
        with self._failing():
            self._database.execute("UPDATE answers SET undone = 1 WHERE id = ?", [number])

    def newest(self, count: int) -> list[LoggedAnswer]:
        """Return the newest answers, the newest first."""
        return self._answers("ORDER BY id DESC LIMIT ?", [count])

    def get(self, number: int) -> LoggedAnswer | None:
        """Return the answer of a number, or None."""
        return next(iter(self._answers("WHERE id = ?", [number])), None)

    def search(self, words: Sequence[str], count: int) -> list[LoggedAnswer]:
        """Return the newest answers that have all the words in them or in what was asked, the newest first.

        A word finds those that begin with it; where none do, those that have it anywhere.
        """
        wanted = [word for text in words for word in text.split()]
        if not wanted:
            return []
        return (self._matching(wanted, count) if self._has_index else []) or self._containing(wanted, count)

    def conversation(self, number: int | None = None) -> LoggedConversation | None:
        """Return a conversation, or the one with the newest answer; None where there is none."""
        which = "WHERE conversation = ?" if number else "WHERE conversation IS NOT NULL ORDER BY id DESC LIMIT 1"
        found = self._answers(which, [number] if number else [])
        if not found:
            return None
        key = found[0].conversation or 0
        with self._failing():
            row = self._database.execute("SELECT messages FROM conversations WHERE id = ?", [key]).fetchone()
            began = json.loads(row[0]) if row else []
        return LoggedConversation(key, began, self._answers("WHERE conversation = ? AND NOT undone ORDER BY id", [key]))

    def close(self) -> None:
        """Close the file. May be called twice."""
        with self._failing():
            self._database.close()
            if self._keeper:
                self._keeper.close()

    def _prepare(self) -> None:
        import sqlite3

        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("PRAGMA wal_autocheckpoint = 0")  # see _keep_journal
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise LogFailed(f"the log {self.path} is of a newer phiplug (form {version})", hint="--no-log leaves it be")
        if version < VERSION:
            self._database.execute("PRAGMA journal_mode = WAL")  # no wait for the disk at each answer
            self._database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            with contextlib.suppress(sqlite3.OperationalError):  # this SQLite has no FTS5
                self._database.execute(_INDEX)
        found = self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers_text'").fetchone()
        self._has_index = bool(found) and _has_fts5(self._database)

    def _keep_journal(self) -> None:
        """Let closing leave SQLite's journal of what was added where it is, until it is large.

        The last connection that closes would merge it into the file and wait for the disk, 10 ms and more; one that may
        only read does not. What is in the journal survives a crash of the machine, or is lost whole.
        """
        import sqlite3

        journal = self.path.with_name(f"{self.path.name}-wal")
        if journal.exists() and journal.stat().st_size < LARGEST_JOURNAL:
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            self._keeper = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._keeper.execute("SELECT id FROM indexed").fetchall()

    def _index(self) -> None:
        """Index what is new; it may be more than one answer where another SQLite without FTS5 wrote."""
        if self._has_index:
            new = "FROM answers WHERE id > (SELECT id FROM indexed)"
            self._database.execute(
                f"INSERT INTO answers_text (rowid, prompt, answer, system) SELECT id, prompt, answer, system {new}"
            )
            self._database.execute("UPDATE indexed SET id = (SELECT coalesce(max(id), 0) FROM answers)")

    def _matching(self, words: Sequence[str], count: int) -> list[LoggedAnswer]:
        query = " ".join('"' + word.replace('"', '""') + '"*' for word in words)
        within = "WHERE id IN (SELECT rowid FROM answers_text WHERE answers_text MATCH ? ORDER BY rowid DESC LIMIT ?)"
        return self._answers(f"{within} ORDER BY id DESC", [query, count])

    def _containing(self, words: Sequence[str], count: int) -> list[LoggedAnswer]:
        one = "(prompt || char(10) || answer || char(10) || coalesce(system, '')) LIKE ? ESCAPE '!'"
        patterns = [f"%{_literal(word)}%" for word in words]
        return self._answers(f"WHERE {' AND '.join([one] * len(words))} ORDER BY id DESC LIMIT ?", [*patterns, count])

    def _answers(self, rest: str, values: Sequence[object]) -> list[LoggedAnswer]:
        with self._failing():
            rows = self._database.execute(f"{_ROWS} {rest}", values).fetchall()
            named = (dict(zip(_COLUMNS, row, strict=True)) for row in rows)
            return [LoggedAnswer(**{**each, "details": json.loads(each["details"])}) for each in named]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        import sqlite3

        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite itself may have gone back already, as for a full disk
                self._database.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Name the file and the cause of what fails."""
        import sqlite3

        try:
            yield
        except (OSError, sqlite3.Error, ValueError) as error:
            cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise LogFailed(f"the log {self.path} cannot be used: {cause}") from None


def _make(path: Path) -> None:
    """Make the file, if there is none, for its owner alone; SQLite gives the files beside it the same permissions."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _has_fts5(database: Any) -> bool:  # Any: a connection; sqlite3 is imported where it is used
    """Whether this SQLite has FTS5; the one that made the file may have been another."""
    return any(name == "fts5" for (name,) in database.execute("PRAGMA module_list"))


def _literal(word: str) -> str:
    return "".join(f"!{each}" if each in "!%_" else each for each in word)
