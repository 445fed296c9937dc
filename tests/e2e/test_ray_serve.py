"""docs/examples/ray_serve.py on a Ray cluster of one machine: what a killed replica loses; a killed engine, nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from replicas import CHAT, answers, ask, body, expected, free_port, tally

pytest.importorskip("ray.serve", reason="ray[serve] is not installed")

from clusters import those_with

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own
FOLDER = str(Path(__file__).parents[2] / "docs/examples")
SERVE = [sys.executable, "-c", "from ray.serve.scripts import cli; cli()"]
ARGUMENTS = ["model=toy", "backend=toy", "ctx_size=512", "replicas=2", "cpus=0.25"]
COUNT = 200


@pytest.fixture(scope="module")
def deployed(cluster):
    """The address of two replicas."""
    options = {"env": cluster.environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    port = str(free_port())
    subprocess.run([*SERVE, "start", "--address", cluster.address, "--http-port", port], check=True, **options)
    run = ["run", "--address", cluster.address, "--working-dir", FOLDER, "--app-dir", FOLDER, "ray_serve:app"]
    process = subprocess.Popen([*SERVE, *run, *ARGUMENTS], **options)
    url = f"http://127.0.0.1:{port}"
    while not answers(url):
        assert process.poll() is None, process.returncode
        time.sleep(0.1)
    yield url
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)


@pytest.fixture(scope="module")
def texts():
    return expected(COUNT)


def test_a_killed_engine_breaks_no_stream(deployed, texts):
    def kill():
        those_with("phiplug.server.worker")[0].kill()

    seen, moment = ask(deployed, 60, act=kill, after=20)
    found = tally(seen, texts, moment)
    assert (found.whole, found.wrong) == (60, 0)


def test_a_stream_comes_piece_by_piece(deployed):
    asked = body(0, stream=True, max_tokens=400)
    with httpx.stream("POST", f"{deployed}{CHAT}", json=asked, timeout=60) as answer:
        pieces = sum(1 for _ in answer.iter_raw())
    assert pieces > 1  # Serve joins what comes while it is busy


def test_a_bad_request_has_the_answer_of_the_server(deployed):
    answer = httpx.post(f"{deployed}{CHAT}", json=body(0, temprature=1))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "temprature")


def test_a_killed_replica_loses_the_streams_that_it_had_and_nothing_else(deployed, texts):
    def kill():
        those_with("ServeReplica")[0].kill()

    seen, moment = ask(deployed, COUNT, act=kill, after=COUNT // 3)
    found = tally(seen, texts, moment)
    print(found)
    assert (found.wrong, found.whole + found.broken) == (0, COUNT)
    assert found.broken <= 12  # so many were open
    assert [each.began < moment for each in seen if not each.is_whole] == [True] * found.broken
    assert found.came_after > COUNT // 3
