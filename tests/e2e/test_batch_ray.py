"""`phiplug batch --ray` over two nodes of one machine: the rows of one process, whatever is killed in the middle.

Needs Ray, in an environment of its own: it unpacks to 750 MB. One cluster serves all tests, and is stopped by pid.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from batches import good, rows

from phiplug.batch.rows import compared

ray = pytest.importorskip("ray", reason="ray is not installed")
psutil = pytest.importorskip("psutil")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own
PROGRAM = "from phiplug.cli import main; main()"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes with one CPU each; a short folder, for the paths of sockets are."""
    home = tmp_path_factory.mktemp("h")
    before = dict(os.environ)
    os.environ.update(HOME=str(home), RAY_USAGE_STATS_ENABLED="0", RAY_memory_monitor_refresh_ms="0")
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=options)
    found.second = found.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    yield found
    found.shutdown()
    os.environ.clear()
    os.environ.update(before)


def lines(count):
    found = good(count)
    for line in found:
        line.get("body", line)["max_tokens"] = 40
    return found


def expected(asked):
    return {row["line"]: undated(row) for row in rows(asked)}


def undated(row):
    found = compared(row)
    found["response"]["body"]["created"] = 0
    return found


def start(cluster, tmp_path, asked):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked), encoding="utf-8")
    arguments = ["batch", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "-m", "toy", "-b", "toy"]
    over = ["--ray", cluster.address, "--actors", "2", "--actor-cpus", "0.5", "--resume"]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments, *over], stderr=subprocess.PIPE, text=True)


def wait_for(path, count, process):
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < count):
        time.sleep(0.005)


def ended(process, tmp_path):
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert len({row["line"] for row in found}) == len(found)
    return {row["line"]: undated(row) for row in found}


def those_with(word):
    """The processes of this test's own cluster that have a word in their command lines."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [each] if word in " ".join(each.cmdline()) else []
    return found


def test_two_actors_give_the_rows_of_one_process(cluster, tmp_path):
    asked = lines(200)
    assert ended(start(cluster, tmp_path, asked), tmp_path) == expected(asked)


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
