"""The token loop: requests become chunks of text.

It knows nothing of templates, files, or how a backend was found.
"""

from phiplug.engine.engine import Engine

__all__ = ["Engine"]
