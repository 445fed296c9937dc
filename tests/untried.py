"""Loads each file that stdin names into llama.cpp, with its tokenizer, and prints what came of it as a line of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from phiplug.errors import PhiplugError
from phiplug.spi import LoadOptions, ModelFiles, Step
from phiplug.text.tokenizer import load_tokenizer


def outcome(path: Path) -> list[str]:
    """Return the name of an error and its text, or "rows" and how many came."""
    from phiplug_llama_cpp.loading import load_untried

    files = ModelFiles(path.name, path, "gguf")
    try:
        load_tokenizer(files)
        model = load_untried(files, LoadOptions(threads=1))
    except PhiplugError as error:
        return [type(error).__name__, str(error)]
    rows = model.forward([Step(0, [1, 2, 3])]).logits()
    model.close()
    return ["rows", str(len(rows))]


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(outcome(Path(line.rstrip("\n")))), flush=True)
