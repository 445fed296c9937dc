"""Fairness: what may not be ranked, and why; what disturbed a run."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from measured import DRAWS, LOADED, MODEL, WORK, row, run

from phiplug.bench.coupling import allowed
from phiplug.bench.fairness import Entry, disagreement, kinship, notes, reasons


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


def test_another_depth_is_said():
    assert between(run(row(), workload=replace(WORK, depth=9)), run(row())) == ["9 tokens before the prompt, not 0"]


def test_another_format_of_as_many_bits_may_be_ranked_and_of_fewer_may_not():
    folder = replace(MODEL, format="folder", sha256="f" * 64)
    assert between(run(row(), model=replace(folder, bits_per_weight=4.01)), run(row())) == []
    assert between(run(row(), model=replace(folder, bits_per_weight=4.5)), run(row())) == [
        "4.50 bits per weight, not 4.00"
    ]
    unknown = replace(folder, bits_per_weight=None)
    assert "not known" in between(run(row(), model=unknown), run(row()))[0]


SHAPE = "30 layers of width 576, 9 heads, 3 of keys"
FOLDER = replace(MODEL, reference="folder", format="folder", sha256="f" * 64, bits_per_weight=4.01, shape=SHAPE)


def with_file(backend, model, *, loaded=LOADED):
    return replace(row(backend, loaded=loaded), model=model)


def test_two_files_of_one_run_are_ranked_by_their_formats_bits_shapes_and_draws():
    gguf = replace(MODEL, shape=SHAPE)
    for model, loaded, said in (
        (FOLDER, LOADED, ""),
        (FOLDER, drawn(0.5), "50.0% of its draws differ"),
        (FOLDER, replace(LOADED, draws=()), "its draws were not compared"),
        (replace(FOLDER, format="gguf"), LOADED, "another model file: SHA-256 ffffffffffff"),
        (replace(FOLDER, bits_per_weight=4.5), LOADED, "4.50 bits per weight, not 4.00"),
        (replace(FOLDER, shape="2 layers"), LOADED, f"another model: 2 layers, not {SHAPE}"),
    ):
        two = run(row("a"), with_file("b", model, loaded=loaded), model=gguf)
        found = between(two, two, row_index=1)
        assert "; ".join(found).startswith(said)
        assert bool(found) == bool(said)


def test_one_backend_with_two_files_is_judged_by_its_draws_too():
    two = run(row("a"), with_file("a", FOLDER, loaded=drawn(0.5)))
    assert between(two, two, row_index=1) == ["50.0% of its draws differ, and 18.1% is allowed"]


def test_kinship_says_what_the_headers_have_in_common():
    assert kinship(MODEL, replace(MODEL, reference="elsewhere")) == "the same file"
    gguf = replace(MODEL, shape=SHAPE, name="Tiny")
    assert kinship(FOLDER, gguf) == (
        "other files: folder (folder, 4.01 bits per weight, SHA-256 ffffffffffff) beside "
        f"tiny (gguf, 4.00 bits per weight, called Tiny, SHA-256 aaaaaaaaaaaa); both have {SHAPE}"
    )
    assert kinship(FOLDER, replace(gguf, shape="2 layers")).endswith(f"; {SHAPE}, not 2 layers")
    assert kinship(FOLDER, MODEL).endswith("; whether their shapes are alike is not known")


def drawn(share, *, floor=0.0):
    """What a backend says that draws otherwise than `LOADED` at so large a share of the positions, with every seed."""
    other = round(share * len(DRAWS))
    return replace(LOADED, draws=(-1,) * other + DRAWS[other:], floor=floor)


@pytest.mark.parametrize(
    ("loaded", "said"),
    [
        (drawn(0.0), []),
        (drawn(0.06), []),
        (drawn(0.5), ["50.0% of its draws differ, and 18.1% is allowed"]),
        (drawn(0.2, floor=0.09), []),
        (drawn(0.5, floor=0.4), ["50.0% of its draws differ, and 25.1% is allowed"]),
    ],
)
def test_backends_whose_draws_differ_too_often_are_not_ranked(loaded, said):
    two = run(row("a"), row("b", loaded=loaded))
    assert between(two, two, row_index=1) == said
    assert between(run(row("b", loaded=loaded)), run(row("a"))) == said


@pytest.mark.parametrize("draws", [(), DRAWS[:80]])
def test_draws_of_other_positions_are_not_compared(draws):
    two = run(row("a"), row("b", loaded=replace(LOADED, draws=draws)))
    assert between(two, two, row_index=1) == ["its draws were not compared"]


def test_one_backend_beside_itself_on_two_machines_needs_no_draws():
    bare = replace(LOADED, draws=())
    assert between(run(row("a", loaded=bare)), run(row("a"))) == []


def test_the_rule_can_be_applied_by_hand():
    found = disagreement(row("a", loaded=drawn(0.5, floor=0.01)), row("b", loaded=LOADED))
    assert (found.positions, found.share, found.floor) == (100, 0.5, 0.01)
    assert found.standard_error == pytest.approx(math.sqrt(0.25 / 99), rel=1e-6)
    assert found.allowed == pytest.approx(0.03 + 3 * found.standard_error)
    assert allowed(0.001, 0.04, 0.001) == pytest.approx(0.08)
    assert allowed(0.0, 0.0, 0.0) == 0.06
    assert allowed(0.0, 0.9, 0.0) == pytest.approx(0.2)


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
