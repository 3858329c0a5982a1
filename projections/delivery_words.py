"""The steps of a delivery in words, for explanations and timelines."""

from __future__ import annotations

from domain import events
from domain.instants import text


def step(event: events.Event) -> str | None:
    """The step in one clause, no capital, no full stop; None for what is none by a channel that is called."""
    match event:
        case events.DeliveryAttempted(channel=channel, attempt=attempt):
            return f"attempt {attempt} by {channel} began"
        case events.NudgeDelivered(channel=channel, attempt=int() as attempt, reference=reference):
            there = f"; there it is {reference}" if reference is not None else ""
            return f"delivered by {channel} at attempt {attempt}{there}"
        case events.DeliveryFailed(channel=channel, attempt=0, error=error, retry_at=None):
            return f"not tried by {channel}: {error}"
        case events.DeliveryFailed(channel=channel, attempt=0, error=error):
            return f"waiting with {channel}: {error}"
        case events.DeliveryFailed(channel=channel, attempt=attempt, error=error, retry_at=retry_at):
            return f"attempt {attempt} by {channel} failed: {error}; {_following(retry_at)}"
        case events.DeliveryUnknown(channel=channel, attempt=attempt, error=error, retry_at=retry_at):
            again = retry_at is not None
            end = _following(retry_at) if again else "it is not repeated, so that nobody gets it twice"
            return f"whether attempt {attempt} by {channel} arrived cannot be known: {error}; {end}"
        case _:
            return None


def _following(retry_at: int | None) -> str:
    return f"the next is due at {text(retry_at)[11:19]}Z" if retry_at is not None else "there is no other"
