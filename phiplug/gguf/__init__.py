"""Reads the header of a GGUF file, checks it, and maps its tensors. Used by the core, by backends and by plugins.

It knows nothing of any engine.
"""

from phiplug.gguf.header import Header, TensorInfo
from phiplug.gguf.reader import map_tensor, read_header
from phiplug.gguf.values import StringArray

__all__ = ["Header", "StringArray", "TensorInfo", "map_tensor", "read_header"]
