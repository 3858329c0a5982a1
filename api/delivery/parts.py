"""Texts that are said beside, before or behind a nudge: each a delivery on the nudge's own stream, with a
channel name of its own. Attempt recorded, call made, outcome recorded: at most once, whoever asks how often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from api.delivery import backoff
from api.delivery.jobs import SLACK, Answer, Decide, DeliveryJob, Steps, settle
from api.delivery.port import DeliveryError, Refused, TryLater, Uncertain
from api.recorder import Recorder
from domain import events
from domain.errors import Unavailable
from domain.instants import SECOND
from domain.nudge import DELIVERED, TRYING, UNKNOWN, NudgeState, Standing

INTERCOM_TEXT: Final = "intercom_text"  # the nudge's question, where quick replies cannot carry it
INTERCOM_FOLLOW_UP: Final = "intercom_follow_up"
MOST_ATTEMPTS: Final = backoff.MOST_ATTEMPTS + 4  # of one text: a user may ask when the worker has given up
TRIES: Final = 4  # of a text that nobody waits for
PAUSE_S: Final = 1.0  # before one that was refused for now is tried again; doubled each time
LONGEST_PAUSE_S: Final = 30.0
STOPPING_S: Final = 5.0  # that a stop waits for such texts under way

_STOPPED = "the service stopped during the attempt"

T = TypeVar("T")


class Parts:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def standing(self, product: str, nudge_id: str, channel: str) -> Standing:
        """Where a text stands, an attempt that was never settled counted as unknown."""
        answer = await self.step(product, nudge_id, channel, lost(channel))
        return answer.standing if answer.event is None else Standing(UNKNOWN, answer.standing.attempt)

    async def begin(self, product: str, nudge_id: str, channel: str, within: int) -> Answer:
        """Record an attempt of at most `within` µs, unless the text was said, or may have been."""
        return await self.step(product, nudge_id, channel, _begin(channel, within))

    async def carry(
        self,
        product: str,
        nudge_id: str,
        attempted: events.DeliveryAttempted,
        within: int,
        call: Callable[[], Awaitable[T]],
        reference: Callable[[T], str | None],
    ) -> T:
        """Make a recorded attempt of at most `within` µs, and record its outcome.

        Raises DeliveryError; a secret that is not set is Refused.
        """
        channel, attempt = attempted.channel, attempted.attempt

        async def ended(
            event: events.NudgeDelivered | events.DeliveryFailed | events.DeliveryUnknown,
        ) -> None:
            await self.step(product, nudge_id, channel, settle(event))

        failure: DeliveryError
        try:
            async with asyncio.timeout(within / SECOND):
                made = await call()
        except TimeoutError:
            failure = Uncertain("no answer in time")
        except DeliveryError as error:
            failure = error
        except Unavailable as error:
            failure = Refused(str(error))
        except asyncio.CancelledError:
            await ended(events.DeliveryUnknown(channel, attempt, _STOPPED))
            raise
        else:
            await ended(events.NudgeDelivered(channel, attempt=attempt, reference=reference(made)))
            return made
        if isinstance(failure, Uncertain):
            await ended(events.DeliveryUnknown(channel, attempt, failure.error))
        else:
            await ended(events.DeliveryFailed(channel, attempt, failure.error, failure.status))
        raise failure

    async def tell(
        self,
        product: str,
        nudge_id: str,
        channel: str,
        within: int,
        call: Callable[[], Awaitable[T]],
        reference: Callable[[T], str | None],
    ) -> None:
        """Say a text that nobody waits for: again after a pause where it surely was not taken
        and may be later. Does nothing where it was said, or may have been. Raises DeliveryError."""
        for tried in range(TRIES):
            step = await self.begin(product, nudge_id, channel, within)
            if not isinstance(step.event, events.DeliveryAttempted):
                return
            try:
                await self.carry(product, nudge_id, step.event, within, call, reference)
            except TryLater as later:
                await asyncio.sleep(max(PAUSE_S * 2**tried, min(later.after or 0.0, LONGEST_PAUSE_S)))
            else:
                return

    async def step(self, product: str, nudge_id: str, channel: str, decide: Decide) -> Answer:
        """Record what is decided on the nudge's own stream."""
        job = DeliveryJob(
            product, self._recorder.clock.new_id(), nudge_id=nudge_id, channel=channel, decide=decide
        )
        answer: Answer = (await self._recorder.submit(job))[0].value
        return answer


def _begin(channel: str, within: int) -> Decide:
    """Whether the nudge is still open, or attempts were given up, is no hindrance: the user asks for it."""
    left = lost(channel)

    def decide(state: NudgeState, standing: Standing, now: int) -> Steps:
        if standing.status == TRYING:
            return left(state, standing, now)
        if standing.status in (DELIVERED, UNKNOWN) or standing.attempt >= MOST_ATTEMPTS:
            return None
        return events.DeliveryAttempted(channel, standing.attempt + 1, now + within + SLACK)

    return decide


def lost(channel: str) -> Decide:
    """The end of an attempt that was to have ended by now."""

    def decide(state: NudgeState, standing: Standing, now: int) -> Steps:
        if standing.status != TRYING or standing.next_at is None or now <= standing.next_at:
            return None
        return events.DeliveryUnknown(channel, standing.attempt, _STOPPED)

    return decide
