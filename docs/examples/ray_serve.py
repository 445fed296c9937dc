"""phiplug as a deployment of Ray Serve: replicas, each with its engine in a supervised process of its own.

    pip install 'phiplug[serve,llama]' 'ray[serve]>=2.60'
    serve run ray_serve:app model=smollm2 replicas=2              # in this folder; listens on 127.0.0.1:8000

Arguments are the fields of `Wanted`. See docs/scaling.md.
"""

import os

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from phiplug.errors import EngineUnavailable
from phiplug.server.app import make_app
from phiplug.server.catalog import Catalog
from phiplug.server.opening import open_model
from phiplug.server.service import Settings
from phiplug.server.worker import Load


class Wanted(BaseModel):
    """What a deployment serves.

    Attributes:
        model: its reference; each node finds or fetches its files.
        name: what clients call it; its reference if it is left out.
        backend: what computes it.
        ctx_size: how many tokens a sequence may have; the backend's choice if it is left out.
        slots: answers that a replica computes side by side.
        queue: open requests of a replica; more wait in Serve.
        threads: of each engine, and so many CPUs a replica asks the cluster for, unless `cpus` says otherwise. It is
            fixed, because replicas of different numbers of threads would give different texts.
        allow_host: names, separated by commas, under which the server may be asked for beside those of this machine.
        replicas: how many.
    """

    model_config = ConfigDict(extra="forbid")

    model: str = "smollm2"
    name: str | None = None
    backend: str = "auto"
    ctx_size: int | None = None
    slots: int = Field(8, ge=1)
    queue: int = Field(32, ge=1)
    threads: int = Field(1, ge=1)
    cpus: float | None = None
    allow_host: str = ""
    replicas: int = Field(1, ge=1)


@serve.deployment(name="phiplug")
@serve.ingress()
class Phiplug:
    """One replica."""

    async def __init__(self, wanted: Wanted) -> None:
        """Load the model, in a process of its own."""
        order = Load(wanted.model, wanted.backend, ctx_size=wanted.ctx_size, slots=wanted.slots, threads=wanted.threads)
        served, self._workers = open_model(order, name=wanted.name)
        for worker in self._workers:
            await worker.start()
        names = {name.strip().lower() for name in wanted.allow_host.split(",")} - {""}
        key = os.environ.get("PHIPLUG_API_KEY") or None
        settings = Settings(key=key, hosts=Settings().hosts | names, queue=wanted.queue)
        self._application = make_app(Catalog([served]), settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return what answers; Serve asks for it once the replica is there."""
        return self._application

    async def check_health(self) -> None:
        """Tell Serve to replace a replica whose engine died too often."""
        if any(worker.status.state == "down" for worker in self._workers):
            raise EngineUnavailable("the process that computes ended too often", retry_after=1)


def app(wanted: Wanted) -> Application:
    """Return the application that `serve run` is told to run."""
    cpus = wanted.threads if wanted.cpus is None else wanted.cpus
    deployment = Phiplug.options(
        num_replicas=wanted.replicas,
        max_ongoing_requests=wanted.queue,
        ray_actor_options={"num_cpus": cpus},
    )
    return deployment.bind(wanted)
