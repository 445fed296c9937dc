"""A backend to copy: a model reference becomes a model that computes next-byte logits from a page of text.

This file is what a plugin is: hooks, and a `Backend` that says what it can do. It is imported to list the backends, so
it imports nothing heavy; `model.py`, where the computing is, waits until `load`. Neither knows of prompts, sampling or
text: tokens go in, logits come out.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Probe, hookimpl

if TYPE_CHECKING:
    from phiplug.spi import Tokenizer

FORMAT = "toy"
CORPUS = Path(__file__).with_name("corpus.txt")
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}{{ message.role }}: {{ message.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def probe() -> Probe:
    """Say whether the engine works here; a real one looks for its library (find_spec), which costs no import."""
    return Probe(available=True, devices=("cpu",), versions={"numpy": version("numpy")})


def accepts(files: ModelFiles) -> bool:
    """Look whether these files are of the kind that `load` reads."""
    return files.format == FORMAT


def load(files: ModelFiles, options: LoadOptions) -> Model:
    """Read the page; see `model.load`."""
    from phiplug_toy import model

    return model.load(files, options)


@hookimpl
def phiplug_register_backends() -> list[Backend]:
    """Every backend has this hook; the ones below are for a plugin that also brings its own kind of model."""
    return [
        Backend(
            name="toy",
            summary="bytes are tokens, a page of text is the model: for tests, and to copy",
            probe=probe,
            accepts=accepts,
            load=load,
            default_model="toy",
            api=2,
        )
    ]


@hookimpl
def phiplug_find_model(reference: str) -> ModelFiles | None:
    """Know the reference "toy"; leave every other to others."""
    return ModelFiles(reference, CORPUS, FORMAT) if reference == "toy" else None


@hookimpl
def phiplug_tokenizer(files: ModelFiles) -> Tokenizer | None:
    """Bytes are tokens. A backend that loads GGUF files or Hugging Face folders leaves this to the core."""
    from phiplug_toy.tokenizer import ByteTokenizer

    return ByteTokenizer() if accepts(files) else None


@hookimpl
def phiplug_chat_template(files: ModelFiles) -> str | None:
    """Roles, colons and stop tokens. A model that brings its own template needs no such hook."""
    return CHAT_TEMPLATE if accepts(files) else None
