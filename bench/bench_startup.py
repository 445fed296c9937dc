"""From a cold process to `--help` and to the first character of an answer, as a shell sees it, beside Python alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.pairs import Benchmark, paired

PHIPLUG = [sys.executable, "-c", "from phiplug.cli import main; main()"]
RUN = [*PHIPLUG, "run", "Write a haiku about ice hockey.", "-m", "smollm2", "-b", "llama-cpp", "-n", "4", "--no-log"]


def test_help(benchmark: Benchmark) -> None:
    paired(benchmark, lambda: to_the_end(*PHIPLUG, "--help"), {"python -c pass": bare_python})


def test_run_to_the_first_character(benchmark: Benchmark) -> None:
    paired(benchmark, lambda: to_the_first_character(*RUN), {"python -c pass": bare_python})


def bare_python() -> float:
    return to_the_end(sys.executable, "-c", "pass")


def to_the_end(*command: str) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def to_the_first_character(*command: str) -> float:
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        os.read(process.stdout.fileno(), 1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    return seconds
