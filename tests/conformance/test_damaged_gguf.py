"""Whatever is damaged in a GGUF's header, loading it is a typed error that names the damage, or does no harm.

Both engines get the same files, after what loads a tokenizer, as in `phiplug.load`. llama.cpp gets them in a process of
its own, without the trial that precedes a first load: no damage of a kind that is known here may end it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import damaged
import pytest
import tiny
import untried

from phiplug.errors import PhiplugError
from phiplug.spi import LoadOptions, ModelFiles, Step
from phiplug.text.tokenizer import load_tokenizer

NAMED = {"ModelCorrupt", "ModelUnsupported"}
SAYS_NOTHING = ("failed to load model", "it gave no reason", "exit code")
HARMLESS = {  # no engine reads vocab_size where there is a vocabulary; MLX needs no count of experts to see none
    "mlx": {"vocab_size = 1", "expert_count = 2", "expert_count = 2147483648"},
    "llama-cpp": {"vocab_size = 1"},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("damaged")
    path = tiny.write_llama(folder / "sound.gguf", tiny.byte_tokens())
    sound = damaged.parsed(path)
    assert sound.encoded() == path.read_bytes()
    named = {name: folder / f"mutant-{at}.gguf" for at, (name, _) in enumerate(damaged.mutants(sound))}
    for name, data in damaged.mutants(sound):
        named[name].write_bytes(data)
    return named


def of_mlx(path: Path) -> list[str]:
    import phiplug_mlx

    files = ModelFiles(path.name, path, "gguf")
    try:
        load_tokenizer(files)
        model = phiplug_mlx.load(files, LoadOptions(device="cpu"))
    except PhiplugError as error:
        return [type(error).__name__, str(error)]
    return ["rows", str(len(model.forward([Step(0, [1, 2, 3])]).logits()))]


def of_llama_cpp(paths: list[Path]) -> list[list[str]]:
    """Load all files in one process; those after one that ended it have no outcome."""
    environment = os.environ | {"GGML_NO_BACKTRACE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(
        [sys.executable, "-P", untried.__file__],
        input="\n".join(map(str, paths)), env=environment, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    outcomes = [json.loads(line) for line in ran.stdout.splitlines()]
    return outcomes + [["died", ran.stderr[-300:]]] * (len(paths) - len(outcomes))


def unnamed(outcomes: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return what came of the files that neither loaded nor were refused with a cause."""
    return {
        name: [kind, text]
        for name, (kind, text) in outcomes.items()
        if kind != "rows" and (kind not in NAMED or any(phrase in text for phrase in SAYS_NOTHING))
    }


def loaded(outcomes: dict[str, list[str]]) -> set[str]:
    return {name for name, outcome in outcomes.items() if outcome == ["rows", "1"]}


def test_as_many_files_are_tried_as_were_on_other_loaders(files):
    assert len(files) >= 115


@pytest.mark.usefixtures("mlx")
def test_mlx_names_every_damage_that_is_not_harmless(files):
    outcomes = {name: of_mlx(path) for name, path in files.items()}
    assert unnamed(outcomes) == {}
    assert loaded(outcomes) == HARMLESS["mlx"]


@pytest.mark.usefixtures("llama_cpp")
def test_llama_cpp_names_every_damage_that_is_not_harmless(files):
    outcomes = dict(zip(files, of_llama_cpp(list(files.values())), strict=True))
    assert unnamed(outcomes) == {}
    assert loaded(outcomes) == HARMLESS["llama-cpp"]
