"""A server of its own for tests of what it answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from replicas import answers, free_port


@pytest.fixture
def start(tmp_path):
    """Start a server and wait until it answers; what is left of it is killed in the end."""
    started = []

    def run(*arguments, key=None):
        port = free_port()
        program = "from phiplug.cli import main; main()"
        command = [
            sys.executable,
            "-P",
            "-c",
            program,
            "serve",
            "-m",
            "toy",
            "-b",
            "toy",
            "--port",
            str(port),
            *arguments,
        ]
        env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)} | ({"PHIPLUG_API_KEY": key} if key else {})
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        started.append(process)
        url = f"http://127.0.0.1:{port}"
        while not answers(url):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        return process, url

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def openai(url):
    """The client of OpenAI, asking the server that a test file's own fixture `url` has started."""
    module = pytest.importorskip("openai", reason="openai is not installed")
    with module.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic(url):
    """The client of Anthropic, likewise."""
    module = pytest.importorskip("anthropic", reason="anthropic is not installed")
    with module.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def cluster():
    """A Ray cluster of two nodes, for all tests that need one."""
    pytest.importorskip("ray", reason="ray is not installed")
    from clusters import two_nodes

    with two_nodes() as found:
        yield found
