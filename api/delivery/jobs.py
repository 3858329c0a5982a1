"""The steps of a delivery, decided where no other server can decide otherwise: on the nudge's own stream.

A step looks at where its channel stands and says what is to be recorded, if anything. Where somebody else
wrote to the nudge's stream meanwhile it is decided anew, so of several servers one makes an attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from api.delivery.backoff import MOST_ATTEMPTS
from api.jobs import Job, Known, Outcome
from domain import events
from domain.decide import draft
from domain.envelope import nudge_stream
from domain.instants import SECOND, seconds
from domain.nudge import DUE, TRYING, NudgeState, Standing
from domain.run import Stored, Turn
from projections import configs

NEWS = 60 * SECOND  # an offer that nobody looked at for so long is no longer brought to anybody
SLACK = 2 * SECOND  # µs after its timeout at which an attempt has surely ended

Steps = (
    events.DeliveryAttempted | events.NudgeDelivered | events.DeliveryFailed | events.DeliveryUnknown | None
)
Decide = Callable[[NudgeState, Standing, int], Steps]  # by the instant now


class Offer(NamedTuple):
    """As much of an offer as its deliveries depend on."""

    nudge_id: str
    offered_at: int
    expires_at: int


class Answer(NamedTuple):
    """What a step came to."""

    event: Steps  # recorded; None: nothing, since somebody else is at it or it is over
    standing: Standing  # before the event


@dataclass(slots=True, eq=False)
class DeliveryJob(Job):
    """One step of one channel's delivery; the outcome's value is an `Answer`."""

    nudge_id: str = ""
    channel: str = ""
    decide: Decide | None = None

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        assert self.decide is not None
        self.outcome = Outcome()
        state = turn.world.nudge(self.nudge_id)
        standing = state.standing(self.channel)
        event = self.decide(state, standing, turn.now)
        self.outcome.value = Answer(event, standing)
        if event is None:
            return
        at = max(turn.now, state.at)
        stream = nudge_stream(self.nudge_id)
        made = draft(self.product, stream, event, at, self.nudge_id, f"{self.channel} {event.attempt}")
        turn.stored.append(Stored(stream, made.event_id, event, at, self.nudge_id, None, None))


def begin(channel: str, offer: Offer, timeout: int, idempotent: bool) -> Decide:
    """An attempt, where one is due: it ends after `timeout` µs at the latest, and when the offer expires."""

    def decide(state: NudgeState, standing: Standing, now: int) -> Steps:
        if standing.status != DUE:
            return _left_over(channel, offer, idempotent, standing, now)
        if standing.next_at is not None and standing.next_at > now:
            return None  # another server has made the attempt, and another is due later
        over = _over(offer, standing, now)
        if over is not None:
            return events.DeliveryFailed(channel, 0, over)
        until = now + min(timeout, offer.expires_at - now) + SLACK
        return events.DeliveryAttempted(channel, standing.attempt + 1, until)

    return decide


def give_up(channel: str, offer: Offer, error: str) -> Decide:
    """No attempt can be made."""

    def decide(state: NudgeState, standing: Standing, now: int) -> Steps:
        if standing.status != DUE:
            return _left_over(channel, offer, False, standing, now)
        return events.DeliveryFailed(channel, 0, _over(offer, standing, now) or error)

    return decide


def hold(channel: str, offer: Offer, idempotent: bool, error: str, until: int) -> Decide:
    """No attempt is made before `until`."""

    def decide(state: NudgeState, standing: Standing, now: int) -> Steps:
        if standing.status != DUE:
            return _left_over(channel, offer, idempotent, standing, now)
        over = _over(offer, standing, now)
        if over is None and until >= offer.expires_at:
            over = f"{error}; the offer expires before"
        return events.DeliveryFailed(channel, 0, over or error, None, until if over is None else None)

    return decide


def settle(event: events.NudgeDelivered | events.DeliveryFailed | events.DeliveryUnknown) -> Decide:
    """The outcome of an attempt, unless another server has given it up for lost."""

    def decide(state: NudgeState, standing: Standing, now: int) -> Steps:
        if standing.status != TRYING or standing.attempt != event.attempt:
            return None
        if state.closed and not isinstance(event, events.NudgeDelivered) and event.retry_at is not None:
            return replace(event, error=f"{event.error}; the nudge was closed meanwhile", retry_at=None)
        return event

    return decide


def _left_over(channel: str, offer: Offer, idempotent: bool, standing: Standing, now: int) -> Steps:
    """An attempt of which nobody recorded an outcome in time: whoever made it has stopped."""
    if standing.status != TRYING or standing.next_at is None or now <= standing.next_at:
        return None
    again = idempotent and standing.attempt < MOST_ATTEMPTS and now < offer.expires_at
    error = "the service stopped during the attempt"
    return events.DeliveryUnknown(channel, standing.attempt, error, now if again else None)


def _over(offer: Offer, standing: Standing, now: int) -> str | None:
    """Why it is too late for another attempt; None: it is not."""
    late = seconds((now - offer.offered_at) // SECOND * SECOND)
    if now >= offer.expires_at:
        return f"noticed {late} after the offer, when it had expired"
    if standing.attempt == 0 and standing.next_at is None and now - offer.offered_at > NEWS:
        return f"noticed {late} after the offer: too late to be news"
    return None
