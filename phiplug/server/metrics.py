"""What Prometheus is told: requests, tokens, times and the engines' state; nothing of what was asked or answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from phiplug.forms.answers import Answer
    from phiplug.server.catalog import Catalog

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
_STATES = ("ready", "restarting", "down")


class Metrics:
    """The numbers of one server, in a registry of their own."""

    def __init__(self, catalog: Catalog) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "phiplug_requests", "Answers by route and status.", ["route", "status"], registry=self._registry
        )
        labels = ["model", "backend"]
        self._prompt = Counter("phiplug_prompt_tokens", "Tokens of prompts.", labels, registry=self._registry)
        self._cached = Counter(
            "phiplug_cached_tokens", "Tokens of prompts that needed no computing.", labels, registry=self._registry
        )
        self._generated = Counter("phiplug_completion_tokens", "Tokens of answers.", labels, registry=self._registry)
        self._first = Histogram(
            "phiplug_time_to_first_token_seconds",
            "Until the first text.",
            labels,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._per_token = Histogram(
            "phiplug_time_per_token_seconds",
            "Between two tokens of an answer, on average.",
            labels,
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1),
            registry=self._registry,
        )
        self._registry.register(_Engines(catalog))

    def answered(self, route: str, status: int) -> None:
        """Count an answer; `route` is a route's pattern, so that clients cannot make up new ones."""
        self._requests.labels(route, str(status)).inc()

    def finished(self, model: str, backend: str, answers: Iterable[Answer]) -> None:
        """Count what was computed for the choices of one prompt."""
        for index, answer in enumerate(answers):
            if index == 0:
                self._prompt.labels(model, backend).inc(answer.usage.prompt_tokens)
                self._cached.labels(model, backend).inc(answer.usage.cached_tokens)
            self._generated.labels(model, backend).inc(answer.usage.completion_tokens)
            if answer.timings and answer.timings.ttft_s is not None:
                self._first.labels(model, backend).observe(answer.timings.ttft_s)
            if answer.timings and answer.timings.decode_tps:
                self._per_token.labels(model, backend).observe(1 / answer.timings.decode_tps)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _Engines(Collector):
    """The state of every engine, looked up when it is asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        labels = ["model", "backend"]
        open_ = GaugeMetricFamily("phiplug_open_requests", "Requests that have not ended.", labels=labels)
        restarts = GaugeMetricFamily("phiplug_worker_restarts", "Restarts of the engine's process.", labels=labels)
        states = GaugeMetricFamily("phiplug_engine_state", "1 for the state it is in.", labels=[*labels, "state"])
        for model in self._catalog.models.values():
            for backend, engine in model.engines.items():
                status = engine.status
                open_.add_metric([model.name, backend], status.open)
                restarts.add_metric([model.name, backend], status.restarts)
                for state in _STATES:
                    states.add_metric([model.name, backend, state], status.state == state)
        yield from (open_, restarts, states)
