"""Record how a version of llama.cpp lays out its structures, in the backend's layouts.json:

    python tests/llama_layouts.py xllamacpp 2026.10.11549 path/to/llama.h path/to/the/library

A source distribution carries its llama.h (llama-cpp-python: vendor/llama.cpp/include, xllamacpp: thirdparty/llama.cpp/
include); the library is that of the wheel, which gives the defaults. What the guard then says of both is printed.
"""

import ctypes
import json
import re
import sys
from pathlib import Path

from phiplug_llama_cpp import guard, layouts

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_FIELD = re.compile(r"^(?:const\s+)?((?:enum\s+|struct\s+)?\w+)\s*(\**)\s*(\w+)$", re.DOTALL)
_KINDS = {
    "bool": "bool", "float": "f32", "int32_t": "i32", "size_t": "size", "uint32_t": "u32",
}  # fmt: skip


def fields_of(header, name):
    """Return the fields of a structure in llama.h: name -> kind."""
    body = re.search(rf"struct {name} \{{(.*?)\}}", _COMMENT.sub("", header), re.DOTALL)[1]
    return dict(_field(" ".join(line.split())) for line in body.split(";") if line.strip())


def _field(line):
    kind, stars, name = _FIELD.match(line).groups()
    if stars or kind.endswith("_callback"):
        return name, "pointer"
    return name, "enum" if kind.startswith("enum ") else _KINDS[kind]


def record(name, header, library):
    """Return a layout whose defaults are what the library gives."""
    kinds = {structure: fields_of(header, structure) for structure in layouts.STRUCTURES}
    blank = layouts.Layout(name, {s: {f: (kind, None) for f, kind in fields.items()} for s, fields in kinds.items()})
    images = guard.images(library)
    filled = {s: blank.structure(s).from_buffer_copy(images[s].data) for s in layouts.STRUCTURES}
    return layouts.Layout(
        name, {s: {f: (kind, getattr(filled[s], f)) for f, kind in fields.items()} for s, fields in kinds.items()}
    )


def main(distribution, version, header, library):
    layout = record(f"{distribution} {version}", Path(header).read_text(encoding="utf-8"), ctypes.CDLL(library))
    others = [known for known in layouts.known_layouts() if known.name != layout.name]
    listed = {known.name: known.fields for known in (layout, *others)}
    layouts.PATH.write_text(_written(listed), encoding="utf-8")
    print(guard.misfit(layout, guard.images(ctypes.CDLL(library))) or "it fits")


def _written(listed):
    """One field to a line, so that a difference between versions can be read."""
    text = json.dumps(listed, indent=1)
    return re.sub(r"\[\s+([^\]]+?),\s+([^\]]+?)\s+\]", r"[\1, \2]", text) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
