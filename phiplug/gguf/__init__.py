"""Reads the header of a GGUF file, checks it, and maps its tensors. Used by the core, by backends and by plugins.

`hyperparameters` reads a model's numbers from a header and `rotary` how positions are rotated, for engines that compute
from them. Nothing here knows any engine.
"""

from phiplug.gguf.header import Header, TensorInfo
from phiplug.gguf.reader import map_tensor, read_header
from phiplug.gguf.values import StringArray

__all__ = ["Header", "StringArray", "TensorInfo", "map_tensor", "read_header"]
