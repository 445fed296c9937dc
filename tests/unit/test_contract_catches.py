"""Backends that are broken on purpose: a conformance test names the requirement that is violated, and says how."""

from __future__ import annotations

import dataclasses
import inspect
import mmap
import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import phiplug_toy
from phiplug.errors import UnsupportedParameter
from phiplug.spi import Backend, LoadOptions, ModelFiles, Probe
from phiplug.testing import BackendContract, ContractViolation
from phiplug_toy.model import ToyModel, _noise
from phiplug_toy.model import load as load_toy

TOY = phiplug_toy.phiplug_register_backends()[0]
FILES = phiplug_toy.phiplug_find_model("toy")


def broken(model_class: type[ToyModel], **info) -> Backend:
    """The toy backend, with models of another class and another info."""

    def load(files: ModelFiles, options: LoadOptions) -> ToyModel:
        sound = load_toy(files, options)
        return model_class(sound._following, dataclasses.replace(sound.info, **info))

    return dataclasses.replace(TOY, load=load)


def complaint(test: str, implementation: Backend, **attributes) -> str:
    """Run one test of the contract on a backend, outside pytest, and return the detail of its violation."""
    exact = {
        "chunking_tolerance": 0.0,
        "batching_tolerance": 0.0,
        "requests": 100,
        "model": "toy",
        "backend": implementation,
    }
    contract = type("Contract", (BackendContract,), exact | attributes)()
    wanted = inspect.signature(getattr(contract, test)).parameters
    given = {
        "implementation": lambda: implementation,
        "files": lambda: FILES,
        "record_property": lambda: lambda *_: None,
    }
    arguments = {name: given.get(name, lambda: contract.load(implementation, FILES))() for name in wanted}
    with pytest.raises(ContractViolation) as caught:
        getattr(contract, test)(**arguments)
    assert caught.value.requirement == getattr(contract, test).__doc__
    assert str(caught.value) == f'the contract requires: "{caught.value.requirement}" But {caught.value.detail}'
    return caught.value.detail


# What logits look like


def changing_logits(change):
    class Changed(ToyModel):
        def forward(self, steps):
            asked = super().forward(steps)
            return SimpleNamespace(logits=lambda: change(asked.logits()))

    return broken(Changed)


def with_nan(logits):
    spoiled = logits.copy()
    spoiled[-1, 7] = np.nan
    spoiled.flags.writeable = False
    return spoiled


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda logits: logits.astype(np.float64), "the logits are float64"),
        (with_nan, "1 logits are not finite"),
        (lambda logits: logits.copy(), "the logits can be written to"),
        (lambda logits: logits[:, :-1], "the shape is (3, 257) where (3, 258) was asked for"),
        (lambda logits: logits[-1:], "the shape is (1, 258) where (3, 258) was asked for"),
        (lambda logits: logits.tolist(), "logits() returned list, which is no NumPy array"),
    ],
)
def test_logits_of_the_wrong_kind_are_caught(change, how):
    assert complaint("test_logits_are_finite_read_only_float32_rows", changing_logits(change)) == how


class GivesTheFirstRows(ToyModel):
    def _compute(self, steps):
        every = super()._compute([dataclasses.replace(step, rows=len(step.tokens)) for step in steps])
        return every[: sum(step.rows for step in steps)]


def test_the_first_rows_instead_of_the_last_are_caught():
    assert "rows=1 gave other rows" in complaint("test_rows_are_those_of_the_last_tokens", broken(GivesTheFirstRows))


class SortsTheSteps(ToyModel):
    def _compute(self, steps):
        return super()._compute(sorted(steps, key=lambda step: step.slot))


def test_rows_in_the_order_of_the_slots_are_caught():
    detail = complaint("test_rows_come_in_the_order_of_the_steps", broken(SortsTheSteps))
    assert "a pass over slots 1 and 0 gave other rows than each alone" in detail


class ReturnsARowForAnInnerChunk(ToyModel):
    def _compute(self, steps):
        return super()._compute([dataclasses.replace(step, rows=step.rows or 1) for step in steps])


def test_a_row_that_nobody_asked_for_is_caught():
    assert (
        complaint("test_an_inner_chunk_returns_no_row", broken(ReturnsARowForAnInnerChunk)) == "the shape is (1, 258)"
    )


