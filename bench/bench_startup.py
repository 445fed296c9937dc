"""From a cold process to `--help` and to the first character of an answer, as a shell sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.pairs import Row, compare

PHIPLUG = [sys.executable, "-c", "from phiplug.cli import main; main()"]
RUN = [*PHIPLUG, "run", "Write a haiku about ice hockey.", "-m", "smollm2", "-b", "llama-cpp", "-n", "4"]


def _whole(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def _first_character(*command: str) -> float:
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        os.read(process.stdout.fileno(), 1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    return seconds


def rows() -> list[Row]:
    contestants = {
        "python -c pass": lambda: _whole(sys.executable, "-c", "pass"),
        "phiplug --help": lambda: _whole(*PHIPLUG, "--help"),
        "phiplug run, to the first character": lambda: _first_character(*RUN),
    }
    return compare("start-up", contestants, rounds=9)
