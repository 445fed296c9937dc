"""The record: what is written is read back, and what is no record is said to be none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from measured import MODEL, row, run

from phiplug.bench.record import as_json, load, save
from phiplug.errors import InvalidParameter

FOLDER = replace(MODEL, reference="folder", sha256="f" * 64, shape="2 layers")
RUN = run(
    row("a"),
    row("a", (0.005,) * 3, mode="engine"),
    replace(row("b"), samples=(), loaded=None, error="b: no", model=FOLDER),
)


def test_a_run_comes_back_as_it_was(tmp_path):
    save(RUN, tmp_path / "run.json")
    assert load(tmp_path / "run.json") == RUN


def test_the_json_is_pytest_benchmarks_and_every_raw_sample_is_in_it():
    found = as_json(RUN)
    assert {"machine_info", "commit_info", "benchmarks", "datetime", "version"} < set(found)
    assert [each["name"] for each in found["benchmarks"]] == ["a", "a, bare engine"]  # what failed has no seconds
    assert found["benchmarks"][0]["stats"]["data"] == pytest.approx([0.14] * 8)
    assert found["benchmarks"][0]["extra_info"]["decode_tps"]["values"] == pytest.approx((100.0,) * 8)


def test_the_statistics_are_pytest_benchmarks_own():
    stats = pytest.importorskip("pytest_benchmark.stats")
    theirs = stats.Stats()
    steps = (0.010, 0.012, 0.011, 0.030)
    for each in row(steps=steps).samples:
        theirs.update(each.wall_s)
    ours = as_json(run(row(steps=steps)))["benchmarks"][0]["stats"]
    for name in ("min", "max", "mean", "stddev", "rounds", "median", "stddev_outliers", "ops", "total"):
        assert ours[name] == pytest.approx(getattr(theirs, name)), name
    assert set(theirs.fields) <= set(ours)


def test_no_host_is_named(monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "anns-laptop")
    assert "anns-laptop" not in json.dumps(as_json(RUN))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no run"),
        ("[]", "is no run"),
        ('{"benchmarks": []}', "is no run"),
        ('{"phiplug": {"schema": 99, "run": {}}}', "has schema 99, and this phiplug reads 1"),
        ('{"phiplug": {"schema": 1, "run": {}}}', "is damaged: 'started'"),
        ('{"phiplug": {"schema": 1, "run": []}}', "is damaged: a Run is an object, not list"),
    ],
)
def test_what_is_no_run_is_said_to_be_none(tmp_path, text, said):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(InvalidParameter) as refused:
        load(path)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("rounds",), "five"),
        (("rows",), ""),
        (("rows",), [{"contender": {"backend": "a", "mode": "slow"}}]),
        (("workload",), None),
        (("others_cpu",), 1e-320),
    ],
)
def test_a_field_of_another_type_is_damage(tmp_path, place, value):
    written = json.loads(json.dumps(as_json(RUN)))
    written["phiplug"]["run"][place[0]] = value
    (tmp_path / "run.json").write_text(json.dumps(written))
    with pytest.raises(InvalidParameter, match="is damaged"):
        load(tmp_path / "run.json")


def test_a_file_that_is_not_there_or_cannot_be_written_is_named(tmp_path):
    with pytest.raises(InvalidParameter, match=r"none\.json cannot be read"):
        load(tmp_path / "none.json")
    with pytest.raises(InvalidParameter, match="cannot be written"):
        save(RUN, tmp_path)
