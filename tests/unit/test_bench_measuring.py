"""Measuring: the prompt, the order of the rounds, the meters, and what a worker does, on the toy backend."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from phiplug.bench import meters
from phiplug.bench.conduct import Plan, shuffled
from phiplug.bench.hardware import COPY_BYTES, LEAST_COPY_BYTES, MOST_BYTES, copies
from phiplug.bench.identity import identity_of
from phiplug.bench.types import SEEDS
from phiplug.bench.worker import GREEDY, Task, Worker, bare, serve, through
from phiplug.bench.workload import hash_of, prompt_ids
from phiplug.errors import BackendFailed, InvalidParameter, NotInstalled
from phiplug.load import load
from phiplug.models.cache import FileCache
from phiplug.spi import LoadOptions, ModelFiles
from phiplug.types import Request

TASK = Task("toy", prompt_tokens=70, gen_tokens=6, options=LoadOptions(slots=2))


@pytest.fixture
def toy():
    with load("toy", backend="toy", slots=2) as llm:
        yield llm


def request(llm):
    ids = prompt_ids(llm.tokenizer, 70)
    return Request(ids, GREEDY, max_tokens=6, ignore_stop_ids=True, reuse=False)


def test_a_prompt_has_the_length_that_is_asked_for_and_begins_a_sequence(toy):
    short, long = prompt_ids(toy.tokenizer, 20), prompt_ids(toy.tokenizer, 50_000)
    assert (len(short), len(long)) == (20, 50_000)
    assert long[:20] == short
    assert short[0] == toy.tokenizer.bos_id
    assert toy.tokenizer.bos_id not in long[1:]
    with pytest.raises(InvalidParameter, match="prompt_tokens"):
        prompt_ids(toy.tokenizer, 0)


def test_the_hash_of_ids_is_that_of_their_bytes():
    assert hash_of([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hash_of([1, 256]) == hashlib.sha256(bytes([1, 0, 0, 0, 0, 1, 0, 0])).hexdigest()


def test_every_contender_comes_once_a_round_and_a_backends_own_together():
    plan = Plan(TASK, ("a", "b", "c"), slots=(1, 4), engine_only=True)
    order = random.Random(7)
    rounds = [shuffled(plan, order) for _ in range(20)]
    assert all(Counter(each) == Counter(plan.contenders) for each in rounds)
    assert all(len(each) == 9 for each in rounds)
    for each in rounds:
        backends = [contender.backend for contender in each]
        assert backends[0] == backends[1] == backends[2] != backends[3]
    assert len({tuple(each) for each in rounds}) > 10
    again = random.Random(7)
    assert [shuffled(plan, again) for _ in range(20)] == rounds


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backends": ()}, "backend: none is named"),
        ({"backends": ("a", "a")}, "backend: the same one is named twice"),
        ({"slots": (2, 2)}, "slots: the same one is named twice"),
        ({"slots": (0,)}, "slots: is less than 1"),
        ({"rounds": 0}, "rounds: is less than 1"),
        ({"positions": 129}, "positions: 129 is outside"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes, said):
    with pytest.raises(InvalidParameter, match=said):
        Plan(**{"task": TASK, "backends": ("a",)} | changes)


def test_the_bare_engine_and_phiplug_do_the_same_work(toy):
    ours, theirs = through(toy, request(toy), 1), bare(toy.engine.model, request(toy).prompt_ids, 6)
    assert ours.output == theirs.output
    assert [len(times) for times in ours.arrivals_s] == [len(times) for times in theirs.arrivals_s] == [6]
    assert theirs.ttft_s is None  # it makes no text


def test_a_round_after_the_bare_engine_is_as_one_before_it(toy):
    before = through(toy, request(toy), 2)
    bare(toy.engine.model, request(toy).prompt_ids, 6)
    assert through(toy, request(toy), 2).output == before.output


def test_several_slots_give_a_sequence_each_and_all_of_its_tokens(toy):
    found = through(toy, request(toy), 2)
    assert [len(times) for times in found.arrivals_s] == [6, 6]
    assert found.prefill_s <= found.wall_s
    assert all(list(times) == sorted(times) for times in found.arrivals_s)


def test_what_comes_before_the_prompt_is_computed_and_not_measured(toy):
    ids, steps = prompt_ids(toy.tokenizer, 70), []
    forward = toy.engine.model.forward
    toy.engine.model.forward = lambda asked: steps.append(sum(len(step.tokens) for step in asked)) or forward(asked)
    asked = Request(ids, GREEDY, max_tokens=6, ignore_stop_ids=True, reuse=False)
    whole = through(toy, asked, 1)
    steps.clear()
    deep = through(toy, asked, 1, depth=50)
    assert steps[:2] == [50, 50]  # in both slots: what the other held of the last prompt would be reused
    assert sum(steps[2:]) == 20 + 5
    assert (deep.output, [len(times) for times in deep.arrivals_s]) == (whole.output, [6])
    assert bare(toy.engine.model, ids, 6, depth=50).output == whole.output
    assert through(toy, asked, 2, depth=50).output == through(toy, asked, 2).output


def test_an_engine_that_does_not_keep_what_comes_before_is_told(toy):
    toy.engine.model.rewind = lambda slot, length, real=toy.engine.model.rewind: real(slot, min(length, 10))
    ids = prompt_ids(toy.tokenizer, 70)
    with pytest.raises(BackendFailed, match="of 50 tokens before the prompt this engine keeps 10"):
        through(toy, Request(ids, GREEDY, max_tokens=6, ignore_stop_ids=True, reuse=False), 1, depth=50)


def orders(*more):
    task = {"reference": "toy", "prompt_tokens": 20, "gen_tokens": 4}
    return iter([json.dumps({"task": task, **order}) for order in more])


def test_a_worker_loads_at_the_first_order_and_runs_at_the_next():
    answers = []
    load_it = {"do": "load", "backend": "toy", "positions": 16}
    serve(orders(load_it, {"do": "round", "mode": "phiplug", "slots": 1}), answers.append)
    loaded, ran = answers
    assert loaded["loaded"]["device"] == "cpu"
    assert len(loaded["loaded"]["draws"]) == 16 * SEEDS
    assert loaded["loaded"]["floor"] == 0.0  # the toy computes each row by itself
    assert loaded["seconds"] > 0
    assert len(ran["sample"]["arrivals_s"][0]) == 4
    assert ran["peak_memory"] > 10_000_000
    assert ran["device_memory"] is None  # the toy has no device that it would count


def test_a_workers_errors_are_answers():
    answers = []
    serve(orders({"do": "load", "backend": "none", "positions": 0}), answers.append)
    assert "'none' is not installed" in answers[0]["error"]


def test_a_model_is_its_files_checksum(tmp_path):
    cache = FileCache(tmp_path / "cache.json")
    page = tmp_path / "page.txt"
    page.write_text("abc\n")
    first = identity_of(ModelFiles("page", page, "toy"), cache)
    page.write_text("abd\n")
    second = identity_of(ModelFiles(str(page), page, "toy"), cache)
    assert (first.size, first.reference, second.reference) == (4, "page", "page.txt")  # a path's folders are private
    assert first.sha256 != second.sha256


def test_a_folder_is_the_checksum_of_all_its_weights(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "config.json").write_text("{}")
    cache = FileCache(tmp_path / "cache.json")
    first = identity_of(ModelFiles("x", tmp_path, "folder"), cache)
    (tmp_path / "b.safetensors").write_bytes(b"\x03\0\0\0\0\0\0\0{} ")
    second = identity_of(ModelFiles("x", tmp_path, "folder"), cache)
    assert first.size == 20
    assert first.sha256 != second.sha256


def test_smollm2s_tied_embeddings_are_read_for_every_token(smollm2, tmp_path):
    found = identity_of(ModelFiles("smollm2", smollm2, "gguf"), FileCache(tmp_path / "cache.json"))
    assert found.bytes_per_token == pytest.approx(found.parameters * found.bits_per_weight / 8, rel=1e-9)
    assert found.size == smollm2.stat().st_size


def counter(root, name, microjoules, wrap=1000):
    zone = root / name
    zone.mkdir(exist_ok=True)
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text(f"{wrap}\n")


def test_energy_is_the_sum_of_the_packages_and_survives_a_wrap(tmp_path):
    counter(tmp_path, "intel-rapl:0", 900)
    counter(tmp_path, "intel-rapl:1", 100)
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of package 0
    read = meters.energy_meter(tmp_path)
    before = read()
    counter(tmp_path, "intel-rapl:0", 100)
    counter(tmp_path, "intel-rapl:1", 150)
    assert meters.spent(before, read()) == pytest.approx(250e-6)


def test_without_a_meter_there_is_no_energy(tmp_path):
    read = meters.energy_meter(tmp_path)
    assert meters.spent(read(), read()) is None


def test_throttling_is_counted_where_the_system_counts_it(tmp_path):
    assert meters.throttled(tmp_path) is None
    for cpu, count in (("cpu0", "3\n"), ("cpu11", "4\n")):
        folder = tmp_path / cpu / "thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(count)
    assert meters.throttled(tmp_path) == 7


def test_without_psutil_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(NotInstalled, match=r"pip install 'phiplug\[bench\]'"):
        meters.psutil()


def test_a_model_that_measures_its_threads_is_given_time_to_settle():
    worker = Worker(TASK, "toy")
    model, threads, told = worker._llm.engine.model, iter([4, 2, 4, 4, 9]), []

    def autotune():
        told.append("autotune")
        model.info = replace(model.info, threads=next(threads))

    model.info = replace(model.info, features=model.info.features | {"autotune"})
    model.autotune, model.forget = autotune, lambda: told.append("forget")
    loaded, _ = worker.warm_up(positions=0)
    assert told == ["forget", *["autotune"] * 4]
    assert loaded.threads == 4
    assert list(threads) == [9]  # nothing changes once the rounds begin


@pytest.mark.parametrize("cores", [1, 2, 8, 64, 192])
@pytest.mark.parametrize("free", [0, 2**28, 2**30, 2**36, 2**40])
def test_copying_memory_takes_no_more_than_a_quarter_of_what_is_free(cores, free):
    many, size = copies(cores, free)
    assert 1 <= many <= cores
    assert LEAST_COPY_BYTES <= size <= COPY_BYTES
    assert 2 * many * size <= max(min(free // 4, MOST_BYTES), 2 * LEAST_COPY_BYTES)


def test_two_cores_with_enough_memory_copy_as_much_as_ever():
    assert copies(2, 2**34) == (2, COPY_BYTES)


def test_free_memory_is_within_the_control_group(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    assert meters.free_memory(tmp_path) == 100
    (tmp_path / "memory.max").write_text("max\n")
    assert meters.free_memory(tmp_path) > 100


def test_linux_says_what_can_still_be_had_and_psutil_elsewhere(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 4 kB\nMemAvailable:       2 kB\n")
    monkeypatch.setattr(meters, "psutil", lambda: SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=7)))
    assert meters._available(tmp_path / "meminfo") == 2048
    assert meters._available(tmp_path / "none") == 7


def test_bench_looks_for_an_engine_before_it_asks_the_hub(phiplug, monkeypatch):
    def unasked(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("phiplug.models.hub.pull", unasked)
    ran = phiplug("bench", "-b", "toy", "-m", "hf:nobody/nothing")
    assert ran.code == 1
    assert "no engine is installed" in ran.err
    assert "[BackendUnavailable]" in ran.err
