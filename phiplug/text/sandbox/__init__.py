"""Jinja source and variables -> text, with bounds on what a template may do, on its time and on its output."""

from phiplug.text.sandbox.render import MAX_SOURCE, Sandbox

__all__ = ["MAX_SOURCE", "Sandbox"]
