"""Each dialect does what its peer does: the rows that were run on, or derived from, the peer, held to our rules.

A row gives logits (or probabilities, or `log_of_id`: the logarithms of 0, 1, ..., n - 1), a history, parameters that
are neutral where it names none, now and then an order of `stages` of its own, and what comes out: a `distribution`, the
`kept` ids, a `kept_range` or a `count` of those with a probability above 0, a `token`, `adjusted` logits, or the
parameter that an `error` names. A row that is left out says why.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phiplug.errors import InvalidParameter
from phiplug.sampling import Sampler
from phiplug.types import SamplingParams

DATA = Path(__file__).parents[1] / "data"
SOURCES = Path(__file__).parents[3] / "shared" / "golden"
PEERS = ("candle", "llamacpp", "mlx", "hf")
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "repeat_penalty": 1.0, "seed": 0}


def read(peer):
    content = json.loads((DATA / f"sampling_{peer}.json").read_text())
    return [row | {"dialect": content["dialect"]} for row in content["rows"]]


ROWS = [row for peer in PEERS for row in read(peer)]
DECIDED = [row for row in ROWS if "left_out" not in row]


def logits_of(row):
    with np.errstate(divide="ignore"):
        if "log_of_id" in row:
            return np.log(np.arange(row["log_of_id"])).astype(np.float32)
        if "probs" in row:
            return np.log(np.array(row["probs"])).astype(np.float32)
    return np.array(row["logits"], np.float32)


def sampler_of(row):
    given = {**row["params"], "dry_breakers": tuple(map(tuple, row["params"].get("dry_breakers", ())))}
    sampler = Sampler(SamplingParams(**NEUTRAL | given, dialect=row["dialect"]), [], row.get("history", []))
    if "stages" in row:
        sampler._rules = replace(sampler._rules, stages=tuple(row["stages"]))
    return sampler


def check(row):
    sampler, logits = sampler_of(row), logits_of(row)
    if "adjusted" in row:
        x = logits.copy()
        sampler._adjust(x)
        np.testing.assert_allclose(x, row["adjusted"], atol=row.get("tolerance", 1e-6))
        return
    distribution = sampler.distribution(logits)
    assert sampler(logits) in distribution
    if "distribution" in row:
        dense = np.zeros(len(logits))
        dense[list(distribution)] = list(distribution.values())
        expected = np.zeros(len(logits))
        expected[[int(token) for token in row["distribution"]]] = list(row["distribution"].values())
        np.testing.assert_allclose(dense, expected, atol=1e-5)
    elif "kept_range" in row:
        assert sorted(distribution) == list(range(row["kept_range"][0], row["kept_range"][1] + 1))
    elif "count" in row:
        assert len(distribution) == row["count"]
    else:
        assert sorted(distribution) == sorted(row["kept"] if "kept" in row else [row["token"]])


def check_refused(row):
    with pytest.raises(InvalidParameter) as caught:
        sampler_of(row)(logits_of(row))
    assert caught.value.name == row["error"]


@pytest.mark.parametrize("row", DECIDED, ids=lambda row: row["id"])
def test_a_row_comes_out_as_the_peer_has_it(row):
    (check_refused if "error" in row else check)(row)


def test_every_row_is_run_or_left_out_with_a_reason_and_none_fails(capsys):
    failed = []
    for row in DECIDED:
        try:
            (check_refused if "error" in row else check)(row)
        except AssertionError:
            failed.append(row["id"])
    left_out = Counter(row["left_out"] for row in ROWS if "left_out" in row)
    counts = f"{len(DECIDED) - len(failed)} passed, {left_out.total()} left out, {len(failed)} failed"
    reasons = [f"  {count} left out: {reason}" for reason, count in left_out.most_common()]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", f"golden sampling rows: {counts}", *reasons, ""]))
    assert not failed


@pytest.mark.skipif(not SOURCES.is_dir(), reason="a clone has the copied numbers alone")
@pytest.mark.parametrize("peer", PEERS)
def test_no_row_of_the_sources_is_missing(peer):
    records = json.loads((SOURCES / f"sampling_{peer}.json").read_text())["records"]
    assert [row["id"] for row in read(peer)] == [record["id"] for record in records]
