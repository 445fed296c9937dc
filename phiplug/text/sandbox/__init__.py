"""Renders Jinja templates that are not trusted, with bounds on what they may do, on their time and on their output."""

from phiplug.text.sandbox.render import MAX_SOURCE, Sandbox

__all__ = ["MAX_SOURCE", "Sandbox"]
