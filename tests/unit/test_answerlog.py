"""The log of answers: what it keeps, finds and refuses, and what its failures are called."""

from __future__ import annotations

import sqlite3
import stat
import sys

import pytest

from phiplug.answerlog import LONGEST, AnswerLog, LoggedAnswer
from phiplug.errors import LogFailed
from phiplug.places import config_file, log_file


@pytest.fixture
def log(tmp_path):
    opened = AnswerLog(tmp_path / "deep" / "log.db", wait_s=0.01)
    yield opened
    opened.close()


def answer(prompt="What is ice?", said="Frozen water.", **others):
    return LoggedAnswer("run", "smollm2", "toy", prompt, said, **others)


def ids(found):
    return [each.id for each in found]


def test_an_answer_comes_back_as_it_was_given_with_its_number_and_time(log):
    given = answer(system="Be brief.", reasoning="Hm.", details={"seed": 2**64 - 1, "tool_calls": [{"name": "é"}]})
    assert log.add(given) == 1
    found = log.get(1)
    assert found.time > 1.7e9
    assert (found.prompt, found.answer, found.system, found.reasoning) == (
        *("What is ice?", "Frozen water.", "Be brief.", "Hm."),
    )
    assert found.details == given.details
    assert log.get(2) is None


def test_the_newest_come_first_and_no_more_than_were_asked_for(log):
    for text in "abc":
        log.add(answer(text))
    assert [each.prompt for each in log.newest(2)] == ["c", "b"]


def test_what_was_logged_is_there_for_the_next_process(log):
    log.add(answer())
    again = AnswerLog(log.path)
    assert ids(again.newest(5)) == [1]
    again.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_nobody_else_may_read_it(log):
    log.add(answer())
    kept = [path for path in log.path.parent.iterdir() if path.name.startswith("log.db")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


SOUGHT = {
    "a word": (["ice"], [1]),
    "in capitals": (["FROZEN"], [1]),
    "two words, in question and answer": (["ice", "water"], [1]),
    "two in one argument": (["water frozen"], [1]),
    "the beginning of a word": (["froz"], [1]),
    "the middle of a word": (["roze"], [1]),
    "without its accent": (["creme"], [2]),
    "of a script without spaces": (["漢"], [3]),
    "a quote": (['say "hi"'], [2]),
    "what is syntax elsewhere": (["NEAR(", "*"], []),
    "a percent sign is one": (["%"], [2]),
    "an underscore is one": (["_"], []),
    "not there": (["fire"], []),
    "nothing": ([" "], []),
    "of the system message": (["brief"], [3]),
}


@pytest.mark.parametrize("has_index", [True, False], ids=["FTS5", "LIKE"])
@pytest.mark.parametrize("name", SOUGHT)
def test_a_search_finds_what_has_all_the_words(log, name, has_index):
    words, found = SOUGHT[name]
    log._has_index = log._has_index and has_index
    log.add(answer())
    log.add(answer('crème: say "hi"', "100%"))
    log.add(answer("漢字とは", "文字", system="Be brief."))
    if has_index or name != "without its accent":  # LIKE knows no accents
        assert ids(log.search(words, 9)) == found


def test_the_newest_that_match_come_first_and_no_more_than_were_asked_for(log):
    for _ in range(4):
        log.add(answer())
    assert ids(log.search(["ice"], 2)) == [4, 3]


def test_what_was_written_without_an_index_is_indexed_with_the_next_answer(log):
    log._has_index = False
    log.add(answer("amber"))
    log._has_index = True
    log.add(answer("birch"))
    assert ids(log._matching(["amber"], 5)) == [1]


def test_a_sqlite_without_fts5_keeps_and_finds(tmp_path, monkeypatch):
    monkeypatch.setattr("phiplug.answerlog._INDEX", "CREATE VIRTUAL TABLE answers_text USING nothing(x)")
    log = AnswerLog(tmp_path / "log.db")
    log.add(answer())
    assert ids(log.search(["frozen"], 5)) == [1]
    log.close()


def test_a_conversation_has_what_it_began_with_and_the_answers_that_were_not_undone(log):
    first = log.begin_conversation([{"role": "user", "content": "hi"}])
    log.add(answer("one", conversation=first))
    gone = log.add(answer("two", conversation=first))
    log.undo(gone)
    log.add(answer("three", conversation=first))
    second = log.begin_conversation()
    log.add(answer("other", conversation=second))
    log.add(answer("alone"))
    assert log.conversation().id == second
    found = log.conversation(first)
    assert found.messages == [{"role": "user", "content": "hi"}]
    assert [each.prompt for each in found.answers] == ["one", "three"]
    assert log.conversation(9) is None
    assert ids(log.newest(9)) == [5, 4, 3, 2, 1]


def test_a_very_long_text_is_kept_without_its_middle(log):
    log.add(answer("x" * (LONGEST + 9)))
    assert len(log.get(1).prompt) == LONGEST


def test_a_log_that_another_process_writes_is_not_waited_for_long(log):
    log.add(answer())
    other = sqlite3.connect(log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogFailed, match=r"log\.db cannot be used: database is locked"):
        log.add(answer())
    assert ids(log.newest(5)) == [1]  # it can be read all the same
    other.execute("ROLLBACK")
    other.close()
    assert log.add(answer()) == 2


def test_a_full_disk_is_named_and_leaves_what_was_there(log):
    log.add(answer())
    log._database.execute("PRAGMA max_page_count = 1")  # as many as there are
    with pytest.raises(LogFailed, match="full"):
        log.add(answer("y" * 10**6))
    assert ids(log.newest(5)) == [1]


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "log.db").write_text("a diary of another kind" * 99)
    with pytest.raises(LogFailed, match="file is not a database"):
        AnswerLog(tmp_path / "log.db")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LogFailed, match=r"log\.db cannot be used: (Not a directory|File exists)"):
        AnswerLog(tmp_path / "file" / "log.db")


def test_the_log_of_a_newer_phiplug_is_left_as_it_is(log):
    log._database.execute("PRAGMA user_version = 99")
    with pytest.raises(LogFailed, match=r"of a newer phiplug \(form 99\)"):
        AnswerLog(log.path)


def test_without_a_home_folder_there_is_no_log(monkeypatch):
    def homeless(_):
        raise RuntimeError

    monkeypatch.setattr("platformdirs.user_state_path", homeless)
    monkeypatch.setattr("platformdirs.user_config_path", homeless)
    assert log_file() is config_file() is None
