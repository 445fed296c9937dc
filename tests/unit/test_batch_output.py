"""Tests that an output is one run's at a time, is mended where it was torn, and is gone on with only as it began."""

from __future__ import annotations

import io
import json
import os
import signal

import pytest
from batches import good, llm, rows, tasks
from hypothesis import given
from hypothesis import strategies as st

from phiplug.batch import output as module
from phiplug.batch.asking import Terms
from phiplug.batch.conduct import Job, TooManyErrors, check, check_resumed, conduct, here
from phiplug.batch.identity import computed_by, processor
from phiplug.batch.interrupts import Interrupts
from phiplug.batch.manifest import Done, Manifest, manifest_path
from phiplug.batch.output import Output, Pipe
from phiplug.batch.rows import compared, written
from phiplug.batch.source import Source
from phiplug.cli.batchprogress import progress, summary
from phiplug.errors import InvalidParameter
from phiplug.models.cache import FileCache

ROWS = [written(row) for row in sorted(rows(good(8)), key=lambda row: row["line"])]


class Nobody:
    """Watches nothing."""

    def look(self, run, tally):
        pass


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl"


def test_an_output_that_is_there_is_refused(path):
    path.write_bytes(b"")
    with pytest.raises(InvalidParameter, match="is there already"):
        Output(str(path))
    assert path.exists()


@pytest.mark.parametrize("resume", [False, True])
def test_two_runs_exclude_each_other(path, resume):
    with Output(str(path), resume=resume), pytest.raises(InvalidParameter, match="another run writes"):
        Output(str(path), resume=True)
    Output(str(path), resume=True).close()


def test_what_cannot_be_written_is_refused(tmp_path):
    for name in ("", "none/out.jsonl"):
        with pytest.raises(InvalidParameter, match=r"cannot be written|no regular file"):
            Output(str(tmp_path / name))


def test_an_output_that_nothing_came_into_is_removed_where_the_run_fails(path):
    with pytest.raises(KeyError), Output(str(path)):
        raise KeyError
    assert not path.exists()


def test_a_row_is_with_the_system_at_once_and_on_the_disk_within_a_second(path, monkeypatch):
    synced, now = [], [100.0]
    monkeypatch.setattr(module.os, "fsync", synced.append)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with Output(str(path)) as output:
        output.write(b"1\n")
        assert (path.read_bytes(), len(synced)) == (b"1\n", 0)
        now[0] += 1.0
        output.tick()
        assert len(synced) == 1
        now[0] += 5.0
        output.tick()  # nothing new
        assert len(synced) == 1
        output.write(b"2\n")
        assert len(synced) == 2
    assert len(synced) == 3


