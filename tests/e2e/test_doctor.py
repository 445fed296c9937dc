"""`phiplug doctor` on this machine."""

import json
from pathlib import Path


def test_every_engine_that_is_here_computes_a_token(phiplug):
    ran = phiplug("doctor", "--json")
    report = json.loads(ran.out)
    backends = {found["name"]: found for found in report["backends"]}
    assert backends["toy"]["run"]["works"]
    for found in backends.values():
        assert (found["run"] is not None) == found["available"]
    assert f"{Path.home()}/" not in ran.out


def test_the_table_names_engines_and_what_is_free(phiplug):
    shown = phiplug("doctor").out
    assert "memory is free" in shown
    assert "toy" in shown
