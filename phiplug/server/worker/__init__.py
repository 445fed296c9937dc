"""A model in a process of its own, and the supervisor that starts it again when it dies.

`Supervisor` is an `EnginePort`. Nothing here knows HTTP, templates or text that goes in.
"""

from phiplug.server.worker.health import Circuit
from phiplug.server.worker.supervisor import Supervisor
from phiplug.server.worker.wire import Load

__all__ = ["Circuit", "Load", "Supervisor"]
