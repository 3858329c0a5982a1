"""Figures for Prometheus at `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from api.service import Service
from domain.instants import SECOND


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
        yield from self._deliveries()
        yield from self._feed()
        yield from self._models()
        yield GaugeMetricFamily("nudgeledger_position", "Newest position seen", recorder.position)
        yield GaugeMetricFamily("nudgeledger_armed_sessions", "Sessions with a timer", len(recorder.due))
        yield GaugeMetricFamily("nudgeledger_streams", "Open nudge streams", len(self._service.hub))

    def _feed(self) -> Iterator[Metric]:
        feed, now = self._service.feed, self._service.clock.now()
        yield GaugeMetricFamily(
            "nudgeledger_feed_listeners", "Open streams of labelled actions", feed.listeners
        )
        yield CounterMetricFamily("nudgeledger_feed_frames", "Frames handed to listeners", feed.sent)
        pushed = CounterMetricFamily(
            "nudgeledger_push_frames", "Frames pushed", labels=["product", "outcome"]
        )
        lag = GaugeMetricFamily(
            "nudgeledger_push_lag_seconds", "Age of the oldest frame that waits", labels=["product"]
        )
        for product, pusher in sorted(feed.pushing.pushers.items()):
            for outcome in ("pushed", "retried", "skipped"):
                pushed.add_metric([product, outcome], getattr(pusher, outcome))
            behind = pusher.behind
            lag.add_metric([product], 0.0 if behind is None else max(0.0, (now - behind) / SECOND))
        yield pushed
        yield lag

    def _models(self) -> Iterator[Metric]:
        models = self._service.models
        attempts = CounterMetricFamily(
            "nudgeledger_model_requests", "Requests to models' endpoints", labels=["product"]
        )
        for product, count in sorted(models.attempts.items()):
            attempts.add_metric([product], count)
        yield attempts
        outcomes = CounterMetricFamily(
            "nudgeledger_model_answers",
            "What came of asking a model: answered, ungrounded (answered, and not used), or why not",
            labels=["product", "outcome"],
        )
        for (product, outcome), count in sorted(models.outcomes.items()):
            outcomes.add_metric([product, outcome], count)
        yield outcomes

    def _deliveries(self) -> Iterator[Metric]:
        deliveries = self._service.deliveries
        steps = CounterMetricFamily(
            "nudgeledger_deliveries",
            "Steps of deliveries recorded by this process",
            labels=["channel", "step"],
        )
        for (channel, step), count in sorted(deliveries.counted.items()):
            steps.add_metric([channel, step], count)
        yield steps
        yield GaugeMetricFamily("nudgeledger_deliveries_open", "Deliveries not yet closed", len(deliveries))
        circuits = GaugeMetricFamily(
            "nudgeledger_circuit",
            "Circuit breakers: 0 closed, 1 half open, 2 open",
            labels=["product", "channel", "host"],
        )
        now = self._service.clock.now()
        for (product, channel, host), breaker in sorted(deliveries.breakers.items()):
            circuits.add_metric([product, channel, host], breaker.level(now))
        yield circuits


def install(app: FastAPI) -> None:
    @app.get("/metrics", tags=["operations"])
    async def metrics(request: Request) -> Response:
        """Figures in Prometheus' text form."""
        registry = CollectorRegistry()
        registry.register(Figures(request.app.state.service))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
