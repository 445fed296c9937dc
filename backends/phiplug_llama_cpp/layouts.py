"""How llama.cpp's structures lie in memory in the versions that are known, and what their fields are by default.

`layouts.json` has them by distribution and version, the newest first. tests/llama_layouts.py writes it, from the
llama.h of that version and what its library returns. llama.cpp has no stable layout, and no library says which it has.
"""

from __future__ import annotations

import ctypes
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

STRUCTURES = ("llama_model_params", "llama_context_params", "llama_batch")

TYPES: Mapping[str, Any] = {  # Any: the simple types of ctypes, which have no public base
    "bool": ctypes.c_bool,
    "enum": ctypes.c_int32,
    "f32": ctypes.c_float,
    "i32": ctypes.c_int32,
    "pointer": ctypes.c_void_p,
    "size": ctypes.c_size_t,
    "u32": ctypes.c_uint32,
}

Default: TypeAlias = "float | bool | None"  # None: a pointer to nothing

PATH = Path(__file__).with_name("layouts.json")


@dataclass(frozen=True, eq=False)
class Layout:
    """The structures of one build.

    Attributes:
        name: the distribution and its version: "xllamacpp 2026.10.11549".
        fields: structure -> its fields in order -> the type, one of `TYPES`, and the default. Those of llama_batch are
            what `guard` has llama_batch_get_one return.
    """

    name: str
    fields: Mapping[str, Mapping[str, tuple[str, Default]]]

    @functools.cache  # noqa: B019  there are as many layouts as versions, and they stay
    def structure(self, name: str) -> type[ctypes.Structure]:
        """Return a structure as a type of ctypes."""
        fields = [(field, TYPES[kind]) for field, (kind, _) in self.fields[name].items()]
        return type(name, (ctypes.Structure,), {"_fields_": fields})

    def size(self, name: str) -> int:
        """Return the bytes that a structure takes."""
        return ctypes.sizeof(self.structure(name))

    def places(self, name: str) -> dict[str, range]:
        """Return the bytes of each field; those between them are padding."""
        found = {field: getattr(self.structure(name), field) for field in self.fields[name]}
        return {field: range(place.offset, place.offset + place.size) for field, place in found.items()}

    def default_bytes(self, name: str) -> bytes:
        """Return a structure whose fields have their defaults."""
        return bytes(self.structure(name)(**{field: default for field, (_, default) in self.fields[name].items()}))


@functools.cache
def known_layouts() -> tuple[Layout, ...]:
    """Read the layouts of all known versions, the newest first."""
    return tuple(Layout(name, fields) for name, fields in json.loads(PATH.read_text(encoding="utf-8")).items())
