"""The llama.cpp backend on a real model: it keeps the contract, equals a bare loop, and fails with a reason."""

import dataclasses
import os
import signal
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny_architectures

import phiplug_llama_cpp
from phiplug.checks import DEFAULT_CONTEXT
from phiplug.errors import (
    BackendFailed,
    ModelCorrupt,
    ModelUnsupported,
    OutOfMemory,
    PhiplugError,
    UnsupportedParameter,
)
from phiplug.spi import LoadOptions, ModelFiles, Step
from phiplug.testing import BackendContract
from phiplug_llama_cpp import hyperparameters, loading, threads, trial
from phiplug_llama_cpp.library import library
from phiplug_llama_cpp.threads import candidates, usable_cores

pytestmark = pytest.mark.usefixtures("llama_cpp")


class TestLlamaCpp(BackendContract):
    backend = "llama-cpp"
    plugin = "phiplug_llama_cpp"
    chunking_tolerance = 0.02
    batching_tolerance = 0.02
    requests = 100
    interleavings = 5

    @pytest.fixture
    def files(self, smollm2):
        return ModelFiles("smollm2", smollm2, "gguf")


@pytest.fixture
def load(smollm2):
    """Loads SmolLM2, or another file, and closes what it loaded."""
    models = []

    def load(path=smollm2, **options):
        defaults = {"ctx_size": 512, "threads": 1} | options
        models.append(phiplug_llama_cpp.load(ModelFiles(str(path), path, "gguf"), LoadOptions(**defaults)))
        return models[-1]

    yield load
    for model in models:
        model.close()


def ids(count, seed=0):
    return np.random.default_rng(seed).integers(100, 40_000, count).tolist()


def ask(model, tokens, slot=0, rows=1):
    return model.forward([Step(slot, tokens, rows)]).logits().copy()


def greedy(model, prompt, count):
    row, out = ask(model, prompt)[0], []
    for _ in range(count):
        out.append(int(row.argmax()))
        row = model.forward([Step(0, out[-1:])]).logits()[0]
    return out


# The bare loop


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_greedy_ids_are_those_of_a_bare_loop(load, smollm2, seed):
    from bare_llama import BareLoop

    prompt, bare = ids(20 * seed, seed), BareLoop(smollm2, context_length=512)
    assert greedy(load(), prompt, 32) == bare.greedy(prompt, 32)
    bare.close()


# Passes and slots


def test_a_pass_longer_than_a_chunk_equals_its_chunks(load):
    model, prompt = load(ctx_size=768), ids(520)
    whole = ask(model, prompt)
    model.rewind(0, 0)
    model.forward([Step(0, prompt[: model.info.chunk], rows=0)])
    assert np.array_equal(ask(model, prompt[model.info.chunk :]), whole)


def test_a_slot_does_not_depend_on_what_others_hold(load):
    alone, beside = load(slots=3), load(slots=3)
    ask(beside, ids(260, 1), slot=1)  # llama.cpp attends to cells by 256
    ask(beside, ids(30, 2), slot=2)
    for tokens in (ids(40), [5], [6], [7]):
        assert np.array_equal(ask(alone, tokens), ask(beside, tokens))


def test_a_copied_prefix_gives_the_logits_of_its_source(load):
    model, prompt = load(slots=2), ids(60)
    ask(model, prompt)
    assert "copy" in model.info.features
    assert model.copy(0, 1, 40) == 40
    copied = ask(model, prompt[40:], slot=1)
    model.rewind(0, 40)
    assert np.array_equal(ask(model, prompt[40:]), copied)


def test_logits_are_the_memory_of_the_engine_itself(load):
    model = load()
    first = model.forward([Step(0, [1])]).logits()
    second = model.forward([Step(0, [2])]).logits()
    assert first.ctypes.data == second.ctypes.data
    assert not first.flags.owndata


def test_logits_of_a_pass_before_the_last_are_refused(load):
    model = load()
    old = model.forward([Step(0, [1])])
    model.forward([Step(0, [2])]).logits()
    with pytest.raises(BackendFailed, match="has moved on"):
        old.logits()


