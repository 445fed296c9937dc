"""A process has the memory of its machine, or less where a control group around it says so."""

import os
import sys

import pytest

from phiplug_llama_cpp import memory


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes which control group is ours."""
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "fs")
    monkeypatch.setattr(memory, "_OWN_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}[name])
    return (tmp_path / "cgroup").write_text


def limit(folder, name, value):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(value)


def test_without_control_groups_it_is_the_machines(groups):
    assert memory.memory_limit() == 4_096_000


def test_the_smallest_limit_around_a_group_of_version_2_counts(groups):
    groups("0::/a/b\n")
    limit(memory._CGROUPS / "a", "memory.max", "50000\n")
    limit(memory._CGROUPS / "a" / "b", "memory.max", "max\n")
    assert memory.memory_limit() == 50_000


def test_a_limit_of_version_1_counts(groups):
    groups("5:cpu,memory:/job\n4:pids:/job\n")
    limit(memory._CGROUPS / "memory" / "job", "memory.limit_in_bytes", "60000\n")
    assert memory.memory_limit() == 60_000


def test_a_limit_beyond_the_machine_is_none(groups):
    groups("0::/\n")
    limit(memory._CGROUPS, "memory.max", str(sys.maxsize))
    assert memory.memory_limit() == 4_096_000