# When passes agree


class NeverTheSameTwice(ToyModel):
    passes = 0

    def _compute(self, steps):
        self.passes += 1
        return super()._compute(steps) + np.float32(1e-4 * self.passes)


def test_a_replay_that_drifts_is_caught():
    detail = complaint("test_a_replay_in_the_same_chunks_is_bit_equal", broken(NeverTheSameTwice))
    assert "a replay from token 0 gave other rows: the logits are" in detail
    assert "they should be bit-equal" in detail


class DependsOnTheChunk(ToyModel):
    def _compute(self, steps):
        return super()._compute(steps) * np.float32(1 + 0.01 * len(steps[0].tokens))


@pytest.mark.parametrize(
    ("test", "how"),
    [
        ("test_split_and_whole_prefill_agree", "split and whole"),
        ("test_decoding_and_prefilling_agree", "one by one"),
        ("test_a_long_prompt_agrees_with_itself_in_other_chunks", "other chunks"),
    ],
)
def test_chunks_that_change_logits_beyond_the_tolerance_are_caught(test, how):
    detail = complaint(test, broken(DependsOnTheChunk), chunking_tolerance=0.01, long_prompt_tolerance=0.01)
    assert how in detail
    assert "0.01 is declared" in detail


class SeesItsNeighbours(ToyModel):
    def _compute(self, steps):
        return super()._compute(steps) + np.float32(1e-3 * len(steps))


def test_a_slot_that_sees_its_neighbours_is_caught():
    assert "beside others" in complaint("test_a_slot_computes_the_same_beside_others", broken(SeesItsNeighbours))


class ForgetsTheBeginning(ToyModel):
    def _row(self, prefix):
        return super()._row(prefix[-6:])


def test_logits_that_do_not_depend_on_the_beginning_are_caught():
    detail = complaint("test_logits_depend_on_the_whole_prefix", broken(ForgetsTheBeginning))
    assert detail == "a prompt without its first token gave the same logits"


class IgnoresPositions(ToyModel):
    def _row(self, prefix):
        return self._following[()] + _noise(sum(prefix))


def test_logits_that_do_not_depend_on_the_order_are_caught():
    detail = complaint("test_logits_depend_on_the_whole_prefix", broken(IgnoresPositions))
    assert detail == "a prompt with its first two tokens swapped gave the same logits"


class BoundToItsThread(ToyModel):
    def __init__(self, following, info):
        super().__init__(following, info)
        self.thread = threading.get_ident()

    def _compute(self, steps):
        if threading.get_ident() != self.thread:
            raise RuntimeError("there is no stream in this thread")
        return super()._compute(steps)


def test_a_model_that_belongs_to_its_thread_is_caught():
    detail = complaint("test_another_thread_may_take_over", broken(BoundToItsThread))
    assert detail == "the backend raised RuntimeError: there is no stream in this thread"


def test_a_tolerance_above_the_cap_is_caught():
    detail = complaint("test_the_declared_tolerances_are_under_the_cap", TOY, chunking_tolerance=0.3)
    assert detail == "chunking_tolerance is 0.3"


# What the slots hold


class KeepsEverything(ToyModel):
    def rewind(self, slot, length):
        self._passes.settle()
        return len(self._slots[slot])


class KeepsOneMore(ToyModel):
    def rewind(self, slot, length):
        super().rewind(slot, length + 1)
        return min(length, len(self._slots[slot]))


class SaysWhatWasAsked(ToyModel):
    def rewind(self, slot, length):
        super().rewind(slot, length)
        return min(length, 12)


class KeepsTheEnd(ToyModel):
    def rewind(self, slot, length):
        self._passes.settle()
        self._slots[slot] = self._slots[slot][-length:] if length else []
        return len(self._slots[slot])


@pytest.mark.parametrize(
    ("model", "how"),
    [
        (KeepsEverything, "rewind to 0 of 8 tokens says that it kept 8"),
        (KeepsOneMore, "rewind to 0 says that it kept 0, and the slot holds 1"),
        (SaysWhatWasAsked, "rewind to 0 says that it kept 0, and the slot holds 12"),
    ],
)
def test_a_rewind_that_keeps_or_says_too_much_is_caught(model, how):
    assert complaint("test_rewind_keeps_no_more_than_asked", broken(model)) == how


