"""A Ray cluster of two nodes on this machine, with an engine that a prompt can kill; it is stopped by pid."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import psutil

POISON = "poison"
"""A prompt that has this word kills the engine of the backend of this name."""

BACKEND = f'''
import os, signal
from dataclasses import replace
import phiplug_toy
from phiplug.spi import hookimpl
from phiplug_toy import phiplug_chat_template, phiplug_find_model, phiplug_tokenizer

def load(files, options):
    from phiplug_toy import model

    class Poisonable(model.ToyModel):
        def forward(self, steps):
            for step in steps:
                if b"{POISON}" in bytes(each for each in step.tokens if each < 256):
                    os.kill(os.getpid(), signal.SIGKILL)
            return super().forward(steps)

    loaded = model.load(files, options)
    loaded.__class__ = Poisonable
    return loaded

@hookimpl
def phiplug_register_backends():
    [toy] = phiplug_toy.phiplug_register_backends()
    return [replace(toy, name="{POISON}", load=load, default_model=None)]
'''


def install_poison(folder):
    """Write a distribution whose backend computes as the toy does, until a prompt kills it."""
    metadata = Path(folder) / "poison-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: poison\nVersion: 0.1\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[phiplug.backends]\n{POISON} = poison_backend\n", encoding="utf-8")
    (Path(folder) / "poison_backend.py").write_text(BACKEND, encoding="utf-8")


@contextlib.contextmanager
def environment(changes):
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def two_nodes():
    """Yield a cluster whose nodes have one CPU each; its `second` is the node that a test may remove.

    Its `environment` is for the processes that join it; the folder is a short one, for the paths of sockets are.
    """
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as folder:
        install_poison(folder)
        path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
        settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
        with environment({"HOME": folder, "PYTHONPATH": path, **settings}):
            options = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
            cluster = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
            cluster.second = cluster.add_node(**options)
            cluster.environment = dict(os.environ)
        try:
            yield cluster
        finally:
            cluster.shutdown()


def those_with(word):
    """The processes of this test's own that have a word in their command lines."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [each] if word in " ".join(each.cmdline()) else []
    return found
