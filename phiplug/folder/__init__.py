"""Reads what a Hugging Face or MLX folder says of its model: JSON files and the headers of safetensors files.

The core and the backends share these readers, as they share `phiplug.gguf`. Nothing here knows any engine.
"""

from phiplug.folder.config import read_config
from phiplug.folder.json_file import read_json
from phiplug.folder.safetensors import StoredTensor, read_tensors

__all__ = ["StoredTensor", "read_config", "read_json", "read_tensors"]
