"""An engine before and after an update: the same bits, noise, and logits that moved."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nudged import llm

from phiplug.bench.snapshot import KEPT, LEAST, load, movement, save, take
from phiplug.errors import InvalidParameter

TEXTS = ["abcdefghij", "klmno"]


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "before.npz"
    save(take(llm("a"), TEXTS, positions=12), path)
    return load(path)


def test_an_engine_that_did_not_change_gives_the_same_bits(kept):
    found = movement(kept, llm("a"), TEXTS)
    assert (found.positions, found.changed, found.allowed) == (12, 0, LEAST)
    assert found.kl_mean < 1e-9  # log-probabilities are kept in float32
    assert found.most < 1e-5
    assert found.is_noise


def test_what_is_kept_is_small_and_says_what_made_it(kept):
    assert kept.tokens.shape == kept.logprobs.shape == (12, min(KEPT, 16))
    assert (kept.origin.backend, kept.origin.noise) == ("a", 0.0)
    assert (np.diff(kept.logprobs, axis=1) <= 0).all()


def test_a_row_that_moved_a_little_is_other_bits_and_noise(kept):
    found = movement(kept, llm("b", nudge=1e-3, at=(2, 3)), TEXTS)
    assert found.changed == 2
    assert 0 < found.most < 2e-3
    assert found.is_noise


def test_logits_that_moved_are_found_and_measured(kept):
    found = movement(kept, llm("b", nudge=40.0, at=(2, 3, 4)), TEXTS)
    assert found.changed == 3
    assert found.most == pytest.approx(20, abs=1)
    assert found.kl_mean > 1
    assert not found.is_noise


def test_noise_is_allowed_as_much_as_the_engine_had_by_itself():
    uneven = llm("b")
    plain_rows = uneven.engine.model.rows
    uneven.engine.model.rows = lambda step: (row * (1.1 if len(step.tokens) > 1 else 1.0) for row in plain_rows(step))
    snapshot = take(uneven, TEXTS, positions=12)
    assert movement(snapshot, uneven, TEXTS).allowed == max(LEAST, snapshot.origin.noise)


def test_a_snapshot_of_other_ids_is_refused(kept):
    with pytest.raises(InvalidParameter, match="against: is of other ids"):
        movement(kept, llm("a"), ["zyxwvutsrqponm"])


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04 not an archive"])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "none").write_bytes(content)
    with pytest.raises(InvalidParameter, match="was not written by `phiplug parity --save`"):
        load(tmp_path / "none")
    with pytest.raises(InvalidParameter, match="cannot be read"):
        load(tmp_path / "missing")


def test_a_file_of_another_version_is_refused(tmp_path):
    np.savez(tmp_path / "old.npz", about=json.dumps({"version": 0}))
    with pytest.raises(InvalidParameter, match="another version"):
        load(tmp_path / "old.npz")


def test_from_the_command_line_it_is_one_line_and_an_exit_code(phiplug, tmp_path):
    path = tmp_path / "before.npz"
    saved = phiplug("parity", "-b", "toy", "--positions", "20", "--save", str(path))
    assert saved.code == 0
    assert "20 positions are kept" in saved.out
    same = phiplug("parity", "-b", "toy", "--against", str(path))
    assert same.code == 0
    assert "the same bits at 20 positions" in same.out
    with np.load(path) as file:
        changed = dict(file)
    changed["logprobs"][:, 0] -= 3
    changed["checksums"][:5] += np.uint64(1)
    np.savez(path, **changed)
    moved = phiplug("parity", "-b", "toy", "--against", str(path))
    assert moved.code == 1
    assert "its logits have moved: other bits at 5 of 20 positions" in moved.out


@pytest.mark.parametrize("backends", [(), ("-b", "toy", "-b", "toy")])
def test_it_is_about_one_engine(phiplug, tmp_path, backends):
    ran = phiplug("parity", *backends, "--save", str(tmp_path / "x"))
    assert ran.code == 2
    assert "are about one engine" in ran.err
