"""Figures for Prometheus at `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from api.service import Service


class Figures(Collector):
    """What the service knows of itself, read when asked."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        recorder = self._service.recorder
        counted = recorder.counted
        yield CounterMetricFamily("nudgeledger_groups", "Group commits", recorder.groups)
        stored = CounterMetricFamily("nudgeledger_events", "Events stored by this process", labels=["origin"])
        for origin in ("outside", "engine"):
            stored.add_metric([origin], counted[origin])
        yield stored
        decided = CounterMetricFamily(
            "nudgeledger_decisions", "Decisions by this process", labels=["outcome"]
        )
        for outcome in ("offered", "withheld"):
            decided.add_metric([outcome], counted[outcome])
        yield decided
        yield CounterMetricFamily(
            "nudgeledger_evaluation_failures", "Evaluations that failed", counted["failed"]
        )
        yield CounterMetricFamily(
            "nudgeledger_poison_events", "Events that a projection could not apply", counted["poisoned"]
        )
        yield GaugeMetricFamily("nudgeledger_position", "Newest position seen", recorder.position)
        yield GaugeMetricFamily("nudgeledger_armed_sessions", "Sessions with a timer", len(recorder.due))
        yield GaugeMetricFamily("nudgeledger_streams", "Open nudge streams", len(self._service.hub))


def install(app: FastAPI) -> None:
    @app.get("/metrics", tags=["operations"])
    async def metrics(request: Request) -> Response:
        """Figures in Prometheus' text form."""
        registry = CollectorRegistry()
        registry.register(Figures(request.app.state.service))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
