"""One text of a nudge into a conversation, as a delivery of the nudge: attempt recorded, call made, outcome
recorded. At most once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from api.delivery.jobs import Answer
from api.delivery.parts import Parts
from api.delivery.port import DeliveryError, Uncertain
from api.delivery.rasa import Rasa, Said
from api.recorder import Recorder
from domain import events
from domain.config_around import Rasa as Settings
from domain.errors import NotCarriedOut

FOLLOW_UP = "rasa_follow_up"  # the channel under which a follow-up's delivery is recorded
ONCE = "nobody knows whether the chat took the question: it is not asked twice"


class Spot(NamedTuple):
    """Which nudge's texts, and where they are said."""

    product: str
    nudge_id: str
    trigger_id: str
    conversation_id: str
    settings: Settings


class Saying:
    def __init__(self, recorder: Recorder, rasa: Rasa) -> None:
        self._recorder, self._rasa = recorder, rasa
        self.parts = Parts(recorder)

    async def begin(self, spot: Spot, channel: str) -> Answer:
        """Record an attempt, unless the text was said, may have been, or is being said."""
        return await self.parts.begin(spot.product, spot.nudge_id, channel, spot.settings.timeout)

    async def say(self, spot: Spot, attempted: events.DeliveryAttempted, text: str) -> Said:
        """Make a recorded attempt, and record its outcome. Raises NotCarriedOut."""
        try:
            return await self.parts.carry(
                spot.product,
                spot.nudge_id,
                attempted,
                spot.settings.timeout,
                self._call(spot, text),
                _reference,
            )
        except Uncertain:
            raise NotCarriedOut(ONCE) from None
        except DeliveryError as error:
            raise NotCarriedOut(error.error) from None

    async def follow_up(self, spot: Spot, text: str) -> None:
        """Say what helps behind a question. Raises DeliveryError."""
        timeout = spot.settings.timeout
        call = self._call(spot, text)
        await self.parts.tell(spot.product, spot.nudge_id, FOLLOW_UP, timeout, call, _reference)

    def _call(self, spot: Spot, text: str) -> Callable[[], Awaitable[Said]]:
        async def call() -> Said:
            where = (spot.nudge_id, spot.trigger_id, self._recorder.clock.now())
            return await self._rasa.say(spot.settings, spot.conversation_id, text, *where)

        return call


def _reference(said: Said) -> str | None:
    return said.reference
