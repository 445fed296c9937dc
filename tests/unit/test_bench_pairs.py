"""The pairs of bench/: peers are measured before phiplug and after it by turns, and ratios are taken within a round."""

from __future__ import annotations

from bench.pairs import paired


class Rounds:
    """pytest-benchmark's fixture, as far as it is used."""

    def __init__(self):
        self.extra_info = {}

    def pedantic(self, target, setup, teardown, rounds):
        for _ in range(rounds):
            setup()
            target()
            teardown()


def contestant(name, seconds, order):
    remaining = iter(seconds)

    def measure():
        order.append(name)
        return next(remaining)

    return measure


def test_the_peer_is_measured_before_phiplug_and_after_it_by_turns():
    order = []
    paired(Rounds(), contestant("phiplug", [1] * 5, order), {"peer": contestant("peer", [1] * 5, order)}, rounds=4)
    assert order[2:] == ["peer", "phiplug", "phiplug", "peer"] * 2


def test_the_ratio_is_the_median_of_the_rounds_and_the_first_call_of_each_is_a_warm_up():
    benchmark = Rounds()
    ours, peer = contestant("phiplug", [9, 1, 2, 4], []), contestant("peer", [99, 2, 6, 16], [])
    paired(benchmark, ours, {"peer": peer}, rounds=3)
    assert benchmark.extra_info == {"seconds": 2, "times_as_fast_as": {"peer": 3}}
