"""Why a nudge did, or did not, come by the channels that are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from domain import nudge
from domain.instants import text
from domain.nudge import NudgeState, Standing
from projections import facts
from projections.inline import STREAMS
from projections.readable import Told
from projections.why.aftermath import Aftermath
from projections.why.circumstances import Cause, ids


def causes(offer: Told, data: Mapping[str, Any], after: Aftermath) -> Iterator[Cause]:
    """One for each channel by which the nudge did not surely arrive; and where it came by none."""
    state, _ = facts.folded_nudge(NudgeState(offer.event_id), after.delivery)
    named = list(dict.fromkeys(data["message"].get("channels", ())))
    called = [channel for channel in named if channel != STREAMS]
    for channel in called:
        steps = [row for row in after.delivery if _channel(row) == channel]
        said = _said(channel, state.standing(channel), steps)
        if said is not None:
            yield Cause(f"delivery_{said[0]}", said[1], ids(steps[-1:]))
    lost = [channel for channel in called if state.standing(channel).status == nudge.FAILED]
    if called and lost == named:
        yield Cause("not_delivered", f"It reached nobody: {' and '.join(lost)} is all it was to go by.")


def _said(channel: str, standing: Standing, steps: list[Told]) -> tuple[str, str] | None:
    error = next((e for row in reversed(steps) if (e := orjson.loads(row.data).get("error"))), None)
    match standing.status:
        case nudge.FAILED:
            tried = f" after {standing.attempt} attempts" if standing.attempt > 1 else ""
            return "failed", f"It was not delivered by {channel}{tried}: {error}."
        case nudge.UNKNOWN:
            return "unknown", f"Whether it was delivered by {channel} cannot be known: {error}."
        case nudge.DROPPED:
            return "dropped", f"The nudge was closed before {channel} had it."
        case nudge.TRYING:
            return "pending", f"It is on its way by {channel}: attempt {standing.attempt} is being made."
        case nudge.DUE if standing.next_at is not None:
            then = text(standing.next_at)
            return "pending", f"It is not delivered by {channel} yet: {error}. Next: {then}."
        case nudge.DUE:
            return "pending", f"It is not delivered by {channel} yet: no attempt has begun."
        case _:
            return None


def _channel(row: Told) -> str | None:
    found: str | None = orjson.loads(row.data).get("channel")
    return found
