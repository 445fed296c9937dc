"""`phiplug batch --ray` over two nodes of one machine: the rows of one process, whatever is killed in the middle.

Needs Ray, in an environment of its own: it unpacks to 750 MB. One cluster serves all tests, also those of Ray Serve.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest
from batches import bad, good, rows

from phiplug.batch.rows import compared

pytest.importorskip("ray", reason="ray is not installed")

from clusters import POISON, those_with

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own
PROGRAM = "from phiplug.cli import main; main()"


def lines(count):
    found = good(count)
    for line in found:
        line.get("body", line)["max_tokens"] = 40
    return found


def expected(asked):
    return {row["line"]: undated(row) for row in rows(asked)}


def undated(row):
    found = compared(row)
    if found["error"] is None:
        found["response"]["body"]["created"] = 0
    return found


def start(cluster, tmp_path, asked, *, backend="toy"):
    written = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in asked)
    (tmp_path / "in.jsonl").write_bytes(b"".join(line + b"\n" for line in written))
    arguments = ["batch", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "-m", "toy", "-b", backend]
    engine = ["-c", "512"]  # as `expected` has it, whose errors name it
    over = ["--ray", cluster.address, "--actors", "2", "--actor-cpus", "0.5", "--resume"]
    command = [sys.executable, "-c", PROGRAM, *arguments, *engine, *over]
    return subprocess.Popen(command, env=cluster.environment, stderr=subprocess.PIPE, text=True)


def wait_for(path, count, process):
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < count):
        time.sleep(0.005)


def ended(process, tmp_path):
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert len({row["line"] for row in found}) == len(found)
    return {row["line"]: undated(row) for row in found}


def test_two_actors_give_the_rows_of_one_process_for_2000_lines_of_which_500_are_wrong(cluster, tmp_path):
    asked = good(1500) + [line for _, line in bad(500)]
    random.Random(4).shuffle(asked)
    found = ended(start(cluster, tmp_path, asked), tmp_path)
    assert found == expected(asked)
    assert sum(row["error"] is not None for row in found.values()) == 500


def test_a_poisonous_line_is_an_error_and_its_neighbours_live(cluster, tmp_path):
    asked = [{"custom_id": f"{at}", "prompt": f"Tell {at}", "max_tokens": 5} for at in range(150)]
    asked[70]["prompt"] = f"Take {POISON}"
    found = ended(start(cluster, tmp_path, asked, backend=POISON), tmp_path)
    sound = expected([line for line in asked if POISON not in line["prompt"]])
    assert [row["custom_id"] for row in found.values() if row["error"] is not None] == ["70"]
    texts = {row["custom_id"]: row["response"]["body"]["choices"] for row in found.values() if row["error"] is None}
    assert texts == {row["custom_id"]: row["response"]["body"]["choices"] for row in sound.values()}


def test_nothing_is_lost_where_engines_and_an_actor_are_killed(cluster, tmp_path):
    asked = lines(900)
    process = start(cluster, tmp_path, asked)
    wait_for(tmp_path / "out.jsonl", 100, process)
    those_with("phiplug.server.worker")[0].kill()
    wait_for(tmp_path / "out.jsonl", 300, process)
    those_with("ray::Answerer")[0].kill()
    assert process.poll() is None
    assert ended(process, tmp_path) == expected(asked)


def test_a_run_that_is_killed_is_gone_on_with(cluster, tmp_path):
    asked = lines(900)
    process = start(cluster, tmp_path, asked)
    wait_for(tmp_path / "out.jsonl", 200, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert ended(start(cluster, tmp_path, asked), tmp_path) == expected(asked)


def test_nothing_is_lost_with_a_node(cluster, tmp_path):
    asked = lines(900)
    process = start(cluster, tmp_path, asked)
    wait_for(tmp_path / "out.jsonl", 200, process)
    cluster.remove_node(cluster.second, allow_graceful=False)
    assert process.poll() is None
    assert ended(process, tmp_path) == expected(asked)
