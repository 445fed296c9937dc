"""The library inside the wheel of xllamacpp, which is what `phiplug[llama]` brings."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import absent

from phiplug.spi import ModelFiles
from phiplug.text.tokenizer import load_tokenizer
from phiplug_llama_cpp import providers

ROWS = """
import json, sys
from pathlib import Path
import phiplug_llama_cpp
from phiplug.spi import LoadOptions, ModelFiles, Step
{before}
model = phiplug_llama_cpp.load(ModelFiles("m", Path(sys.argv[1]), "gguf"), LoadOptions(ctx_size=512, threads=1))
ids = tuple(json.loads(sys.argv[2]))
rows = model.forward([Step(0, ids, len(ids))]).logits().copy()
print(json.dumps([model.info.version, sorted(set(sys.modules) & {{"llama_cpp", "xllamacpp"}}), rows.tolist()]))
"""


@pytest.fixture(scope="module")
def wheel() -> Path:
    spec = importlib.util.find_spec("xllamacpp")
    path = next(Path(spec.origin or "").parent.glob("xllamacpp*.so"), None) if spec else None
    if path is None:
        absent("xllamacpp")
    return path


def text_ids(smollm2):
    return load_tokenizer(ModelFiles("m", smollm2, "gguf")).encode(Path(providers.__file__).read_text("utf-8"))[:200]


def rows_of(smollm2, library, before=""):
    """Compute in a process of its own, since one process has one library; None is the one that is found."""
    environment = {name: value for name, value in os.environ.items() if name != providers.VARIABLE}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment |= {providers.VARIABLE: str(library)} if library else {}
    command = [sys.executable, "-c", ROWS.format(before=before), str(smollm2), json.dumps(text_ids(smollm2))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    version, modules, rows = json.loads(done.stdout)
    return version, modules, np.array(rows, np.float32)


def divergence(ours, theirs):
    """The mean of KL(ours || theirs) over the rows, in nats."""
    logs = [rows - np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True)) - rows.max(1, keepdims=True)
            for rows in (ours.astype(np.float64), theirs.astype(np.float64))]  # fmt: skip
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(1).mean())


@pytest.mark.usefixtures("llama_cpp")
def test_two_builds_of_llama_cpp_agree(smollm2, wheel):
    version, modules, ours = rows_of(smollm2, wheel)
    assert version.startswith("xllamacpp ")
    assert modules == []  # the package that brought the library is not imported
    peer, _, theirs = rows_of(smollm2, None)
    assert peer.startswith("llama-cpp-python ")
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.9
    assert divergence(ours, theirs) <= 0.02  # 0.004 as measured, as is that of one build with another type of cache


@pytest.mark.usefixtures("llama_cpp")
def test_a_users_own_import_of_llama_cpp_changes_no_bit(smollm2, wheel):
    _, _, alone = rows_of(smollm2, wheel)
    own = "import llama_cpp; llama_cpp.llama_backend_init(); llama_cpp.llama_print_system_info()"
    _, modules, beside = rows_of(smollm2, wheel, before=own)
    assert modules == ["llama_cpp"]
    assert np.array_equal(alone, beside)
