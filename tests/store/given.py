"""Events to append, with everything that a test does not care about filled in."""

from __future__ import annotations

import itertools

from domain.envelope import NewEvent

_numbers = itertools.count(1)


def event(stream: str = "session-a", *, product: str = "acme", event_id: str | None = None, at: int = 1_000,
          kind: str = "action", data: bytes = b"{}", origin: str = "outside") -> NewEvent:  # fmt: skip
    return NewEvent(
        product=product,
        stream=stream,
        type=kind,
        schema_version=1,
        origin=origin,
        event_id=event_id or f"e-{next(_numbers):09d}",
        at=at,
        recorded_at=at,
        occurred_at=at - 5,
        occurred_raw="2026-05-19T11:07:19.847Z",
        sent_raw=None,
        clock_suspect=False,
        batch_id="b-1",
        correlation_id=None,
        causation_id=None,
        source="host",
        config_revision=None,
        engine_version="1",
        data=data,
        sealed=None,
        key_id=None,
    )
