"""Fairness: what may not be ranked, and why; what disturbed a run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from measured import LOADED, MODEL, PICKS, WORK, row, run

from phiplug.bench.fairness import Entry, least_top1, notes, reasons
from phiplug.bench.types import ParityCheck


def between(mine, theirs, row_index=0):
    return reasons(Entry(mine, mine.rows[row_index]), Entry(theirs, theirs.rows[0]))


def test_the_same_file_prompt_and_lengths_may_be_ranked():
    assert between(run(row()), run(row())) == []


def test_a_model_file_that_differs_by_one_byte_is_not_ranked():
    other = run(row(), model=replace(MODEL, sha256="a" * 63 + "b"))
    other = replace(other, model=replace(other.model, sha256="d" + "a" * 63))
    assert between(other, run(row())) == [f"another model file: SHA-256 d{'a' * 11}, not {'a' * 12}"]


def test_another_prompt_is_said_with_both_hashes():
    other = run(row(loaded=replace(LOADED, prompt_sha256="e" * 64)))
    assert between(other, run(row())) == [f"other prompt ids: {'e' * 12}, not {'b' * 12}"]


def test_another_number_of_tokens_is_said():
    assert between(run(row(), workload=replace(WORK, gen_tokens=9)), run(row())) == ["9 generated tokens, not 5"]


def test_another_format_of_as_many_bits_may_be_ranked_and_of_fewer_may_not():
    folder = replace(MODEL, format="folder", sha256="f" * 64)
    assert between(run(row(), model=replace(folder, bits_per_weight=4.01)), run(row())) == []
    assert between(run(row(), model=replace(folder, bits_per_weight=4.5)), run(row())) == [
        "4.50 bits per weight, not 4.00"
    ]
    unknown = replace(folder, bits_per_weight=None)
    assert "not known" in between(run(row(), model=unknown), run(row()))[0]


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (ParityCheck(("a", "b"), 128, 0.97, 0.003), []),
        (ParityCheck(("a", "b"), 128, 0.80, 0.003), ["parity: top-1 0.800, mean KL 0.0030 over 128 positions"]),
        (ParityCheck(("a", "b"), 128, 0.97, 0.5), ["parity: top-1 0.970, mean KL 0.5000 over 128 positions"]),
        (ParityCheck(("a", "b"), error="b: no"), ["parity could not be checked: b: no"]),
    ],
)
def test_backends_that_disagree_are_not_ranked(check, said):
    two = run(row("a"), row("b"), parity=(check,))
    assert between(two, two, row_index=1) == said


def test_a_divergence_that_is_no_number_is_no_agreement():
    two = run(row("a"), row("b"), parity=(ParityCheck(("a", "b"), 128, 1.0, float("nan")),))
    assert between(two, two, row_index=1) != []


def test_without_a_parity_check_two_backends_are_not_ranked():
    bare = replace(LOADED, picks=())
    two = run(row("a", loaded=bare), row("b", loaded=bare), parity=())
    assert between(two, two, row_index=1) == ["parity was not checked"]


def test_two_machines_are_held_together_by_their_likeliest_tokens():
    assert between(run(row("b")), run(row("a"))) == []
    other = replace(LOADED, picks=tuple(-1 if index < 50 else pick for index, pick in enumerate(PICKS)))
    assert between(run(row("b", loaded=other)), run(row("a"))) == ["parity: top-1 0.500 on the same forced positions"]


def test_few_positions_are_judged_with_their_own_uncertainty():
    assert least_top1(128) == pytest.approx(0.911, abs=1e-3)
    assert least_top1(10**9) == pytest.approx(0.95, abs=1e-4)


def test_a_row_that_failed_says_why():
    failed = replace(row(), samples=(), error="b: its process was killed by signal 11")
    assert between(run(failed), run(row())) == ["b: its process was killed by signal 11"]
    assert between(run(replace(row(), samples=())), run(row())) == ["no round was finished"]


def test_a_quiet_run_has_no_notes():
    assert notes(run(row())) == []


def test_what_disturbed_a_run_is_said():
    noisy = run(row(steps=(0.01, 0.02, 0.04)), others_cpu=1.34, throttled=3, complete=False, rounds=5)
    assert notes(noisy) == [
        "interrupted: 3 of 5 rounds are done",
        "a: half of the rounds spread over 75% of the median of decoding",
        "others, processes or guests of one host, kept 1.3 of 4 cores busy",
        "heat slowed the processor down 3 times",
    ]


def test_rounds_that_gave_different_tokens_are_said():
    first, *others = row().samples
    mixed = replace(row(), samples=(replace(first, output="d" * 16), *others))
    assert notes(run(mixed)) == ["a: the rounds did not give the same tokens"]