def test_a_closed_model_refuses_what_would_read_freed_memory(load):
    model = load()
    asked = model.forward([Step(0, [1])])
    model.close()
    for call in (asked.logits, lambda: model.forward([Step(0, [1])]), lambda: model.rewind(0, 1)):
        with pytest.raises(BackendFailed, match="closed"):
            call()


def test_a_pass_that_llama_cpp_refuses_says_why_and_changes_nothing(load):
    model, prompt = load(slots=2), ids(20)
    ask(model, prompt)
    refused = model.forward([Step(0, [10**6]), Step(1, [5])])
    for _ in range(2):
        with pytest.raises(BackendFailed, match="invalid token"):
            refused.logits()
    assert (model.rewind(0, 99), model.rewind(1, 99)) == (20, 0)
    after = ask(model, [5])
    model.rewind(0, 0)
    ask(model, prompt)
    assert np.array_equal(ask(model, [5]), after)


def test_a_full_slot_is_a_failure_and_not_a_crash(load):
    model = load(ctx_size=256)
    ask(model, ids(256))
    with pytest.raises(BackendFailed, match=r"llama\.cpp failed"):
        ask(model, [5])
    assert model.rewind(0, 999) == 256


# Ctrl-C


def test_ctrl_c_between_a_pass_and_its_bookkeeping_undoes_the_pass(load, monkeypatch):
    model, prompt, llama_decode = load(), ids(9), library().api.llama_decode
    ask(model, prompt)

    def decode(*arguments):
        llama_decode(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched_api:
        patched_api.setattr(library().api, "llama_decode", decode)
        with pytest.raises(KeyboardInterrupt):
            ask(model, [5])
    assert model.rewind(0, 99) == 9
    after = ask(model, [5])
    model.rewind(0, 0)
    ask(model, prompt)
    assert np.array_equal(ask(model, [5]), after)


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there")
def test_ctrl_c_stops_a_long_prompt_and_the_model_goes_on(load, monkeypatch):
    model, prompt = load(ctx_size=1024), ids(1000)
    before = ask(model, prompt[:40])
    started, codes, llama_decode = threading.Event(), [], library().api.llama_decode

    def decode(*arguments):
        started.set()
        codes.append(llama_decode(*arguments))
        return codes[-1]

    def press():
        started.wait()
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(library().api, "llama_decode", decode)
    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        model.forward([Step(0, prompt[40:])]).logits()
    presser.join()
    assert codes == [2]  # llama.cpp's word for a pass that was broken off
    assert model.rewind(0, 9999) == 40
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model.rewind(0, 0)
    assert np.array_equal(ask(model, prompt[:40]), before)


def test_a_handler_of_the_program_is_left_alone(load):
    model, calls = load(), []
    own = signal.signal(signal.SIGINT, lambda *_: calls.append(1))
    try:
        signal.raise_signal(signal.SIGINT)
        ask(model, ids(64))
        assert calls == [1]
    finally:
        signal.signal(signal.SIGINT, own)


def test_off_the_main_thread_a_long_pass_needs_no_signals(load):
    model, rows = load(), []
    worker = threading.Thread(target=lambda: rows.append(ask(model, ids(64))))
    worker.start()
    worker.join()
    model.rewind(0, 0)
    assert np.array_equal(rows[0], ask(model, ids(64)))


# What is asked for


def test_a_context_is_no_longer_than_was_asked_for(load):
    assert load(ctx_size=100).info.context_length == 100
    assert load(ctx_size=None).info.context_length == DEFAULT_CONTEXT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ctx_size": 8193}, "ctx_size: 8193 tokens are asked for, and the model was trained for 8192"),
        ({"slots": 10_000}, "slots: 10000 are asked for, and llama.cpp keeps 256 apart at most"),
        ({"threads": 513}, "threads: 513 are asked for, and llama.cpp takes 512"),
        ({"device": "abacus"}, "device: 'abacus': this build of llama.cpp computes on cpu"),
        ({"gpu_layers": 3, "device": "cpu"}, "gpu_layers: 3 layers cannot go to a GPU"),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_name(load, options, message):
    with pytest.raises(UnsupportedParameter) as caught:
        load(**options)
    assert caught.value.message.startswith(message)


def test_a_cache_larger_than_the_machine_is_refused_before_it_is_made(load, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 10_000, "SC_PAGE_SIZE": 4096}[name])
    with pytest.raises(OutOfMemory, match=r"would take 0\.1 GB, and there are 0\.0 GB of memory"):
        load(ctx_size=4096)


