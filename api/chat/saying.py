"""One text of a nudge into a conversation, as a delivery of the nudge: attempt recorded, call made, outcome
recorded. At most once."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from api.delivery import backoff
from api.delivery.jobs import SLACK, Answer, Decide, DeliveryJob, Steps, settle
from api.delivery.port import DeliveryError, Refused, TryLater, Uncertain
from api.delivery.rasa import Rasa, Said
from api.recorder import Recorder
from domain import events
from domain.config_around import Rasa as Settings
from domain.errors import NotCarriedOut, Unavailable
from domain.instants import SECOND
from domain.nudge import DELIVERED, TRYING, UNKNOWN, NudgeState, Standing

FOLLOW_UP = "rasa_follow_up"  # the channel under which a follow-up's delivery is recorded
MOST_ATTEMPTS = backoff.MOST_ATTEMPTS + 4  # of one text: a user may ask when the worker has given up
ONCE = "nobody knows whether the chat took the question: it is not asked twice"

_STOPPED = "the service stopped during the attempt"


class Spot(NamedTuple):
    """Which nudge's texts, and where they are said."""

    product: str
    nudge_id: str
    trigger_id: str
    conversation_id: str
    settings: Settings


class NotTaken(NotCarriedOut):
    """The chat did not take a text. `final`: it is not to be tried again. `after`: seconds it asked for."""

    def __init__(self, detail: str, after: float | None, final: bool) -> None:
        super().__init__(detail)
        self.after, self.final = after, final


class Saying:
    def __init__(self, recorder: Recorder, rasa: Rasa) -> None:
        self._recorder, self._rasa = recorder, rasa

    async def begin(self, spot: Spot, channel: str) -> Answer:
        """Record an attempt, unless the text was said, may have been, or is being said."""
        return await self.step(spot.product, spot.nudge_id, channel, _begin(channel, spot.settings.timeout))

    async def say(self, spot: Spot, attempted: events.DeliveryAttempted, text: str) -> Said:
        """Make a recorded attempt, and record its outcome. Raises NotTaken."""
        channel, attempt = attempted.channel, attempted.attempt
        try:
            async with asyncio.timeout(spot.settings.timeout / SECOND):
                said = await self._rasa.say(
                    spot.settings,
                    spot.conversation_id,
                    text,
                    spot.nudge_id,
                    spot.trigger_id,
                    self._recorder.clock.now(),
                )
        except TimeoutError:
            raise await self._failed(spot, attempted, Uncertain("no answer in time")) from None
        except DeliveryError as error:
            raise await self._failed(spot, attempted, error) from None
        except Unavailable as error:
            raise await self._failed(spot, attempted, Refused(str(error))) from None
        except asyncio.CancelledError:
            await self._settle(spot, events.DeliveryUnknown(channel, attempt, _STOPPED))
            raise
        await self._settle(spot, events.NudgeDelivered(channel, attempt=attempt, reference=said.reference))
        return said

    async def step(self, product: str, nudge_id: str, channel: str, decide: Decide) -> Answer:
        """Record what is decided on the nudge's own stream."""
        job = DeliveryJob(
            product, self._recorder.clock.new_id(), nudge_id=nudge_id, channel=channel, decide=decide
        )
        answer: Answer = (await self._recorder.submit(job))[0].value
        return answer

    async def _failed(
        self, spot: Spot, attempted: events.DeliveryAttempted, failure: DeliveryError
    ) -> NotTaken:
        channel, attempt = attempted.channel, attempted.attempt
        if isinstance(failure, Uncertain):
            await self._settle(spot, events.DeliveryUnknown(channel, attempt, failure.error))
            return NotTaken(ONCE, None, True)
        await self._settle(spot, events.DeliveryFailed(channel, attempt, failure.error, failure.status))
        if isinstance(failure, TryLater):
            return NotTaken(failure.error, failure.after, False)
        return NotTaken(failure.error, None, True)

    async def _settle(
        self, spot: Spot, outcome: events.NudgeDelivered | events.DeliveryFailed | events.DeliveryUnknown
    ) -> None:
        await self.step(spot.product, spot.nudge_id, outcome.channel, settle(outcome))


def _begin(channel: str, timeout: int) -> Decide:
    """Whether the nudge is still open, or attempts were given up, is no hindrance: the user asks for it."""
    left = lost(channel)

    def decide(state: NudgeState, standing: Standing, now: int) -> Steps:
        if standing.status == TRYING:
            return left(state, standing, now)
        if standing.status in (DELIVERED, UNKNOWN) or standing.attempt >= MOST_ATTEMPTS:
            return None
        return events.DeliveryAttempted(channel, standing.attempt + 1, now + timeout + SLACK)

    return decide


def lost(channel: str) -> Decide:
    """The end of an attempt that was to have ended by now."""

    def decide(state: NudgeState, standing: Standing, now: int) -> Steps:
        if standing.status != TRYING or standing.next_at is None or now <= standing.next_at:
            return None
        return events.DeliveryUnknown(channel, standing.attempt, _STOPPED)

    return decide
