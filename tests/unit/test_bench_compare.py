"""Comparing runs: ratios with intervals, ranks, and when something became slower."""

from __future__ import annotations

from dataclasses import replace

import pytest
from measured import HARDWARE, LOADED, MODEL, WORK, row, run

from phiplug.bench.compare import lines, overhead, regressions
from phiplug.errors import InvalidParameter


def test_ranks_are_given_among_rows_of_as_many_slots():
    found = lines([run(row("a"), row("b", (0.005,) * 8), row("a", (0.01,) * 8, slots=2))])
    assert [(line.entry.row.contender.name, line.rank) for line in found] == [("a", 2), ("b", 1), ("a, 2 slots", 1)]
    assert found[1].decode.value == pytest.approx(2.0)


def test_a_bare_engine_has_a_ratio_and_no_rank():
    bare = lines([run(row("a"), row("a", (0.005,) * 8, mode="engine"))])[1]
    assert (bare.rank, bare.reasons) == (None, ())
    assert bare.decode.value == pytest.approx(2.0)


def test_rows_of_one_run_are_compared_within_each_round():
    drifting, twice = (0.01, 0.02, 0.04) * 3, (0.005, 0.01, 0.02) * 3  # a machine that jumps, and what is twice as fast
    first, second = (line.decode for line in lines([run(row("a", drifting), row("b", twice))]))
    assert (first.value, first.low, first.high) == (1, 1, 1)
    assert (second.value, second.low, second.high) == pytest.approx((2, 2, 2))
    apart = lines([run(row("a", drifting)), run(row("b", twice))])[1].decode
    assert apart.low <= 1
    assert apart.high > 2  # rounds of two runs have nothing to do with one another


def test_ranks_are_those_of_the_rates_that_are_shown():
    uneven = row("b", (0.001, 0.012, 0.012, 0.012, 0.012))
    found = lines([run(row("a", (0.01,) * 5), uneven)])
    assert [line.rank for line in found] == [1, 2]


def test_what_may_not_be_ranked_keeps_its_figures():
    other = run(row("a", (0.001,) * 3), model=replace(MODEL, sha256="0" * 64))
    first, second = lines([run(row("a")), other])
    assert (first.rank, second.rank) == (1, None)
    assert second.reasons[0].startswith("another model file")
    assert second.decode.value == pytest.approx(10.0)


def test_a_row_that_failed_is_still_a_line():
    failed = replace(row("b"), samples=(), loaded=None, error="b: no such library")
    found = lines([run(row("a"), failed)])
    assert (found[1].rank, found[1].reasons, found[1].decode) == (None, ("b: no such library",), None)


def test_overhead_is_measured_within_each_round():
    through, bare = row("a", (0.01, 0.1) * 4), row("a", (0.009, 0.09) * 4, mode="engine")
    found = overhead(run(through, bare))["a"]
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.9, 0.9))
    assert overhead(run(through)) == {}


def slowed(factor):
    return run(row(steps=tuple(factor * step for step in (0.0099, 0.01, 0.0101))))


OLD = slowed(1)


def test_a_run_is_no_regression_of_itself():
    assert regressions(OLD, OLD, over=0.05) == []


@pytest.mark.parametrize(("factor", "count"), [(0.5, 0), (1.04, 0), (1.06, 1)])
def test_slower_by_more_than_the_bound_is_a_regression(factor, count):
    assert len(regressions(OLD, slowed(factor), over=0.05)) == count


def test_the_old_runs_own_noise_raises_the_bound():
    noisy = run(row(steps=(0.008, 0.010, 0.012)))  # MAD 0.002: 60% is allowed
    assert regressions(noisy, slowed(1.5), over=0.05) == []
    assert regressions(noisy, slowed(1.7), over=0.05) == ["a: decode takes 70.0% longer, and 60.0% is allowed"]


def test_a_contender_that_fails_or_is_gone_is_a_regression():
    both = run(row("a"), row("b"))
    failed = replace(both, rows=(both.rows[0], replace(both.rows[1], samples=(), error="b: crashed")))
    assert regressions(both, failed, over=0.05) == ["b: b: crashed"]
    assert regressions(both, run(row("a")), over=0.05) == ["b: is missing"]
    interrupted = replace(both, rows=(both.rows[0], replace(both.rows[1], samples=())), complete=False)
    assert regressions(both, interrupted, over=0.05) == ["b: is missing"]


def test_a_regression_is_judged_on_as_many_threads_alone():
    fewer = run(row("a", loaded=replace(LOADED, threads=LOADED.threads + 1)))
    with pytest.raises(InvalidParameter, match="the runs have different threads of a"):
        regressions(run(row("a")), fewer, over=0.05)


def test_a_regression_is_judged_on_the_same_file_of_each_row():
    other = replace(MODEL, sha256="f" * 64)
    with pytest.raises(InvalidParameter, match="the runs have different model of a, aaaaaaaaaaaa and ffffffffffff"):
        regressions(run(row("a")), run(replace(row("a"), model=other)), over=0.05)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"hardware": replace(HARDWARE, id="f" * 12)}, "hardware"),
        ({"model": replace(MODEL, sha256="0" * 64)}, "model"),
        ({"workload": replace(WORK, sha256="0" * 64)}, "prompt"),
        ({"workload": replace(WORK, gen_tokens=6)}, "lengths"),
    ],
)
def test_a_regression_is_judged_on_equal_terms_alone(changes, what):
    with pytest.raises(InvalidParameter, match=f"the runs have different {what}"):
        regressions(OLD, run(row(), **changes), over=0.05)
