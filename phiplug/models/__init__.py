"""Finds a model by name and brings its files here: references, the hub, downloads, what is on disk."""
