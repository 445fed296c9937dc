"""Reads a JSON file of a model, which must hold an object.

The file is not trusted: its size is bounded, and whatever is wrong with it becomes one of our errors. This module does
not know what the keys mean.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from phiplug.errors import ModelCorrupt, ModelNotFound

MAX_JSON = 2**26  # bytes; the index of a very large model has a few million, and some tokenizer settings as many

_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:  # Any: what JSON holds
    """Read a JSON object; a byte order mark before it does no harm.

    Args:
        path: the file.
        optional: return an empty object where there is no such file.

    Raises:
        ModelNotFound: the file is missing or cannot be read.
        ModelCorrupt: it is too large, holds no JSON object, or a text that cannot be written as UTF-8.
    """
    if optional and not path.exists():
        return {}
    try:
        size = path.stat().st_size
        if size > MAX_JSON:
            raise ModelCorrupt(f"{path} has {size:,} bytes, more than such a file can need")
        text = path.read_text(encoding="utf-8-sig")
        value = json.loads(text)
        if _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # an escape may write half a character, which no text holds
    except OSError as error:
        raise ModelNotFound(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelCorrupt(f"{path} is damaged: it is no JSON of Unicode text: {error}") from None
    if not isinstance(value, dict):
        raise ModelCorrupt(f"{path} is damaged: it is no JSON object")
    return value
