"""What a release needs agrees: versions, the command that an install brings, the check, the container file."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import release_check

import phiplug
from phiplug import cli

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTAINER = (ROOT / "Containerfile").read_text(encoding="utf-8")


def first(pattern, name):
    return re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)[1]


def test_the_version_is_the_same_wherever_it_is_repeated():
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "phiplug/__init__.py"
    assert first(r"^version: (\S+)$", "CITATION.cff") == phiplug.__version__
    assert first(r"^## (\S+) - (?:unreleased|\d{4}-\d\d-\d\d)$", "CHANGELOG.md") == phiplug.__version__


def test_the_version_of_candles_distribution_stands_in_one_file():
    folder = ROOT / "backends" / "phiplug-candle"
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    assert "version" in project["dynamic"]
    assert tomllib.loads((folder / "Cargo.toml").read_text(encoding="utf-8"))["package"]["version"]


def test_uvx_and_pipx_find_the_command_by_the_distributions_name_alone():
    project = PROJECT["project"]
    module, _, name = project["scripts"][project["name"]].partition(":")
    assert getattr(importlib.import_module(module), name) is cli.main
    assert project["entry-points"]["phiplug.backends"]["toy"]  # so that `run -b toy` answers with no extra installed


def test_the_release_check_runs_every_command_and_the_readme_lists_them():
    assert set(release_check.COMMANDS) == set(cli.COMMANDS) == set(release_check.commands_of_readme())
    assert all(name == arguments[0] for name, arguments in release_check.COMMANDS.items())


def test_a_shim_that_stands_for_no_python_is_passed_over(tmp_path, monkeypatch):
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert release_check.pythons() == {}


def test_the_container_has_what_the_build_reads_and_what_pip_is_asked_for():
    copied = " ".join(re.findall(r"^COPY (.+) \S+$", CONTAINER, re.MULTILINE)).split()
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    needed = {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert needed | {package.split("/")[0] for package in wheel} == set(copied)
    (extras,) = re.findall(r"/phiplug\[([\w,-]+)\]", CONTAINER)
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_container_opens_the_servers_port():
    assert re.search(r"^EXPOSE (\d+)$", CONTAINER, re.MULTILINE)[1] == first(
        r"Where to listen.*= (\d+)$", "phiplug/cli/serve.py"
    )
