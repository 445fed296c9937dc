"""Putting a model together: what is read, how often, and what is kept of it."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import tiny
from scripted import ScriptedModel

from phiplug.gguf import reader
from phiplug.load import assemble
from phiplug.plugins import Plugins
from phiplug.spi import Backend, LoadOptions, Model, ModelFiles, Probe


def test_a_header_is_read_once_for_template_tokenizer_and_engine_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tiny.write_vocabulary(tmp_path / "model.gguf", tiny.byte_tokens()), []

    def counted(path: Path, read_model=reader._read_model):
        header = read_model(path)
        read.append(weakref.ref(header))
        return header

    def load(files: ModelFiles, options: LoadOptions) -> Model:
        reader.read_header(files.path)
        return ScriptedModel(context_length=64)

    monkeypatch.setattr(reader, "_read_model", counted)
    backend = Backend("scripted", "a script", lambda: Probe(True), lambda files: True, load, api=2)
    with assemble(ModelFiles("m", path, "gguf"), backend, LoadOptions(), Plugins.installed()):
        assert [header() for header in read] == [None]
