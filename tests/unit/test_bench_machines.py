"""What machines are called: by their chip, and by more only where that is not enough."""

from __future__ import annotations

from dataclasses import replace

import pytest
from measured import HARDWARE, LOADED, row, run

from phiplug.bench.machines import chip, machine_name, shortened

NAMES = {
    "Intel(R) Xeon(R) Processor": "Intel Xeon",
    "Intel(R) Xeon(R) CPU @ 2.20GHz": "Intel Xeon",
    "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz": "Intel Core i7-9750H",
    "AMD EPYC 7763 64-Core Processor": "AMD EPYC 7763",
    "AMD Ryzen 7 5700G with Radeon Graphics": "AMD Ryzen 7 5700G",
    "Apple M4 Pro GPU": "Apple M4 Pro",
    "NVIDIA H100 80GB HBM3": "NVIDIA H100 80GB HBM3",
    "": "?",
}


@pytest.mark.parametrize(("name", "short"), NAMES.items())
def test_a_name_loses_what_makers_add(name, short):
    assert shortened(name) == short


def test_a_run_is_called_by_its_card_only_where_a_row_ran_on_it():
    hardware = replace(HARDWARE, gpus=("NVIDIA H200, 143771 MiB, 580.1",))
    assert chip(run(row(), hardware=hardware)) == "Imaginary 9000"
    assert chip(run(row(loaded=replace(LOADED, device="cuda:0")), hardware=hardware)) == "NVIDIA H200"


def test_an_id_is_added_only_where_two_machines_are_called_alike():
    mine, twin = run(row()), run(row(), hardware=replace(HARDWARE, id="f" * 12))
    other = run(row(), hardware=replace(HARDWARE, id="e" * 12, cpu="Other"))
    assert [machine_name(each, [mine, other]) for each in (mine, other)] == ["Imaginary 9000", "Other"]
    assert [machine_name(each, [mine, twin, other]) for each in (mine, twin, other)] == [
        *("Imaginary 9000 012345", "Imaginary 9000 ffffff", "Other"),
    ]


def test_two_runs_of_one_machine_are_told_apart():
    mine = run(row())
    again = replace(mine, started="later")
    assert [machine_name(each, [mine, again]) for each in (mine, again)] == [
        *("Imaginary 9000 run 1", "Imaginary 9000 run 2"),
    ]
