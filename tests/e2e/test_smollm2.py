"""The main job on a real model: SmolLM2 on llama.cpp, through the command line and through Python."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import phiplug as package
from phiplug.types import Message

PROMPTS = [
    *("Write a haiku about ice hockey.", "What is the capital of France?", "Count from one to twenty."),
    *("Explain photosynthesis to a child.", "Write a limerick about a cat.", "Name five rivers in Europe."),
    *(
        "What is 17 times 23?",
        "Translate 'good morning' into Spanish.",
        "Write a Python function that adds two numbers.",
    ),
    *("Tell me a story about a fox.", "Why is the sky blue?", "List three uses of a brick.", "Who was Ada Lovelace?"),
    *("Give me a recipe for pancakes.", "What does HTTP stand for?", "Describe the sea at night."),
    *(
        "Summarize the plot of Hamlet.",
        "How do I boil an egg?",
        "Écris une phrase en français.",
        "日本の首都はどこですか?",
    ),
]
GREEDY = ("--threads", "1", "--temperature", "0", "--repeat-penalty", "1", "--json")


@pytest.fixture(scope="module")
def llm(smollm2, llama_cpp):
    with package.load(str(smollm2), backend="llama-cpp", threads=1) as llm:
        yield llm


@pytest.mark.slow
def test_greedy_ids_are_exactly_those_of_a_bare_loop_over_twenty_prompts(phiplug, llm, smollm2):
    from bare_llama import BareLoop

    bare = BareLoop(smollm2, context_length=llm.info.context_length)
    compared = 0
    for prompt in PROMPTS:
        report = json.loads(phiplug("run", prompt, "-m", "smollm2", "-b", "llama-cpp", "-n", "128", *GREEDY).out)
        expected = bare.greedy(report["prompt_ids"], 128, llm.tokenizer.stop_ids)
        assert report["tokens"] == expected, prompt
        compared += len(expected)
    bare.close()
    print(f"{compared} tokens of {len(PROMPTS)} prompts are equal")


def test_the_first_example_of_the_readme_repeats_and_is_counted_as_it_says(phiplug, smollm2, llama_cpp):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    command, statistics = re.search(r"\$ phiplug (run .*)\n(?s:.*?)\n(\d+ prompt tokens .*)\n```", readme).groups()
    first, again = (phiplug(*shlex.split(command), "-b", "llama-cpp", "--usage") for _ in range(2))
    assert first.code == 0
    assert first.out.strip()
    assert first.out == again.out  # the words themselves depend on the kind of CPU
    assert re.sub(r"\d+ new|[\d.]+(/s| s)", "", first.err.strip()) == re.sub(r"\d+ new|[\d.]+(/s| s)", "", statistics)


def run_in_a_process(tmp_path, *arguments):
    command = [sys.executable, "-c", "from phiplug.cli import main; main()", "run", "Tell me a story.", "-n", "40"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def test_the_same_seed_gives_the_same_ids_in_two_processes_and_another_gives_others(smollm2, llama_cpp, tmp_path):
    options = ("-m", str(smollm2), "-b", "llama-cpp", "--threads", "1", "--json", "--seed")
    first, second, other = (run_in_a_process(tmp_path, *options, seed) for seed in ("7", "7", "8"))
    assert first["tokens"] == second["tokens"] != other["tokens"]
    assert first["threads"] == 1


def test_a_request_with_a_seed_gives_the_same_answer_whatever_was_asked_before(llm):
    first = llm.generate("Tell me a story about the sea.", seed=3, max_tokens=40)
    llm.generate("Tell me a story about a ship, and make it long.", max_tokens=20)
    again = llm.generate("Tell me a story about the sea.", seed=3, max_tokens=40)
    assert again.tokens == first.tokens


def test_the_report_says_which_file_and_how_it_is_quantized(phiplug, smollm2, llama_cpp):
    report = json.loads(phiplug("run", "Hi", "-m", "smollm2", "-b", "llama-cpp", "-n", "2", *GREEDY).out)
    assert report["model"]["sha256"] == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert report["model"]["quantization"].startswith("Q4_1")
    assert report["model"]["path"] == str(smollm2)
    assert report["device"] == "cpu"


def test_a_conversation_streams_and_reports_usage(llm):
    messages = [Message("system", "You are a poet."), Message("user", "Write one line about snow.")]
    chunks = list(llm.stream(messages, seed=1, max_tokens=16))
    assert "".join(chunk.text for chunk in chunks).strip()
    assert chunks[-1].usage.prompt_tokens == len(llm.encode(messages))


def test_two_threads_may_ask_one_model(llm):
    alone = llm.generate("Count to five.", seed=1, max_tokens=12).tokens
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(llm.generate("Count to five.", seed=1, max_tokens=12).tokens))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert answers == [alone, alone]


def test_cancelling_leaves_the_model_ready(llm):
    stream = llm.stream("Tell me a long story.", seed=1, max_tokens=200)
    next(stream)
    stream.close()
    assert llm.generate("Say hello.", seed=1, max_tokens=4).tokens


def test_ctrl_c_ends_a_run_with_130_and_no_traceback(smollm2, llama_cpp, tmp_path):
    command = [sys.executable, "-c", "from phiplug.cli import main; main()", "run", "Tell me a story.", "-n", "4000"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(
        [*command, "-m", str(smollm2), "-b", "llama-cpp", "-c", "8192"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        process.stdout.read(1)
        time.sleep(0.2)
        process.send_signal(2)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
