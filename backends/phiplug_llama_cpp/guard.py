"""Holds a layout to a library before anything is read through it; docs/decisions/libllama.md has what this catches.

The functions that return a structure write into 4 KB of our own, once filled with 0xAA and once with 0x55: what is the
same afterwards was written. So the size shows without a structure that could be too short for it.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from dataclasses import dataclass

from phiplug_llama_cpp.layouts import STRUCTURES, Layout

ROOM = 4096  # bytes, of which the longest structure takes 168
FILLS = (0xAA, 0x55)

BY_ADDRESS = platform.machine().lower() in ("x86_64", "amd64")
"""Whether the address of a large result is passed as if it were the first argument. ARM has a register for it that no
argument uses, so there the size cannot be told, and only versions whose layout is recorded are used."""

_MAKERS = {
    "llama_model_params": ("llama_model_default_params", ()),
    "llama_context_params": ("llama_context_default_params", ()),
    "llama_batch": ("llama_batch_get_one", (112, 7)),  # seven tokens at an address that nobody reads
}


@dataclass(frozen=True, slots=True)
class Image:
    """A structure as a library returned it.

    Attributes:
        data: `ROOM` bytes that begin with it.
        written: for each of them whether the library wrote it; empty where that cannot be told.
    """

    data: bytes
    written: tuple[bool, ...]

    @property
    def size(self) -> int:
        """The number of bytes up to the last one that was written."""
        return max((at + 1 for at, told in enumerate(self.written) if told), default=0)


def images(library: ctypes.CDLL) -> dict[str, Image]:
    """Have a library return each structure.

    Raises:
        AttributeError: it does not export the functions that do.
    """
    return {name: _image(library, maker, arguments) for name, (maker, arguments) in _MAKERS.items()}


def misfit(layout: Layout, found: Mapping[str, Image]) -> str | None:
    """Say in what a layout differs from what a library returned, or None where it fits."""
    return next((reason for name in STRUCTURES if (reason := _misfit(layout, name, found[name]))), None)


def _image(library: ctypes.CDLL, maker: str, arguments: tuple[int, ...]) -> Image:
    address = ctypes.cast(getattr(library, maker), ctypes.c_void_p).value or 0
    types = [ctypes.c_void_p, ctypes.c_int32][: len(arguments)]
    if not BY_ADDRESS:
        room = type("room", (ctypes.Structure,), {"_fields_": [("bytes", ctypes.c_uint8 * ROOM)]})
        return Image(bytes(ctypes.CFUNCTYPE(room, *types)(address)(*arguments)), ())
    make = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *types)(address)
    buffers = [ctypes.create_string_buffer(bytes([fill]) * ROOM, ROOM) for fill in FILLS]
    for buffer in buffers:
        make(ctypes.addressof(buffer), *arguments)
    first, second = (buffer.raw for buffer in buffers)
    return Image(first, tuple(a == b for a, b in zip(first, second, strict=True)))


def _misfit(layout: Layout, name: str, image: Image) -> str | None:
    places, size = layout.places(name), layout.size(name)
    expected = layout.default_bytes(name)
    if image.written:
        end = max(place.stop for place in places.values())
        if not end <= image.size <= size:
            return f"{name} has {image.size} bytes in the library and {size} in the layout of {layout.name}"
        used = {at for place in places.values() for at in place}
        odd = [at for at in range(size) if (not image.written[at] if at in used else _is_used(image, at))]
        if odd:
            return f"byte {odd[0]} of {name} is not what it is in the layout of {layout.name}"
    for field, place in places.items():
        given = image.data[place.start : place.stop]
        if given != expected[place.start : place.stop]:
            return f"{name}.{field} has another default than in the layout of {layout.name}: {given.hex()}"
    return None


def _is_used(image: Image, at: int) -> bool:
    """Whether a byte of padding holds something; a compiler may well write zeros there."""
    return image.written[at] and image.data[at] != 0
