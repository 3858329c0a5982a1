"""One call of a channel, and what it comes to."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import structlog

from api.delivery import backoff
from api.delivery.breaker import Breaker
from api.delivery.port import Channel, Delivered, DeliveryError, Message, Refused, TryLater, Uncertain
from domain import events
from domain.config_around import Channels
from domain.errors import Unavailable
from domain.instants import SECOND, seconds

log = structlog.get_logger()

CANCEL_S = 1.0  # that a channel has to end when it is told to


class Result(NamedTuple):
    """How an attempt ended."""

    outcome: Delivered | DeliveryError
    ours: bool = False  # its failure says nothing of the vendor

    def tell(self, breaker: Breaker, now: int) -> None:
        """What it says of the vendor."""
        match self.outcome:
            case Refused(status=None):
                breaker.ended()
            case _ if self.ours:
                breaker.ended()
            case TryLater() as later:
                breaker.failed(now, later.after)
            case Uncertain():
                breaker.failed(now)
            case _:
                breaker.succeeded()

    def event(
        self, channel: Channel, message: Message, now: int
    ) -> events.NudgeDelivered | events.DeliveryFailed | events.DeliveryUnknown:
        """What is recorded of it."""
        name, attempt, outcome = channel.name, message.attempt, self.outcome
        if isinstance(outcome, Delivered):
            return events.NudgeDelivered(name, None, attempt, outcome.reference)
        after = outcome.after if isinstance(outcome, TryLater) else None
        key = (message.product, message.nudge_id, name)
        retry_at, why_not = backoff.next_at(attempt, now, message.expires_at, after, *key)
        if isinstance(outcome, Uncertain) and not channel.idempotent:
            return events.DeliveryUnknown(name, attempt, outcome.error)
        if isinstance(outcome, (TryLater, Uncertain)):
            error = f"{outcome.error}; {why_not}" if why_not else outcome.error
            if isinstance(outcome, Uncertain):
                return events.DeliveryUnknown(name, attempt, error, retry_at)
            return events.DeliveryFailed(name, attempt, error, outcome.status, retry_at)
        return events.DeliveryFailed(name, attempt, outcome.error, outcome.status)


class Attempts:
    """The calls under way."""

    def __init__(self) -> None:
        self._calls: set[asyncio.Task[Delivered]] = set()

    def cut(self) -> None:
        """The service stops: no call may go on."""
        for call in self._calls:
            call.cancel()

    async def make(self, channel: Channel, message: Message, settings: Channels, within: int) -> Result:
        """Call the channel; after `within` µs it has ended, whatever it does. Raises nothing."""
        call = asyncio.ensure_future(_called(channel, message, settings))
        self._calls.add(call)
        try:
            done, _ = await asyncio.wait({call}, timeout=within / SECOND)
            if not done:
                call.cancel()
                await asyncio.wait({call}, timeout=CANCEL_S)
                return Result(Uncertain(f"no answer within {seconds(within)}"))
            if call.cancelled():
                return Result(Uncertain("the service stopped during the attempt"), ours=True)
            return _result(call, channel.name)
        finally:
            self._calls.discard(call)
            call.cancel()


async def _called(channel: Channel, message: Message, settings: Channels) -> Delivered:
    return await channel.deliver(message, settings)


def _result(call: asyncio.Task[Delivered], name: str) -> Result:
    error = call.exception()
    match error:
        case None:
            return Result(call.result())
        case DeliveryError():
            return Result(error)
        case Unavailable():
            return Result(Refused(str(error)), ours=True)
        case _:
            log.error("channel_failed", channel=name, exc_info=error)
            return Result(Uncertain(f"the channel itself failed ({type(error).__name__})"), ours=True)
