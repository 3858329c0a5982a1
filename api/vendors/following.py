"""What helps, said in Intercom behind an answer that asks for it: a delivery of the nudge, at most once.

What a stop or a crash prevented is said after the next start, where the answer is not older than a minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from api.chat import nudges, options
from api.delivery.intercom import Intercom
from api.delivery.jobs import NEWS
from api.delivery.parts import INTERCOM_FOLLOW_UP, STOPPING_S, Parts
from api.delivery.port import DeliveryError
from api.unattended import Unattended
from api.vendors.intercom import declines
from api.vendors.notices import SOURCE
from domain import events
from domain.envelope import Recorded, name_in
from projections import facts, lookups

if TYPE_CHECKING:
    from api.service import Service

LOOKED_BACK: Final = 50_000  # positions in which a start looks for answers


class Following:
    def __init__(self, service: Service, intercom: Intercom, parts: Parts) -> None:
        self._service, self._intercom, self._parts = service, intercom, parts
        self._background = Unattended("follow_up_failed", DeliveryError)

    async def start(self) -> None:
        """Go on with what an earlier process owed."""
        now = self._service.clock.now()
        async with self._service.ledger.reader() as conn:
            rows = await lookups.recent_of_type(conn, events.OptionClicked.TYPE, LOOKED_BACK)
        for row in rows:
            if row.source == SOURCE and now - row.recorded_at <= NEWS:
                self._background.spawn(self._resume(row))

    async def stop(self) -> None:
        """Let follow-ups under way be said."""
        await self._background.stop(STOPPING_S)

    def ask(self, product: str, nudge_id: str, conversation_id: str) -> None:
        """Say it soon; nobody waits for it."""
        self._background.spawn(self._say(product, nudge_id, conversation_id))

    async def _resume(self, row: Recorded) -> None:
        """What is owed to a tap that was recorded; what was said, or may have been, is not said again."""
        clicked, product, session_id = facts.fact(row).event, row.product, name_in(row.stream)
        assert isinstance(clicked, events.OptionClicked)
        async with self._service.ledger.reader() as conn:
            nudge = await nudges.of_id(conn, product, clicked.nudge_id or "")
        conversation_id = (await self._service.recorder.session(product, session_id)).state.conversation_id
        config = (await self._service.product(product)).rules.config
        if nudge is None or conversation_id is None:
            return
        for option in nudge.message["options"]:
            tour = options.tour_of(option, nudge, config)
            if option["id"] == clicked.option_id and tour is None and not declines(option):
                await self._say(product, nudge.nudge_id, conversation_id)

    async def _say(self, product: str, nudge_id: str, conversation_id: str) -> None:
        settings = (await self._service.product(product)).rules.config.channels.intercom
        if settings is None:
            return
        text = await self._service.assistant.follow_up(product, nudge_id)
        await self._parts.tell(
            product,
            nudge_id,
            INTERCOM_FOLLOW_UP,
            settings.timeout,
            lambda: self._intercom.comment(settings, conversation_id, text, self._service.clock.now()),
            lambda part: part.id,
        )
