"""One text of a nudge into a conversation, as a delivery of the nudge: attempt recorded, call made, outcome
recorded. At most once."""

from __future__ import annotations

from typing import NamedTuple

from api.delivery.jobs import Answer
from api.delivery.parts import Parts
from api.delivery.port import DeliveryError, TryLater, Uncertain
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


class NotTaken(NotCarriedOut):
    """The chat did not take a text. `final`: it is not to be tried again. `after`: seconds it asked for."""

    def __init__(self, detail: str, after: float | None, final: bool) -> None:
        super().__init__(detail)
        self.after, self.final = after, final


class Saying:
    def __init__(self, recorder: Recorder, rasa: Rasa) -> None:
        self._recorder, self._rasa = recorder, rasa
        self.parts = Parts(recorder)

    async def begin(self, spot: Spot, channel: str) -> Answer:
        """Record an attempt, unless the text was said, may have been, or is being said."""
        return await self.parts.begin(spot.product, spot.nudge_id, channel, spot.settings.timeout)

    async def say(self, spot: Spot, attempted: events.DeliveryAttempted, text: str) -> Said:
        """Make a recorded attempt, and record its outcome. Raises NotTaken."""

        async def call() -> Said:
            now = self._recorder.clock.now()
            where = (spot.nudge_id, spot.trigger_id, now)
            return await self._rasa.say(spot.settings, spot.conversation_id, text, *where)

        timeout = spot.settings.timeout
        try:
            return await self.parts.carry(
                spot.product, spot.nudge_id, attempted, timeout, call, lambda said: said.reference
            )
        except Uncertain:
            raise NotTaken(ONCE, None, True) from None
        except TryLater as error:
            raise NotTaken(error.error, error.after, False) from None
        except DeliveryError as error:
            raise NotTaken(error.error, None, True) from None
