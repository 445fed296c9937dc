"""Reads the metadata and the tensor table of a GGUF file, and no weight.

The file is not trusted: every count, length and offset is checked against a limit and against the file's size before it
is used. An array of strings, such as the vocabulary, is checked at once and decoded when somebody looks at it. Split
files are read as one. This file knows nothing of what a model does with its metadata or weights.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import errno
import math
import mmap
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from phiplug.errors import ModelCorrupt, ModelNotFound, ModelUnsupported, OutOfMemory
from phiplug.gguf.filekind import MAGIC, kind_of
from phiplug.gguf.header import Header, TensorInfo
from phiplug.gguf.quantization import BLOCK_OF, BLOCKS, Block
from phiplug.gguf.values import MAX_STRING, UINT32, ValueReader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSIONS = (2, 3)
MAX_ENTRIES = 2**16  # metadata keys, and tensors of one file: the largest models have a few thousand
LEAST_ALIGNMENT = 8  # bytes; the format asks for a multiple, and ggml ends the process at less
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
MAX_ELEMENTS = 2**50  # of one tensor
MAX_BYTES = 2**50  # of one file
MAX_SPLITS = 2**10

_ALIGNMENT = "general.alignment"

_headers: WeakValueDictionary[tuple[Path, int, int], Header] = WeakValueDictionary()
"""The headers that somebody holds, by path, size and time of change: that of a large vocabulary takes 100 MB."""

_SPLIT_NAME = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")

_RANGES = {  # {architecture}.KEY -> what an engine survives; outside of it llama.cpp aborts the process or computes NaN
    "block_count": (1, 512),
    "context_length": (1, 2**31 - 1),
    "embedding_length": (1, 2**20),
    "attention.layer_norm_rms_epsilon": (0.0, 1.0),
    "attention.layer_norm_epsilon": (0.0, 1.0),
    "rope.freq_base": (1e-6, 1e12),
    "rope.freq_base_swa": (1e-6, 1e12),
    "rope.scaling.factor": (-math.inf, math.inf),  # not NaN
    "rope.scaling.attn_factor": (-1e6, 1e6),
}


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file, and those of the other files where it is the first of a split.

    While somebody holds a file's header, others who ask for it get the same one.

    Raises:
        ModelNotFound: there is no such file, or it cannot be opened, or a part of the split is missing.
        ModelCorrupt: the file is cut off, damaged, or no GGUF; the message says what it is instead.
        ModelUnsupported: the file is sound, but of a kind or version that is not read here.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    key = (path, stat.st_size, stat.st_mtime_ns)
    header = _headers.get(key)
    if header is None:
        header = _headers[key] = _read_model(path)
    return header


def _read_model(path: Path) -> Header:
    first = _read_file(path)
    _check_hyperparameters(first)
    count = first.metadata.get("split.count", 0)
    if not isinstance(count, int) or count > MAX_SPLITS:
        raise ModelCorrupt(f"{path.name}: split.count is {count!r}")
    if count <= 1:
        return first
    tensors = dict(first.tensors)
    for part in _split_paths(first, count)[1:]:
        for tensor in _read_file(part).tensors.values():
            _put_tensor(tensors, tensor)
    expected = first.metadata.get("split.tensors.count", len(tensors))
    if len(tensors) != expected:
        raise ModelCorrupt(f"{path.name}: the {count} parts hold {len(tensors)} tensors instead of {expected}")
    return Header(first.path, first.version, first.metadata, tensors)


def map_tensor(info: TensorInfo) -> NDArray[np.uint8]:
    """Map the bytes of one tensor into memory.

    Returns:
        uint8, shape (info.nbytes,), read-only. Nothing is read before somebody looks at it, and the file must stay
        as it is until then.

    Raises:
        ModelNotFound: the file has gone since its header was read.
        ModelCorrupt: the file has become shorter since then.
    """
    import numpy as np

    if info.nbytes == 0:
        return np.frombuffer(b"", dtype=np.uint8)
    try:
        return np.memmap(info.path, dtype=np.uint8, mode="r", offset=info.offset, shape=(info.nbytes,))
    except OSError as error:
        raise _unreadable(info.path, error) from None
    except ValueError:  # what mmap raises where the file ends too soon
        raise ModelCorrupt(f"{info.path.name} has been cut off: {info.name} goes beyond its end") from None


def _read_file(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            start = file.read(64)
            if start[:4] != MAGIC or len(start) < 8:
                raise _not_a_gguf(path, start)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _parse(path, data)
    except OSError as error:
        raise _unreadable(path, error) from None


def _parse(path: Path, data: mmap.mmap) -> Header:
    reader = ValueReader(data, path.name)
    version = _version(reader)
    tensor_count = reader.count("Q", MAX_ENTRIES, "the number of tensors")
    entry_count = reader.count("Q", MAX_ENTRIES, "the number of metadata keys")
    metadata: dict[str, Any] = {}  # Any: as in Header
    for number in range(entry_count):
        key = reader.string(f"the name of metadata key {number}")
        if key in metadata:
            raise ModelCorrupt(f"{path.name} is damaged: it has the key {key!r} twice")
        type_ = int(reader.number("I", key))
        metadata[key] = reader.value(type_, key)
        if key == _ALIGNMENT and type_ != UINT32:
            raise ModelCorrupt(
                f"{path.name} is damaged: {key} is {metadata[key]!r}, which is no unsigned 32-bit number"
            )
    return Header(path, version, metadata, _tensor_table(reader, path, tensor_count, _alignment(reader, metadata)))


def _version(reader: ValueReader) -> int:
    reader.take(len(MAGIC), "the magic number")
    version = int(reader.number("I", "the version"))
    if version in VERSIONS:
        return version
    if version and version & 0xFFFF == 0:
        raise ModelUnsupported(f"{reader.name} is a big-endian GGUF, made for another kind of processor")
    hint = "convert the model again with a current llama.cpp" if version < min(VERSIONS) else None
    raise ModelUnsupported(f"{reader.name} is a GGUF of version {version}; versions 2 and 3 are read", hint=hint)


def _alignment(reader: ValueReader, metadata: Mapping[str, Any]) -> int:  # Any: as in Header
    alignment: int = metadata.get(_ALIGNMENT, 32)
    if not LEAST_ALIGNMENT <= alignment <= MAX_STRING or alignment & (alignment - 1):
        least = f"no power of two from {LEAST_ALIGNMENT} on"
        raise ModelCorrupt(f"{reader.name} is damaged: {_ALIGNMENT} is {alignment}, which is {least}")
    return alignment


def _tensor_table(reader: ValueReader, path: Path, count: int, alignment: int) -> dict[str, TensorInfo]:
    """Read the table and place its tensors in the file, where they may be in any order but may not overlap."""
    tensors: dict[str, TensorInfo] = {}
    for number in range(count):
        _put_tensor(tensors, _tensor(reader, path, number, alignment))
    start = -(-reader.at // alignment) * alignment
    end = len(reader.data)  # of the room that the tensor before this one has
    for tensor in sorted(tensors.values(), key=lambda tensor: tensor.offset, reverse=True):
        offset = start + tensor.offset
        nbytes = tensor.nbytes if tensor.type in BLOCK_OF else max(end - offset, 0)
        if offset + nbytes > end:
            raise _beyond(reader, tensors.values(), start) if end == len(reader.data) else _overlap(path, tensor)
        tensors[tensor.name] = replace(tensor, offset=offset, nbytes=nbytes)
        end = offset
    return tensors


def _tensor(reader: ValueReader, path: Path, number: int, alignment: int) -> TensorInfo:
    """Read one row of the table; its offset counts from the beginning of the weights."""
    name = reader.string(f"the name of tensor {number}")
    dimensions = reader.count("I", MAX_DIMENSIONS, f"the number of dimensions of {name}")
    row_first = [reader.count("Q", MAX_ELEMENTS, f"a dimension of {name}") for _ in range(dimensions)]
    elements = math.prod(row_first)
    type_ = int(reader.number("I", f"the type of {name}"))
    offset = reader.count("Q", MAX_BYTES, f"the offset of {name}")
    block = BLOCKS.get(type_, Block(f"type {type_}", 1, 0))
    if elements > MAX_ELEMENTS or (row_first and row_first[0] % block.elements):
        raise ModelCorrupt(f"{path.name} is damaged: {name} cannot be {row_first} of {block.type}")
    if offset % alignment:
        raise ModelCorrupt(f"{path.name} is damaged: {name} begins at no multiple of {alignment} bytes")
    nbytes = elements // block.elements * block.bytes
    return TensorInfo(name, tuple(reversed(row_first)), block.type, path, offset, nbytes)


def _put_tensor(tensors: dict[str, TensorInfo], tensor: TensorInfo) -> None:
    if tensor.name in tensors:
        raise ModelCorrupt(f"{tensor.path.name} is damaged: there are two tensors {tensor.name!r}")
    tensors[tensor.name] = tensor


def _check_hyperparameters(header: Header) -> None:
    if not isinstance(header.metadata.get("general.architecture"), str):
        raise ModelUnsupported(f"{header.path.name} names no architecture: it is a GGUF, but not of a model")
    for name, (low, high) in _RANGES.items():
        value = header.hyperparameter(name)
        if value is not None and not (isinstance(value, int | float) and low <= value <= high):
            raise ModelCorrupt(f"{header.path.name} is damaged: {header.architecture}.{name} is {value!r}")


def _split_paths(first: Header, count: int) -> list[Path]:
    """Name all files of a split, as `llama-gguf-split` does."""
    name, number = first.path.name, first.metadata.get("split.no")
    match = _SPLIT_NAME.search(name)
    if match is None or int(match[2]) != count:
        raise ModelCorrupt(f"{name} is one of {count} parts, but its name does not end in -00001-of-{count:05}.gguf")
    paths = [
        first.path.with_name(f"{name[: match.start()]}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1)
    ]
    if number != 0:
        raise ModelUnsupported(f"{name} is not the first part of its model", hint=f"give {paths[0].name}")
    for path in paths:
        if not path.exists():
            raise ModelNotFound(f"{name} has {count} parts, and {path.name} is missing beside it")
    return paths


def _not_a_gguf(path: Path, start: bytes) -> ModelCorrupt:
    kind, hint = kind_of(start)
    return ModelCorrupt(f"{path.name} is {kind}", hint=hint)


def _beyond(reader: ValueReader, tensors: Iterable[TensorInfo], start: int) -> ModelCorrupt:
    whole = max(start + tensor.offset + tensor.nbytes for tensor in tensors)
    message = f"{reader.name} is cut off: it has {len(reader.data):,} of {whole:,} bytes"
    return ModelCorrupt(message, hint="download it again")


def _overlap(path: Path, tensor: TensorInfo) -> ModelCorrupt:
    return ModelCorrupt(f"{path.name} is damaged: {tensor.name} overlaps the tensor after it")


def _unreadable(path: Path, error: OSError) -> ModelNotFound | OutOfMemory:
    if error.errno == errno.ENOMEM:
        return OutOfMemory(f"{path.name} cannot be mapped: no address space is left", hint="raise ulimit -v")
    return ModelNotFound(f"{path} cannot be read: {error.strerror or error}")