def test_a_rewind_that_does_not_empty_the_slot_is_caught():
    assert (
        complaint("test_a_slot_rewound_to_nothing_is_as_new", broken(KeepsEverything))
        == "it says that tokens were kept"
    )


def test_a_rewind_that_keeps_the_end_is_caught():
    detail = complaint("test_what_rewind_kept_is_the_beginning", broken(KeepsTheEnd))
    assert "the 5 kept tokens are others" in detail


class SlidesAlong(ToyModel):
    def _compute(self, steps):
        rows = super()._compute(steps)
        for held in self._slots:
            del held[: max(0, len(held) - 100)]
        return rows


def test_a_context_that_slides_silently_is_caught():
    assert complaint("test_a_slot_can_be_filled", broken(SlidesAlong)) == "it holds 100 of 640 tokens"


class CopiesTooFar(ToyModel):
    def copy(self, source, target, length):
        super().copy(source, target, length + 1)
        return min(length, len(self._slots[target]))


class CopiesNothing(ToyModel):
    def copy(self, source, target, length):
        super().copy(source, target, 0)
        return min(length, len(self._slots[source]))


class Moves(ToyModel):
    def copy(self, source, target, length):
        count = super().copy(source, target, length)
        self._slots[source] = []
        return count


@pytest.mark.parametrize(
    ("model", "how"),
    [
        (CopiesTooFar, "a copy of 5 tokens says 5, and the target holds 6"),
        (CopiesNothing, "a copy of 8 tokens says 8, and the target holds 0"),
        (Moves, "a copy of 8 of 8 tokens left 0 in the source"),
    ],
)
def test_a_copy_that_is_none_is_caught(model, how):
    assert complaint("test_copy_shares_a_prefix_or_says_0", broken(model)) == how


def test_a_model_that_says_falsely_whether_it_can_copy_is_caught():
    class CannotCopy(ToyModel):
        def copy(self, source, target, length):
            return super().copy(source, target, 0)

    detail = complaint("test_the_feature_copy_says_whether_it_can", broken(CannotCopy))
    assert detail == "its features name copy, and a copy of 8 tokens says 0"
    detail = complaint("test_the_feature_copy_says_whether_it_can", broken(ToyModel, features=frozenset()))
    assert detail == "its features do not name copy, and a copy of 8 tokens says 8"


class SharesOneList(ToyModel):
    def copy(self, source, target, length):
        self._passes.settle()
        if length >= len(self._slots[source]):
            self._slots[target] = self._slots[source]
            return len(self._slots[target])
        return super().copy(source, target, length)


def test_a_copy_that_shares_what_follows_is_caught():
    detail = complaint("test_after_a_copy_the_slots_go_on_apart", broken(SharesOneList))
    assert "what was done to the target changed the source" in detail


class OneCacheForAll(ToyModel):
    def __init__(self, following, info):
        super().__init__(following, info)
        self._slots = [self._slots[0]] * info.slots


@pytest.mark.parametrize("model", [OneCacheForAll, SharesOneList, CopiesTooFar, KeepsTheEnd])
def test_slots_that_touch_are_caught_in_some_interleaving(model):
    detail = complaint("test_slots_do_not_touch_each_other", broken(model), interleavings=50, interleaving_steps=30)
    assert "slot" in detail or "a row after" in detail


# Passes that were asked for and left


class DropsAtForward(ToyModel):
    def forward(self, steps):
        self._passes._last = None
        return super().forward(steps)


class DropsAtRewind(ToyModel):
    def rewind(self, slot, length):
        self._passes._last = None
        return super().rewind(slot, length)


class DropsAtCopy(ToyModel):
    def copy(self, source, target, length):
        self._passes._last = None
        return super().copy(source, target, length)


class RunsAgainWhenReadAgain(ToyModel):
    def forward(self, steps):
        asked = super().forward(steps)
        asked.logits = lambda: self._compute(steps)
        return asked


class AppliesTwice(ToyModel):
    def rewind(self, slot, length):
        asked = self._passes._last
        if asked is not None and asked.is_due:
            asked.logits()
            for step in asked._steps:
                self._slots[step.slot] += step.tokens
        return super().rewind(slot, length)