def test_the_cache_is_two_bytes_for_each_number_of_each_cell_of_all_slots(load):
    layers, heads, numbers = 30, 3, 64 + 64
    assert load(ctx_size=300, slots=2).info.cache_bytes == 2 * layers * heads * numbers * 512 * 2


def test_exact_scales_cost_nothing_here(load):
    assert np.array_equal(ask(load(exact_scales=True), [1, 2, 3]), ask(load(), [1, 2, 3]))


def test_no_gpu_layers_is_what_a_cpu_does_anyway(load):
    assert load(gpu_layers=0).info.device == "cpu"


def test_the_info_names_what_logits_depend_on(load):
    info = load().info
    assert info.quantization == "Q4_1"
    assert (info.vocab_size, info.chunk, info.threads, info.features) == (49152, 512, 1, frozenset())
    assert "llama-cpp-python 0.3." in info.version
    assert {"features", "flash attention", "kv cache", "batch"} <= set(info.metadata)
    assert (info.metadata["flash attention"], info.metadata["kv cache"]) == ("enabled", "f16 keys, bf16 values")


# Threads


@pytest.fixture
def soon(monkeypatch):
    """Two passes are enough to measure a number of threads: with more than one thread, a busy machine is slow."""
    monkeypatch.setattr(threads, "ENOUGH", 2)


class Memory:
    """A cache in a dict."""

    def __init__(self):
        self.facts = {}

    def get(self, key):
        return self.facts.get(key)

    def set(self, key, value):
        self.facts[key] = value

    def threads(self):
        """What was remembered of threads; the first load remembers that it went well."""
        (key,) = (key for key in self.facts if "threads" in key)
        assert "SmolLM2" in key
        return self.facts[key]


def test_the_number_of_threads_is_measured_and_remembered(load, soon):
    memory = Memory()
    model = load(threads=None, cache=memory)
    first = model.info.threads
    assert first == usable_cores()
    greedy(model, ids(3), 2)
    assert model.info.threads == first
    model.close()
    assert list(memory.threads()["seconds"]) == [str(first)]


@pytest.mark.skipif(len(candidates(usable_cores())) < 2, reason="one core leaves nothing to choose")
def test_retune_moves_to_what_was_not_tried_and_close_keeps_both(load, soon):
    memory = Memory()
    model = load(threads=None, cache=memory)
    for expected in candidates(usable_cores())[:2]:
        model.autotune()
        assert model.info.threads == expected
        model.rewind(0, 0)
        greedy(model, ids(3), 2)
    model.close()
    assert len(memory.threads()["seconds"]) == 2


@pytest.mark.skipif(len(candidates(usable_cores())) < 2, reason="one core leaves nothing to choose")
def test_what_was_remembered_is_used_from_the_first_pass(load):
    memory = Memory()
    seconds = {str(usable_cores()): 1.0, str(usable_cores() - 1): 0.1}
    memory.get = lambda _: {"day": time.strftime("%Y-%m-%d"), "seconds": seconds}
    assert load(threads=None, cache=memory).info.threads == usable_cores() - 1


@pytest.mark.parametrize("fact", [None, {"2": 1.0}, {"day": "2026-01-01"}, "damaged"])
def test_a_memo_that_is_no_use_is_as_good_as_none(load, fact):
    memory = Memory()
    memory.get = lambda _: fact
    assert load(threads=None, cache=memory).info.threads == usable_cores()


@pytest.mark.skipif(len(candidates(usable_cores())) < 2, reason="one core leaves nothing to choose")
def test_a_benchmark_has_all_candidates_tried_again(load, soon):
    model = load(threads=None, cache=Memory())
    for _ in range(3):
        greedy(model, ids(3), 2)
        model.autotune()
        model.rewind(0, 0)
    assert "autotune" in model.info.features
    model.forget()
    model.autotune()
    assert model.info.threads == candidates(usable_cores())[0]


