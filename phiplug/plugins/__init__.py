"""Finds plugins, loads them, and asks them; chooses and probes the backends they bring.

It knows nothing of what a backend computes.
"""

from phiplug.plugins.manager import Plugin, Plugins

__all__ = ["Plugin", "Plugins"]
