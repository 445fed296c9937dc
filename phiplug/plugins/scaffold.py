"""A name -> a small distribution with a backend that passes the contract at once: the toy backend, renamed.

So there is one example of a backend, which the project's own tests hold to the contract, and none to keep beside it.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from phiplug.errors import InvalidParameter, PluginError

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "phiplug-{name}"
version = "0.1.0"
description = "A phiplug backend"
requires-python = ">=3.11"
dependencies = ["phiplug", "numpy"]

[project.optional-dependencies]
test = ["phiplug[testing]"]

[project.entry-points."phiplug.backends"]
{name} = "{module}"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""

_README = """\
# phiplug-{name}

A backend for phiplug: a tiny model of bytes, to be replaced by a real engine.

    pip install .
    phiplug run -b {name} "hello"
    phiplug plugins check {name}

`{module}/__init__.py` is what a plugin is: hooks, and a `Backend` that says what it can do. `{module}/model.py`
computes: `forward` and `rewind` are what you replace first. When your backend loads GGUF files, delete `tokenizer.py`
and the hooks for the model, the tokenizer and the chat template: the core has them. phiplug's own
`docs/writing-a-backend.md` goes on from here.
"""

_TEST = '''\
"""The contract: every promise that a backend makes."""

from phiplug.testing import BackendContract


class TestContract(BackendContract):
    backend = "{name}"
    model = "{name}"
'''

_EXAMPLE = "phiplug_toy"


def write_plugin(name: str, parent: Path) -> Path:
    """Write the distribution `phiplug-NAME` into a folder of that name below `parent`, and return the folder.

    Raises:
        InvalidParameter: the name is none for a backend, or the folder exists.
        PluginError: the toy backend, which is copied, is not installed.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InvalidParameter("name", f"{name!r} is none for a backend", hint="lower case, digits and hyphens")
    folder = parent / f"phiplug-{name}"
    module = f"phiplug_{name.replace('-', '_')}"
    if importlib.util.find_spec(module):
        raise InvalidParameter("name", f"{module} is installed already")
    example = _example()
    try:
        folder.mkdir()
    except FileExistsError:
        raise InvalidParameter("name", f"{folder} exists") from None
    except OSError as error:
        raise PluginError(f"{folder} cannot be made: {error.strerror}") from None
    (folder / module).mkdir()
    (folder / "tests").mkdir()
    for source in (path for path in example.iterdir() if path.suffix in (".py", ".txt")):
        (folder / module / source.name).write_text(_renamed(source.read_text(encoding="utf-8"), name), encoding="utf-8")
    texts = {"pyproject.toml": _PYPROJECT, "README.md": _README, "tests/test_contract.py": _TEST}
    for path, text in texts.items():
        (folder / path).write_text(text.format(name=name, module=module), encoding="utf-8")
    return folder


def _example() -> Path:
    spec = importlib.util.find_spec(_EXAMPLE)
    if spec is None or not spec.submodule_search_locations:
        raise PluginError("the toy backend, which a new plugin is copied from, is not installed")
    return Path(spec.submodule_search_locations[0])


def _renamed(text: str, name: str) -> str:
    words = name.split("-")
    text = text.replace(_EXAMPLE, f"phiplug_{'_'.join(words)}")
    text = re.sub(r"\bToy(?=[A-Z])", "".join(word.capitalize() for word in words), text)
    return re.sub(r"\btoy\b", name, text)
