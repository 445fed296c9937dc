"""A file that is cut while llama.cpp maps it is named before the pass that would end the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from phiplug.errors import BackendFailed
from phiplug.spi import LoadOptions, Model, ModelFiles, Step

pytestmark = pytest.mark.usefixtures("llama_cpp")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny.write_llama(tmp_path / "model.gguf", tiny.byte_tokens(), tiny.Shape(hidden=256, feed_forward=512))


def load(path: Path) -> Model:
    from phiplug_llama_cpp import loading

    return loading.load_untried(ModelFiles(path.name, path, "gguf"), LoadOptions(threads=1))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody cut a mapped file")
def test_a_file_that_was_cut_in_use_is_named_with_both_sizes(path):
    model, size = load(path), path.stat().st_size
    first = model.forward([Step(0, [1, 2, 3])]).logits().copy()
    os.truncate(path, 4096)
    with pytest.raises(BackendFailed, match=rf"model\.gguf was cut to 4,096 bytes.*end at {size:,}.*by renaming"):
        model.forward([Step(0, [4])]).logits()
    assert (first.shape, model.rewind(0, 100)) == ((1, 260), 3)
    model.close()


def test_another_file_of_the_same_name_does_no_harm(path):
    model = load(path)
    (path.parent / "other").write_bytes(b"short")
    (path.parent / "other").replace(path)
    assert model.forward([Step(0, [1, 2, 3])]).logits().shape == (1, 260)
    model.close()


def test_the_files_are_let_go_of_when_the_model_is_closed(path, monkeypatch):
    opened, closed, really_close = [], [], os.close
    really_open = os.open
    monkeypatch.setattr(os, "open", lambda *given: opened.append(really_open(*given)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda file: (closed.append(file), really_close(file)))
    model = load(path)
    model.close()
    assert opened
    assert set(opened) <= set(closed)


def test_the_command_line_says_where_an_engine_ended_the_process():
    script = (
        "import atexit, faulthandler, sys; atexit.register(lambda: print(faulthandler.is_enabled())); "
        "from phiplug.cli import main; sys.argv = ['phiplug', '--version']; main()"
    )
    ran = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "True"