def test_a_fixed_number_of_threads_stays(load, soon):
    model = load(threads=1)
    assert "autotune" not in model.info.features
    greedy(model, ids(3), 2)
    model.autotune()
    assert model.info.threads == 1


# Files that llama.cpp cannot load


def patched(path, folder, change):
    """A copy of the model whose header was changed without moving a byte."""
    data = bytearray(path.read_bytes())
    change(data)
    spoiled = folder / "spoiled.gguf"
    spoiled.write_bytes(data)
    return spoiled


def renaming(old, new):
    def change(data):
        assert len(old) == len(new)
        start = data.index(old)
        data[start : start + len(old)] = new

    return change


def setting(key, letter, value):
    def change(data):
        start = data.index(struct.pack("<Q", len(key)) + key.encode()) + 8 + len(key) + 4
        struct.pack_into("<" + letter, data, start, value)

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (renaming(b"blk.3.attn_q.weight", b"blk.3.attn_x.weight"), ModelCorrupt, r"'blk\.3\.attn_q\.weight' not found"),
        (setting("llama.block_count", "I", 31), ModelCorrupt, r"'blk\.30\.\S+' not found"),
        (setting("llama.attention.head_count_kv", "I", 1), ModelCorrupt, "has wrong shape"),
        (
            renaming(b"\x06\0\0\0\0\0\0\0smollm", b"\x06\0\0\0\0\0\0\0smollx"),
            ModelUnsupported,
            "unknown pre-tokenizer type: 'smollx'",
        ),
        (renaming(b"\x04\0\0\0\0\0\0\0gpt2", b"\x04\0\0\0\0\0\0\0gptx"), ModelUnsupported, "unknown tokenizer: 'gptx'"),
    ],
)
def test_a_failed_load_gives_the_reason_of_llama_cpp(load, smollm2, tmp_path, change, error, message):
    with pytest.raises(error, match=message) as caught:
        load(patched(smollm2, tmp_path, change))
    assert caught.value.message.startswith("llama.cpp cannot load spoiled.gguf: ")


def test_an_architecture_that_llama_cpp_does_not_know_is_unsupported(load, smollm2, tmp_path):
    unknown = patched(smollm2, tmp_path, renaming(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lxama"))
    with pytest.raises(ModelUnsupported, match="unknown model architecture: 'lxama'") as caught:
        load(unknown)
    assert "newer llama-cpp-python" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("llama.block_count", "I", 0), r"llama\.block_count is 0"),
        (setting("llama.block_count", "I", 513), r"llama\.block_count is 513"),
        (setting("llama.block_count", "I", 2**32 - 1), r"llama\.block_count is 4294967295"),
        (setting("llama.attention.layer_norm_rms_epsilon", "f", -1.0), r"rms_epsilon is -1\.0"),
        (setting("llama.attention.layer_norm_rms_epsilon", "f", float("nan")), "rms_epsilon is nan"),
        (setting("llama.rope.freq_base", "f", float("nan")), "freq_base is nan"),
        (setting("llama.attention.head_count", "I", 0), "head_count is 0"),
        (setting("llama.rope.dimension_count", "I", 63), "63 of the 64 numbers of a head are rotated"),
        (renaming(b"<jupyter_text>", b"<jupyter_code>"), "tokens has '<jupyter_code>' twice"),
    ],
)
def test_what_would_abort_the_process_is_refused_first(load, smollm2, tmp_path, change, message):
    with pytest.raises(ModelCorrupt, match=message):
        load(patched(smollm2, tmp_path, change))


def test_a_failed_load_harms_no_other_model(load, smollm2, tmp_path):
    model = load()
    before = ask(model, [1, 2, 3])
    with pytest.raises(PhiplugError):
        load(patched(smollm2, tmp_path, setting("llama.rope.dimension_count", "I", 63)))
    model.rewind(0, 0)
    assert np.array_equal(ask(model, [1, 2, 3]), before)


# The log, and the library in the process


def test_the_log_is_quiet_unless_verbose(load, capfd):
    load()
    assert capfd.readouterr() == ("", "")
    load(verbose=True)
    assert "llama_model_loader" in capfd.readouterr().err
    load()
    assert capfd.readouterr() == ("", "")


