"""Writes the beginning of a plugin: a distribution with a backend, its tests and what a repository needs.

One of its own is the toy backend, renamed, which computes at once. One for GGUF files or for folders is made from
`phiplug.plugins.templates` and leaves one method to write. All of them are code that the project's own checks cover.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

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

A backend for phiplug. {begins}

    pip install -e '.[test]'
    phiplug plugins check {name}{option}
    python -m pytest{environment}

`{module}/__init__.py` is what a plugin is: hooks, and a `Backend` that says what it can do. {parts} phiplug's own
`docs/writing-a-backend.md` goes on from here.

The licence is yours to choose; write it into a file LICENSE and into pyproject.toml.
"""

_TEST = '''\
"""Runs the contract's tests on the backend."""

{imports}from phiplug.testing import BackendContract


class TestContract(BackendContract):
    backend = "{name}"
    model = {model}
'''

_IGNORED = """\
__pycache__/
*.egg-info/
.venv/
build/
dist/
"""

_EXAMPLE = "phiplug_toy"
_TEMPLATES = "phiplug.plugins.templates"

Kind = Literal["own", "gguf", "folder"]


class _Words(NamedTuple):
    """What the texts of a distribution say for one kind of model."""

    begins: str
    parts: str
    option: str
    environment: str
    imports: str
    model: str


_OF_FILES = _Words(
    begins="It reads {files}; what computes is still to be written, in `{module}/model.py`.",
    parts="`{module}/loading.py` reads {files} and\n`{module}/options.py` refuses what is not honoured; "
    "`{module}/model.py` has one method left to write: `compute`.",
    option=" -m MODEL",
    environment="    # with the model's path or name in PHIPLUG_TEST_MODEL",
    imports="import os\n\n",
    model='os.environ["PHIPLUG_TEST_MODEL"]',
)
_OF_ITS_OWN = _Words(
    begins="It computes a tiny model of bytes, to be replaced by a real engine.",
    parts="`{module}/model.py`\ncomputes: `forward` and `rewind` are what you replace first.",
    option="",
    environment="",
    imports="",
    model='"{name}"',
)
_FILES = {"gguf": "GGUF files", "folder": "folders with config.json and safetensors", "own": ""}


def write_plugin(name: str, parent: Path, kind: Kind = "own") -> Path:
    """Write the distribution `phiplug-NAME` into a folder of that name below `parent`, and return the folder.

    Args:
        name: of the backend.
        parent: an existing folder.
        kind: which models it is for: "gguf", "folder", or "own" for those that it brings itself.

    Raises:
        InvalidParameter: the name is none for a backend, or the folder exists.
        PluginError: the toy backend, which is copied, is not installed, or the folder cannot be written.
    """
    module = _checked(name)
    folder = parent / f"phiplug-{name}"
    modules = _toy(name) if kind == "own" else _from_templates(name, kind)
    files = {f"{module}/{path}": text for path, text in modules.items()}
    words = {key: text.format(files=_FILES[kind], module=module, name=name) for key, text in _words(kind).items()}
    texts = {"pyproject.toml": _PYPROJECT, "README.md": _README, "tests/test_contract.py": _TEST}
    files |= {path: text.format(name=name, module=module, **words) for path, text in texts.items()}
    _write(folder, files | {".gitignore": _IGNORED})
    return folder


def _checked(name: str) -> str:
    """Return the module's name for a backend's."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InvalidParameter("name", f"{name!r} is none for a backend", hint="lower case, digits and hyphens")
    module = f"phiplug_{name.replace('-', '_')}"
    if importlib.util.find_spec(module):
        raise InvalidParameter("name", f"{module} is installed already")
    return module


def _words(kind: Kind) -> dict[str, str]:
    return (_OF_ITS_OWN if kind == "own" else _OF_FILES)._asdict()


def _toy(name: str) -> dict[str, str]:
    """Return the files of the toy backend under another name."""
    sources = (path for path in _folder_of(_EXAMPLE).iterdir() if path.suffix in (".py", ".txt"))
    return {path.name: _renamed(path.read_text(encoding="utf-8"), "toy", name) for path in sources}


def _from_templates(name: str, kind: Kind) -> dict[str, str]:
    """Return the files of a backend for GGUF files or folders, in which one method is left to write."""
    folder, module = _folder_of(_TEMPLATES), f"phiplug_{name.replace('-', '_')}"
    parts = {"__init__.py": "plugin", "loading.py": kind, "model.py": "model", "options.py": "options"}
    files = {}
    for path, source in parts.items():
        text = (folder / f"{source}.py").read_text(encoding="utf-8").replace('FORMAT = "gguf"', f'FORMAT = "{kind}"')
        text = text.replace(f"from {_TEMPLATES} import gguf", f"from {module} import loading")
        text = text.replace("return gguf.load", "return loading.load")
        files[path] = _renamed(_own_imports_last(text, module), "example", name)
    return files


def _own_imports_last(text: str, module: str) -> str:
    """Turn imports of templates into those of the plugin's own modules, in a group of their own."""
    lines = [line.replace(_TEMPLATES, module) for line in text.splitlines() if line.startswith(f"from {_TEMPLATES}")]
    if not lines:
        return text
    text = re.sub(rf"^from {_TEMPLATES}.*\n", "", text, flags=re.MULTILINE)
    *_, last = re.finditer(r"^from phiplug\..*\n", text, flags=re.MULTILINE)
    return text[: last.end()] + "\n" + "\n".join(lines) + "\n" + text[last.end() :]


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        folder.mkdir()
    except FileExistsError:
        raise InvalidParameter("name", f"{folder} exists") from None
    except OSError as error:
        raise PluginError(f"{folder} cannot be made: {error.strerror}") from None
    for path, text in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def _folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PluginError(f"{package}, which a new plugin is copied from, is not installed")
    return Path(spec.submodule_search_locations[0])


def _renamed(text: str, old: str, name: str) -> str:
    words = name.split("-")
    text = text.replace(f"phiplug_{old}", f"phiplug_{'_'.join(words)}")
    text = re.sub(rf"\b{old.capitalize()}(?=[A-Z])", "".join(word.capitalize() for word in words), text)
    return re.sub(rf"\b{old}\b", name, text)
