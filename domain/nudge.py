"""A nudge's deliveries, folded from the nudge's own stream: where each channel that is called stands.

A channel of which the stream says nothing is due, or dropped where the nudge was closed first. A final
standing stays: delivered, failed, unknown, dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from domain import events
from domain.session import Fact

DUE: Final = "due"  # to be attempted, at `next_at`
TRYING: Final = "trying"  # an attempt is under way, and has ended by `next_at` whatever happened
DELIVERED: Final = "delivered"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"
DROPPED: Final = "dropped"  # the nudge was closed before an attempt succeeded
OPEN: Final = (DUE, TRYING)
AGAIN: Final = (FAILED, DROPPED)  # from which an attempt that a user asks for begins anew


class Standing(NamedTuple):
    """Where one channel stands."""

    status: str
    attempt: int = 0  # attempts made so far
    next_at: int | None = None  # µs; None: nothing more is to be done, or nothing was yet


@dataclass(frozen=True, slots=True)
class NudgeState:
    """What a nudge's stream says, as of `version`."""

    nudge_id: str
    version: int = 0
    at: int = 0  # of the newest event
    closed: bool = False
    channels: Mapping[str, Standing] = field(default_factory=dict)

    def standing(self, channel: str) -> Standing:
        return self.channels.get(channel) or Standing(DROPPED if self.closed else DUE)


def step(event: events.Event) -> tuple[str, Standing] | None:
    """The channel that an event is about, and how it leaves it; None for what is no step of a delivery.

    Attempts never become fewer: an event about none names attempt 0.
    """
    match event:
        case events.DeliveryAttempted():
            return event.channel, Standing(TRYING, event.attempt, event.until)
        case events.NudgeDelivered(attempt=int() as attempt):
            return event.channel, Standing(DELIVERED, attempt)
        case events.DeliveryFailed(retry_at=retry_at):
            return event.channel, Standing(DUE if retry_at is not None else FAILED, event.attempt, retry_at)
        case events.DeliveryUnknown(retry_at=retry_at):
            return event.channel, Standing(DUE if retry_at is not None else UNKNOWN, event.attempt, retry_at)
        case _:
            return None


def evolve(state: NudgeState, fact: Fact) -> NudgeState:
    """The state after one more fact of the nudge's stream; facts that say nothing here only count."""
    state = replace(state, version=fact.version, at=fact.at)
    if isinstance(fact.event, events.NudgeClosed):
        left = {
            name: each._replace(status=DROPPED, next_at=None) if each.status == DUE else each
            for name, each in state.channels.items()
        }
        return replace(state, closed=True, channels=left)
    stepped = step(fact.event)
    if stepped is None:
        return state
    status = state.standing(stepped[0]).status
    asked = status in AGAIN and isinstance(fact.event, events.DeliveryAttempted)
    if status not in OPEN and not asked:
        return state
    channel, standing = stepped
    made = max(standing.attempt, state.standing(channel).attempt)
    return replace(state, channels={**state.channels, channel: standing._replace(attempt=made)})


def skipped(state: NudgeState, version: int, at: int) -> NudgeState:
    """The state after an event that could not be applied."""
    return replace(state, version=version, at=at)


def fold(state: NudgeState, facts: Iterable[Fact]) -> NudgeState:
    for fact in facts:
        state = evolve(state, fact)
    return state