ALONGSIDE = """
import sys
from pathlib import Path
import phiplug_llama_cpp
from phiplug.spi import LoadOptions, ModelFiles, Step
{before}
model = phiplug_llama_cpp.load(ModelFiles("m", Path(sys.argv[1]), "gguf"), LoadOptions(ctx_size=256, threads=1))
row = model.forward([Step(0, [1, 2, 3])]).logits()[0].copy()
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("llama_cpp", "jinja2", "diskcache")))
import llama_cpp, llama_cpp.llama_cpp, numpy
same = dict(n_ctx=256, n_threads=1, n_threads_batch=1, flash_attn=True, type_v=30)  # bfloat16, as bits.py has it
peer = llama_cpp.Llama(sys.argv[1], **same, logits_all=True, verbose=False)
peer.eval([1, 2, 3])
print(llama_cpp.llama_cpp.llama_decode.__name__, numpy.array_equal(peer.scores[2], row))
model.rewind(0, 0)
print(numpy.array_equal(model.forward([Step(0, [1, 2, 3])]).logits()[0], row))
"""


PEER = """
import sys
import llama_cpp
llama_cpp.Llama(sys.argv[1], n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False).eval([1, 2, 3])
"""


@pytest.fixture(scope="module")
def working_peer(smollm2):
    """llama-cpp-python by itself, which some builds for a CPU with AMX do not survive; see docs/decisions."""
    done = subprocess.run([sys.executable, "-c", PEER, str(smollm2)], capture_output=True, timeout=120, check=False)
    if done.returncode < 0:
        pytest.skip(f"llama-cpp-python, used alone, dies by signal {-done.returncode} on this machine")


@pytest.mark.usefixtures("working_peer")
@pytest.mark.parametrize("before", ["", "import llama_cpp"])
def test_a_users_own_import_of_llama_cpp_works_before_and_after(smollm2, before):
    program = [sys.executable, "-c", ALONGSIDE.format(before=before), str(smollm2)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    modules, same, again = done.stdout.splitlines()
    if not before:
        assert modules == "[]"  # neither the high-level package nor a trace of ours
    assert (same, again) == ("llama_decode True", "True")


def test_a_file_is_tried_in_another_process_once(smollm2, tmp_path, monkeypatch):
    files, memory = ModelFiles("m", smollm2, "gguf"), Memory()
    monkeypatch.setattr(trial, "_survived", set())
    started = counted(monkeypatch, trial.subprocess, "run")
    for _ in range(2):
        phiplug_llama_cpp.load(files, LoadOptions(ctx_size=256, threads=1, cache=memory)).close()
        trial._survived.clear()  # as in another process
    assert len(started) == 1


def counted(monkeypatch, owner, name):
    calls, original = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **named: calls.append(args) or original(*args, **named))
    return calls


def test_an_assertion_that_no_rule_knows_ends_another_process_and_names_itself(tmp_path, monkeypatch):
    shape = tiny_architectures.TINY["qwen3"]
    keys = {**shape.keys, "rope.dimension_count": 2}
    path = tiny_architectures.write(tmp_path / "m.gguf", dataclasses.replace(shape, keys=keys))
    monkeypatch.setattr(loading, "check_hyperparameters", lambda header: None)
    monkeypatch.setattr(hyperparameters, "_RULES", ())
    environ = "import phiplug_llama_cpp.hyperparameters as h; h._RULES = ()"
    (tmp_path / "sitecustomize.py").write_text(environ)  # no rule in the other process either
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ModelCorrupt, match=r"ends the process of llama\.cpp: GGML_ASSERT\(n_embd_head == n_rot\) failed"
    ):
        phiplug_llama_cpp.load(ModelFiles("m", path, "gguf"), LoadOptions(threads=1))


def test_weights_stay_out_of_the_buffers_of_amx(load, monkeypatch):
    api, given = library().api, []
    opened = api.llama_model_load_from_file
    monkeypatch.setattr(api, "llama_print_system_info", lambda: b"CPU : AVX2 = 1 | AMX_INT8 = 1 | ")
    monkeypatch.setattr(
        api, "llama_model_load_from_file", lambda path, parameters: given.append(parameters) or opened(path, parameters)
    )
    load()
    assert not given[0].use_extra_bufts
