"""Loads a file in a short-lived process before it is loaded here, so that an assertion of llama.cpp ends only that one.

A file is tried once: what survived is remembered under the hash of its header and the engine's version. The process is
spawned and not forked, since threads of an engine do not survive a fork. Its errors do not matter, for the load that
follows gives them again; that it died does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from phiplug.errors import ModelCorrupt
from phiplug.gguf import Header
from phiplug.spi import LoadOptions, ModelFiles, Step

PASS = 40  # tokens; some assertions are in the graph, and some of those in passes of several tokens
PATIENCE = 60.0  # seconds, beside a second for each 50 MB of weights
_RATE = 50e6

_ASSERTION = re.compile(r"(GGML_ASSERT\(.*|GGML_ABORT.*|what\(\): .*|fatal error.*)")
_survived: set[str] = set()


def survive(files: ModelFiles, header: Header, options: LoadOptions, version: str) -> None:
    """Try a file that was never loaded by this engine; return at once for any other.

    Raises:
        ModelCorrupt: the process that loaded it died or hung; the message has llama.cpp's own assertion.
    """
    key = f"llama-cpp survives: {_hash(header)}, {version}"
    if key in _survived or (options.cache and options.cache.get(key) is True):
        return
    _raise_if_fatal(header, *_outcome(files, header, options))
    _survived.add(key)
    if options.cache:
        options.cache.set(key, True)


def main(path: str, options: str) -> int:
    """Load a file and run one pass; the exit code tells nothing but that the process lived."""
    from phiplug_llama_cpp import loading

    try:
        model = loading.load_untried(ModelFiles(path, Path(path), "gguf"), LoadOptions(**json.loads(options)))
        length = min(PASS, model.info.context_length, model.info.vocab_size)
        model.forward([Step(0, tuple(range(length)))]).logits()
        model.close()
    except Exception:  # noqa: BLE001  the load that follows gives the same error to the user
        return 1
    return 0


def _outcome(files: ModelFiles, header: Header, options: LoadOptions) -> tuple[int | None, str]:
    """Run the process; return its exit code, None where it did not end in time, and what it wrote."""
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    asked = json.dumps(fields | {"cache": None, "verbose": False})
    command = [sys.executable, "-P", "-m", __name__, str(files.path.absolute()), asked]
    if not command[0]:  # an embedded interpreter, which cannot start another
        return 0, ""
    environment = os.environ | {"GGML_NO_BACKTRACE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    patience = PATIENCE + header.weight_bytes / _RATE
    try:
        done = subprocess.run(  # noqa: S603  this interpreter, and our own module
            command, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stderr.decode("utf-8", "replace")


def _raise_if_fatal(header: Header, code: int | None, written: str) -> None:
    if code in (0, 1):
        return
    if code is None:
        raise ModelCorrupt(f"llama.cpp does not come to an end with {header.path.name}")
    found = _ASSERTION.search(written)
    reason = found[1].strip()[:200] if found else f"exit code {code}"
    raise ModelCorrupt(f"{header.path.name} ends the process of llama.cpp: {reason}")


def _hash(header: Header) -> str:
    """Hash what stands before the weights, in all files of the model."""
    starts: dict[Path, int] = {}
    for tensor in header.tensors.values():
        starts[tensor.path] = min(tensor.offset, starts.get(tensor.path, tensor.offset))
    digest = hashlib.sha256()
    for path, start in starts.items():
        with path.open("rb") as file:
            digest.update(file.read(start))
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