@pytest.mark.parametrize(
    ("test", "model", "how"),
    [
        ("an_unread_pass_takes_effect_once", DropsAtForward, "a forward after an unread pass gave other rows"),
        ("an_unread_pass_takes_effect_once", DropsAtRewind, "a rewind after an unread pass over 6 tokens finds 0"),
        ("an_unread_pass_takes_effect_once", AppliesTwice, "a rewind after an unread pass over 6 tokens finds 12"),
        ("a_copy_sees_an_unread_pass", DropsAtCopy, "after an unread pass over 6 tokens and a copy the source holds 0"),
        ("a_pass_can_be_read_twice", RunsAgainWhenReadAgain, "the second reading gave other rows"),
        ("a_prompt_can_be_cancelled_between_chunks", KeepsEverything, "the abandoned tokens stay"),
    ],
)
def test_a_pass_that_counts_not_once_is_caught(test, model, how):
    assert how in complaint(f"test_{test}", broken(model))


class ClosesOnce(ToyModel):
    def close(self):
        del self._following


def test_a_model_that_can_be_closed_only_once_is_caught():
    detail = complaint("test_close_drops_what_is_pending_and_may_be_repeated", broken(ClosesOnce))
    assert detail.startswith("the backend raised AttributeError")


# Around the passes


class KeepsMemory(ToyModel):
    def _compute(self, steps):
        page = mmap.mmap(-1, 1 << 16)  # new to the process, whatever its heap has to spare after a thousand tests
        page.write(os.urandom(1 << 16))
        self.hoard = [*getattr(self, "hoard", []), page]
        return super()._compute(steps)


class KeepsAFile(ToyModel):
    def _compute(self, steps):
        self.files = [*getattr(self, "files", []), os.open(os.devnull, os.O_RDONLY)]
        return super()._compute(steps)

    def close(self):
        for file in self.files:
            os.close(file)


def test_memory_that_is_not_given_back_is_caught():
    assert "100 requests took " in complaint("test_requests_leak_nothing", broken(KeepsMemory))


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="file descriptors are not counted here")  # noqa: PTH112
def test_a_file_that_is_not_closed_is_caught():
    implementation = broken(KeepsAFile)
    models = []
    load = implementation.load
    leaking = dataclasses.replace(implementation, load=lambda *given: models.append(load(*given)) or models[-1])
    assert complaint("test_requests_leak_nothing", leaking) == "100 requests left 200 file descriptors open"
    for model in models:
        model.close()


def test_a_close_that_leaves_files_open_is_caught():
    opened = []

    def load(files, options):
        opened.append(os.open(os.devnull, os.O_RDONLY))
        return load_toy(files, options)

    detail = complaint("test_close_gives_back_file_descriptors", dataclasses.replace(TOY, load=load))
    assert detail == "three times load() and close() left 3 open"
    for file in opened:
        os.close(file)


@pytest.mark.parametrize("fault", ["missing", "empty", "garbage", "truncated"])
def test_a_bad_file_that_loads_is_caught(fault, tmp_path):
    careless = dataclasses.replace(TOY, load=lambda files, options: load_toy(FILES, options))
    detail = _complaint_about_a_file(careless, fault, tmp_path)
    assert detail == f"a model whose file is {fault} loaded as if it were whole"


def test_a_bad_file_that_raises_what_users_cannot_read_is_caught(tmp_path):
    def load(files, options):
        raise ValueError("unexpected byte 0xd8")

    detail = _complaint_about_a_file(dataclasses.replace(TOY, load=load), "garbage", tmp_path)
    assert detail == "the backend raised ValueError: unexpected byte 0xd8"


def _complaint_about_a_file(implementation: Backend, fault: str, folder) -> str:
    contract = type("Contract", (BackendContract,), {"backend": implementation})()
    with pytest.raises(ContractViolation) as caught:
        contract.test_a_bad_file_is_a_model_error(fault, implementation, FILES, folder)
    assert caught.value.requirement == "A bad file gives a ModelError."
    return caught.value.detail