def test_a_disk_that_is_full_is_said_and_no_row_is_lost(path, monkeypatch):
    with Output(str(path)) as output:
        output.write(ROWS[0])
        write = os.write
        monkeypatch.setattr(module.os, "write", lambda handle, data: write(handle, data[:3]) and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            output.write(ROWS[1])

        def full(handle, data):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(module.os, "write", full)
        with pytest.raises(InvalidParameter, match="No space left"):
            output.write(ROWS[1])
    monkeypatch.undo()
    with Output(str(path), resume=True) as output:
        assert len(output.done) == 1
        output.write(ROWS[1])
    assert path.read_bytes() == ROWS[0] + ROWS[1]


@given(st.integers(0, len(ROWS)), st.integers(0, 60))
def test_a_last_line_that_is_torn_is_cut_off(tmp_path_factory, whole, torn):
    path = tmp_path_factory.mktemp("torn") / "out.jsonl"
    rest = ROWS[whole][:torn] if whole < len(ROWS) else b""
    path.write_bytes(b"".join(ROWS[:whole]) + rest)
    with Output(str(path), resume=True) as output:
        assert len(output.done) == whole
        output.write(b"next\n")
    assert path.read_bytes() == b"".join(ROWS[:whole]) + b"next\n"


@pytest.mark.parametrize("tail", [b"\0" * 40, b"\0" * 40 + b"\n", b'{"custom_id": 3\n', b"3\n"])
def test_what_a_power_cut_leaves_at_the_end_is_cut_off(path, tail):
    path.write_bytes(ROWS[0] + tail)
    with Output(str(path), resume=True):
        assert path.read_bytes() == ROWS[0]


@pytest.mark.parametrize(("data", "said"), [
    (b"nonsense\n" + ROWS[0], "line 1 .* no row"), (ROWS[0] + ROWS[0], "line 2 .* repeats"),
])  # fmt: skip
def test_an_output_that_is_none_of_a_batch_is_refused_and_left_alone(path, data, said):
    path.write_bytes(data)
    with pytest.raises(InvalidParameter, match=said):
        Output(str(path), resume=True)
    assert path.read_bytes() == data


def done(lines):
    return Done.of(io.BytesIO(b"".join(lines)), "out")[0]


def test_lines_with_a_row_are_skipped_whatever_their_order():
    lines = good(8)
    assert [task.line for task in done(ROWS[:5]).missing(tasks(lines))] == [6, 7, 8]
    assert len(list(done(ROWS[:5]).missing(tasks(lines[::-1])))) == 3


@pytest.mark.parametrize("change", [
    lambda lines: [{**lines[0], "max_tokens": 99}, *lines[1:]], lambda lines: lines[1:], lambda lines: [],
])  # fmt: skip
def test_an_input_that_has_changed_is_refused(change):
    with pytest.raises(InvalidParameter, match=r"is not what it was|are of none of its lines"):
        list(done(ROWS).missing(tasks(change(good(8)))))


def test_lines_without_an_id_are_known_by_their_numbers_and_contents():
    plain = [{"prompt": "a", "max_tokens": 1}, {"prompt": "b", "max_tokens": 1}]
    there = [written(row) for row in rows(plain)]
    assert list(done(there).missing(tasks(plain))) == []
    with pytest.raises(InvalidParameter, match="line 1 is not what it was"):
        list(done(there).missing(tasks(plain[::-1])))


def job(tmp_path, lines, **options):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return Job(Source(str(path)), Terms(names=("toy",)), **options)


def test_what_is_missing_is_computed_and_the_rows_are_those_of_one_run(tmp_path, path):
    asked = job(tmp_path, good(20))
    path.write_bytes(b"".join(ROWS[:3]))
    with Output(str(path), resume=True) as output:
        check_resumed(asked, output.done)
        tally = conduct(asked, here(asked, llm()), output, Nobody())
    assert (tally.rows, tally.skipped, tally.errors) == (17, 3, 0)
    found = sorted((json.loads(line) for line in path.read_bytes().splitlines()), key=lambda row: row["line"])
    assert [compared(row) for row in found] == [
        compared(row) for row in sorted(rows(good(20)), key=lambda row: row["line"])
    ]


def test_a_changed_input_is_refused_before_anything_is_computed(tmp_path, path):
    path.write_bytes(ROWS[7])
    with Output(str(path), resume=True) as output, pytest.raises(InvalidParameter, match="none of its lines"):
        check_resumed(job(tmp_path, good(7)), output.done)


def test_a_run_stops_after_too_many_errors_and_its_rows_stand(tmp_path, path):
    lines = [{"prompt": "a", "max_tokens": 2}, {"prompt": ""}, {"prompt": ""}, *good(600)]
    asked = job(tmp_path, lines, max_errors=1)
    with Output(str(path)) as output, pytest.raises(TooManyErrors, match="2 lines"):
        conduct(asked, here(asked, llm()), output, Nobody())
    assert 2 <= path.read_bytes().count(b"\n") < 300


def test_a_dry_run_names_what_is_wrong_and_computes_nothing(tmp_path):
    model = llm()
    model.engine.scheduler.step = None
    found = list(check(job(tmp_path, [{"prompt": "a"}, {"prompt": "a", "n": 0}, {"prompt": ""}]), model))
    assert [error is None for _, error in found] == [True, False, False]


def test_rows_of_a_pipe_come_out_as_they_end(tmp_path):
    reading, writing = os.pipe()
    pipe = Pipe(writing, "a pipe")
    pipe.write(b"row\n")
    pipe.tick()
    assert os.read(reading, 10) == b"row\n"
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        pipe.write(b"row\n")
    os.close(writing)


def test_mixed_rows_say_what_computed_them(tmp_path, path):
    asked = job(tmp_path, good(1), computed_by={"backend": "toy"})
    with Output(str(path)) as output:
        conduct(asked, here(asked, llm()), output, Nobody())
    assert json.loads(path.read_bytes())["computed_by"] == {"backend": "toy"}


def test_the_terms_of_a_batch_hold_for_all_of_its_runs(path):
    kept = manifest_path(path)
    first = Manifest(5, {"seed": 0}, {"threads": 1, "model": "a"})
    first.write(kept)
    earlier = Manifest.read(kept)
    assert earlier == first
    earlier.require(first, mixed=False)
    with pytest.raises(InvalidParameter, match="have seed 0, and this run 3"):
        earlier.require(Manifest(9, {"seed": 3}, first.computed_by), mixed=True)
    other = Manifest(9, {"seed": 0}, {"threads": 2, "model": "a"})
    with pytest.raises(InvalidParameter, match="computed with threads 1, and now it is 2"):
        earlier.require(other, mixed=False)
    earlier.require(other, mixed=True)


@pytest.mark.parametrize(
    "damage", [None, b"", b"[]", b"{}", b'{"format": 9, "created": 1, "terms": {}, "computed_by": {}}']
)
def test_terms_that_are_missing_or_damaged_are_refused(path, damage):
    if damage is not None:
        manifest_path(path).write_bytes(damage)
    with pytest.raises(InvalidParameter, match=r"is missing|is damaged"):
        Manifest.read(manifest_path(path))


def test_what_computes_is_told_by_the_model_the_engine_and_the_processor(tmp_path):
    found = computed_by(llm(), FileCache(None))
    assert (found["backend"], found["threads"], found["context"], len(found["model"])) == ("toy", 1, 512, 64)
    (tmp_path / "a").write_text("processor: 0\nflags: sse avx\n", encoding="utf-8")
    (tmp_path / "b").write_text("processor: 0\nFeatures: asimd\n", encoding="utf-8")
    assert len({processor(tmp_path / name) for name in ("a", "b", "none")}) == 3


class Pressed:
    """A run that is told to stop."""

    def __init__(self):
        self.stopped, self.is_reading, self.open = 0, False, 3

    def stop(self):
        self.stopped += 1


@pytest.fixture
def heard():
    """Ctrl-C as a terminal has it; a shell starts what it puts into the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_the_first_interruption_finishes_and_the_second_drops():
    said, run = [], Pressed()
    interrupts = Interrupts(said.append)
    with interrupts.listening():
        interrupts.obey(run)
        signal.raise_signal(signal.SIGINT)
        interrupts.obey(run)
        interrupts.obey(run)
        assert (run.stopped, interrupts.was_pressed) == (1, True)
        assert said == ["finishing 3 open lines; Ctrl-C again drops them"]
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.obey(run)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts().listening():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_a_signal_ends_the_wait_for_a_line():
    run = Pressed()
    interrupts = Interrupts()
    with interrupts.listening():
        interrupts.obey(run)
        run.is_reading = True
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_progress_has_rates_and_the_time_left():
    from phiplug.batch.conduct import Tally

    tally = Tally(rows=30, errors=2, skipped=20, tokens=600, position=50, size=200, started=10.0)
    assert progress(tally, 4, 20.0) == ("50 rows, 2 errors, 4 open, 3.0 rows/s, 60 tokens/s, 25% read, 50.0 s left")
    assert "left" not in progress(Tally(rows=3, started=0.0), 4, 9.0)
    assert summary(tally, 4000.0) == (
        "30 rows: 28 answers, 2 errors, 20 were there already; 600 tokens in 1 h 6 min (0 tokens/s)"
    )
