"""`phiplug batch` as a user types it: every line has its row, also of runs that are killed and gone on with."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batches import bad, good

from phiplug.batch.rows import compared

PROGRAM = "import signal; signal.signal(2, signal.default_int_handler); from phiplug.cli import main; main()"
"""A shell starts what it puts into the background with SIGINT ignored."""

TOY = ("-m", "toy", "-b", "toy")


def write(path, lines):
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return str(path)


def rows(path):
    """The rows of an output, compared as the rows of two runs are, by their lines."""
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert len({row["line"] for row in found}) == len(found)
    return {row["line"]: compared(row) for row in found}


def undated(found):
    """Rows without when their batch began."""
    return {
        line: {**row, "response": {**row["response"], "body": {**row["response"]["body"], "created": 0}}}
        for line, row in found.items()
    }


@pytest.fixture
def popen(tmp_path):
    """Start `phiplug batch` in a process of its own; what is left of it is killed in the end."""
    started = []
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def start(*arguments, **options):
        command = [sys.executable, "-P", "-c", PROGRAM, "batch", *arguments]
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(path, size, process):
    """Wait until a file has grown beyond `size` bytes, or the process has ended."""
    while process.poll() is None and (not path.exists() or path.stat().st_size <= size):
        time.sleep(0.001)


@pytest.fixture(scope="module")
def mixture():
    """2,000 lines, 500 of them wrong, each with what its error says or None."""
    lines = [(None, line) for line in good(1500)] + bad(500)
    random.Random(16).shuffle(lines)
    return lines


def test_two_thousand_lines_of_which_a_quarter_is_wrong_have_a_row_each(phiplug, tmp_path, mixture):
    output = tmp_path / "out.jsonl"
    ran = phiplug("batch", write(tmp_path / "in.jsonl", [line for _, line in mixture]), "-o", str(output), *TOY)
    assert ran.code == 0
    assert "seed 0" in ran.err
    assert "2000 rows: 1500 answers, 500 errors" in ran.err
    found = rows(output)
    assert sorted(found) == list(range(1, 2001))
    for number, (said, line) in enumerate(mixture, 1):
        row = found[number]
        if isinstance(line, dict) and said not in ("custom_id: int is not text", "custom_id: its 0 characters"):
            assert row["custom_id"] == line["custom_id"]
        if said is None:
            assert row["error"] is None
        else:
            assert any(part in row["error"]["message"] for part in said.split("|")), (number, row["error"])


@pytest.mark.slow
def test_a_batch_that_is_killed_twenty_times_has_the_rows_of_one_that_was_not(popen, phiplug, tmp_path, mixture):
    source = write(tmp_path / "in.jsonl", [line for _, line in mixture])
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert phiplug("batch", source, "-o", str(whole), *TOY).code == 0
    dice = random.Random()
    kills = 0
    for at in range(20):
        size = output.stat().st_size if output.exists() else -1
        process = popen(source, "-o", str(output), "--resume", "--slots", str(1 + at % 8), *TOY)
        wait_for(output, size + dice.randrange(0, whole.stat().st_size // 25), process)
        time.sleep(dice.random() * 0.02)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    print(f"killed {kills} times, {len(output.read_bytes().splitlines())} rows were there")
    assert phiplug("batch", source, "-o", str(output), "--resume", *TOY).code == 0
    assert kills >= 15
    created = {row["response"]["body"].get("created") for row in rows(output).values()}
    assert len(created - {None}) == 1
    assert undated(rows(output)) == undated(rows(whole))


@pytest.mark.slow
def test_two_hundred_lines_on_smollm2_do_not_depend_on_slots_order_or_interruptions(popen, phiplug, tmp_path, smollm2):
    lines = [
        {
            "custom_id": f"{at}",
            "prompt": f"Name a thing that is {word}. {'Think of ' * (at % 4)}",
            "max_tokens": 4 + at % 9,
        }
        for at, word in enumerate(["red", "old", "round", "far", "sweet"] * 40)
    ]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    source = write(tmp_path / "in.jsonl", lines)
    ran = phiplug("batch", source, "-o", str(first), "-m", str(smollm2), "-c", "512", "--slots", "8")
    assert ran.code == 0, ran.err
    random.Random(3).shuffle(lines)
    other = write(tmp_path / "other.jsonl", lines)
    options = (other, "-o", str(second), "-m", str(smollm2), "-c", "512", "--slots", "3", "--resume")
    process = popen(*options)
    wait_for(second, 20_000, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = second.read_bytes().count(b"\n")
    assert 0 < there < 200
    assert phiplug("batch", *options).code == 0
    texts = [
        {row["custom_id"]: row["response"]["body"]["choices"] for row in rows(path).values()}
        for path in (first, second)
    ]
    print(f"killed after {there} rows; {ran.err.strip().splitlines()[-1]}")
    assert len(texts[0]) == 200
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_memory_is_flat_over_twenty_thousand_lines():
    script = Path(__file__).parents[2] / "bench" / "batches.py"
    ran = subprocess.run([sys.executable, str(script), "memory"], capture_output=True, text=True, check=True)
    print(ran.stdout)
    used = {int(rows): float(size) for rows, size in re.findall(r"(\d+) rows: ([\d.]+) MB", ran.stdout)}
    assert used[20_000] - used[5000] < 8  # MB; an id takes about 85 bytes


def test_ctrl_c_finishes_the_open_lines_and_the_rest_is_gone_on_with(popen, phiplug, tmp_path):
    lines = [{"custom_id": f"{at}", "prompt": f"Tell {at}", "max_tokens": 300} for at in range(300)]
    source, output = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    process = popen(source, "-o", str(output), *TOY)
    wait_for(output, 0, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    there = rows(output)
    assert process.returncode == 130
    assert "finishing" in err
    assert "--resume goes on" in err
    assert "Traceback" not in err
    assert 0 < len(there) < 300
    ran = phiplug("batch", source, "-o", str(output), "--resume", *TOY)
    assert ran.code == 0
    assert f"{len(there)} were there already" in ran.err
    assert there.items() <= rows(output).items()
    assert len(rows(output)) == 300


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_drops_the_open_lines_leaves_whole_rows(popen, tmp_path, number):
    lines = [{"custom_id": f"{at}", "prompt": f"Tell {at}", "max_tokens": 3000 if at else 3} for at in range(30)]
    output = tmp_path / "out.jsonl"
    process = popen(write(tmp_path / "in.jsonl", lines), "-o", str(output), "--slots", "2", *TOY)
    wait_for(output, 0, process)
    process.send_signal(number)
    if number == signal.SIGINT:
        while "finishing" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (130, False)
    assert len(rows(output)) < 30


def test_two_runs_of_one_output_exclude_each_other(popen, phiplug, tmp_path):
    lines = [{"prompt": f"Tell {at}", "max_tokens": 300} for at in range(300)]
    source, output = write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    process = popen(source, "-o", str(output), *TOY)
    wait_for(output, 0, process)
    ran = phiplug("batch", source, "-o", str(output), "--resume", *TOY)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "another run writes" in ran.err


def test_pipes_have_the_rows_of_files(phiplug, tmp_path):
    source = write(tmp_path / "in.jsonl", good(12))
    assert phiplug("batch", source, "-o", str(tmp_path / "out.jsonl"), *TOY).code == 0
    ran = phiplug("batch", "-", "-o", "-", *TOY, stdin="".join(json.dumps(line) + "\n" for line in good(12)))
    (tmp_path / "piped.jsonl").write_text(ran.out, encoding="utf-8")
    assert ran.code == 0
    assert undated(rows(tmp_path / "piped.jsonl")) == undated(rows(tmp_path / "out.jsonl"))
    again = phiplug("backends")
    assert "toy" in again.out  # standard output is where it was


def test_a_compressed_table_is_read(phiplug, tmp_path):
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b'key,question\na,Say hi.\nb,"Two\nlines"\nc,\n'))
    options = ("--column", "question", "--id-column", "key", "-n", "4")
    ran = phiplug("batch", str(tmp_path / "in.csv.gz"), "-o", str(tmp_path / "out.jsonl"), *options, *TOY)
    assert ran.code == 0
    found = rows(tmp_path / "out.jsonl")
    assert {row["custom_id"]: row["error"] is None for row in found.values()} == {"a": True, "b": True, "c": False}
    assert sorted(found) == [2, 3, 5]


def test_a_dry_run_prints_what_is_wrong_and_writes_nothing(phiplug, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"prompt": "a"}, {"custom_id": "x", "prompt": "a", "temprature": 1}, b""])
    ran = phiplug("batch", source, "--dry-run", *TOY)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        'line 2 ("x"): temprature is not a field that is known here (did you mean temperature?)',
        "line 3: the line is empty",
        "3 lines, 2 of them wrong; nothing was computed",
    ]
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".jsonl"] == ["in.jsonl"]


def test_too_many_errors_end_a_batch_with_one(phiplug, tmp_path):
    source = write(tmp_path / "in.jsonl", [b"", b"", *good(600)])
    ran = phiplug("batch", source, "-o", str(tmp_path / "out.jsonl"), "--max-errors", "1", *TOY)
    assert ran.code == 1
    assert "2 lines ended in an error (the rows are written; --resume goes on) [TooManyErrors]" in ran.err


@pytest.mark.parametrize(("arguments", "said"), [
    ((), "output: is missing"),
    (("-o", "out.jsonl"), "none.jsonl cannot be read"),
    (("--dry-run", "--ray", "local"), "drop --ray"),
    (("-o", "rows.jsonl.gz"), "not compressed"),
    (("-o", "-", "--resume"), "needs an output that can be read"),
    (("-o", "out.jsonl", "--threads", "2"), "threads"),
    (("-o", "out.jsonl", "--seed", str(2**64)), "seed"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused_in_one_line(phiplug, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", good(1))
    ran = phiplug("batch", "none.jsonl" if "none" in said else "in.jsonl", *arguments, *TOY)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert said in ran.err
    assert not (tmp_path / "out.jsonl").exists()


def test_other_terms_and_another_input_are_refused_when_a_batch_is_gone_on_with(phiplug, tmp_path):
    source, output = write(tmp_path / "in.jsonl", good(6)), str(tmp_path / "out.jsonl")
    assert phiplug("batch", source, "-o", output, *TOY).code == 0
    assert "is there already" in phiplug("batch", source, "-o", output, *TOY).err
    assert "have seed 0, and this run 1" in phiplug("batch", source, "-o", output, "--resume", "--seed", "1", *TOY).err
    context = phiplug("batch", source, "-o", output, "--resume", "-c", "64", *TOY)
    assert (context.code, "context 4096" in context.err) == (2, True)
    before = (tmp_path / "out.jsonl").read_bytes()
    changed = write(tmp_path / "in.jsonl", [{"custom_id": "good-0", "prompt": "another"}, *good(6)[1:]])
    assert "line 1 is not what it was" in phiplug("batch", changed, "-o", output, "--resume", *TOY).err
    more = write(tmp_path / "in.jsonl", good(8))
    assert (tmp_path / "out.jsonl").read_bytes() == before
    assert phiplug("batch", more, "-o", output, "--resume", *TOY).code == 0
    assert len(rows(tmp_path / "out.jsonl")) == 8