def test_an_option_that_is_ignored_is_caught():
    careless = dataclasses.replace(TOY, load=lambda files, options: load_toy(files, LoadOptions()))
    assert complaint("test_what_cannot_be_honoured_is_refused", careless) == "device='no-such-device' was ignored"


def test_an_option_that_is_refused_by_another_name_is_caught():
    def load(files, options):
        raise UnsupportedParameter("threads", "no")

    detail = complaint("test_what_cannot_be_honoured_is_refused", dataclasses.replace(TOY, load=load))
    assert detail == "device='no-such-device' is refused by the name 'threads'"


@pytest.mark.parametrize(
    ("change", "how"),
    [
        ({"name": "My Backend"}, "its name is 'My Backend'"),
        ({"summary": ""}, "its summary has 0 lines"),
        ({"api": 99}, "it was written for version 99 of the contract, and this is 2"),
    ],
)
def test_an_improper_introduction_is_caught(change, how):
    assert complaint("test_the_backend_introduces_itself", dataclasses.replace(TOY, **change)) == how


@pytest.mark.parametrize(
    ("info", "how"),
    [
        ({"chunk": 0}, "chunk is 0"),
        ({"version": " "}, "version is empty"),
        ({"device": "cuda:0"}, "device 'cuda:0' is not among the probe's"),
    ],
)
def test_an_info_that_makes_no_sense_is_caught(info, how):
    assert complaint("test_the_info_is_sane", broken(ToyModel, **info)) == how


def test_a_backend_that_accepts_everything_is_caught():
    greedy = dataclasses.replace(TOY, accepts=lambda files: True)
    assert "in 'a format of nobody'" in complaint("test_it_accepts_its_own_files_alone", greedy)
    shy = dataclasses.replace(TOY, accepts=lambda files: False)
    assert complaint("test_it_accepts_its_own_files_alone", shy) == "it does not accept 'toy'"


def _probe_that_raises() -> Probe:
    raise OSError("no driver")


def _probe_that_sleeps() -> Probe:
    time.sleep(0.05)
    return Probe(available=True, devices=("cpu",))


@pytest.mark.parametrize(
    ("probe", "how"),
    [
        (_probe_that_raises, "the backend raised OSError: no driver"),
        (_probe_that_sleeps, "it takes 0.1 s at best"),
        (lambda: Probe(available=True), "it names no device"),
        (lambda: None, "it returned NoneType"),
    ],
)
def test_a_probe_that_raises_dawdles_or_says_nothing_is_caught(probe, how):
    implementation = dataclasses.replace(TOY, probe=probe)
    assert how in complaint("test_the_probe_is_quick", implementation, probe_seconds=0.04)


PLUGIN = """
{top}
from phiplug.spi import Backend, Probe, hookimpl

def probe():
    {inside}
    return Probe(available=True, devices=("cpu",))

@hookimpl
def phiplug_register_backends():
    return [Backend(name="mine", summary="mine", probe=probe, accepts=bool, load=print, api=2)]
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Makes a plugin of two pieces of code: what it does when it is imported, and when it is probed."""

    def write(top: str, inside: str) -> str:
        (tmp_path / "a_plugin_of_mine.py").write_text(PLUGIN.format(top=top, inside=inside))
        monkeypatch.syspath_prepend(tmp_path)
        return "a_plugin_of_mine"

    return write


def test_a_plugin_that_imports_its_engine_is_caught(plugin):
    name = plugin("import colorsys", "pass")
    detail = complaint("test_importing_the_plugin_imports_no_engine", TOY, plugin=name, engines=("colorsys",))
    assert detail == "it imports colorsys"


def test_a_probe_that_raises_without_its_engine_is_caught(plugin):
    name = plugin("", "import colorsys")
    detail = complaint("test_a_probe_without_the_engine_says_so", TOY, plugin=name, engines=("colorsys",))
    assert detail.startswith("in a process of its own it failed: ModuleNotFoundError")


def test_a_probe_that_gives_no_reason_is_caught(plugin):
    name = plugin("import sys", "if sys.modules.get('colorsys', 0) is None: return Probe(available=False)")
    detail = complaint("test_a_probe_without_the_engine_says_so", TOY, plugin=name, engines=("colorsys",))
    assert detail == "without its engine it gives no reason"
