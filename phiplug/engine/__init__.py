"""The token loop: requests join it, share its passes, and leave as streams of text.

It knows nothing of templates, files, or how a backend was found.
"""

from phiplug.engine.engine import Engine, merged
from phiplug.engine.scheduler import Scheduler
from phiplug.engine.stream import Stream

__all__ = ["Engine", "Scheduler", "Stream", "merged"]
