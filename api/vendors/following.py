"""What helps, said in Intercom behind an answer that asks for it: a delivery of the nudge, at most once.

What a stop or a crash prevented is said after the next start, where the answer is not older than a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

import structlog

from api.chat import nudges, options
from api.delivery.intercom import Intercom
from api.delivery.jobs import NEWS
from api.delivery.parts import INTERCOM_FOLLOW_UP, Parts
from api.delivery.port import DeliveryError, TryLater
from api.vendors.intercom import declines
from api.vendors.notices import SOURCE
from domain import events
from domain.envelope import Recorded, name_in
from domain.errors import NudgeledgerError
from projections import facts, lookups

if TYPE_CHECKING:
    from api.service import Service

log = structlog.get_logger()

TRIES: Final = 4
PAUSE_S: Final = 1.0  # before a follow-up that was refused for now is tried again; doubled each time
LONGEST_PAUSE_S: Final = 30.0
STOPPING_S: Final = 5.0  # that a stop waits for follow-ups under way
LOOKED_BACK: Final = 50_000  # positions in which a start looks for answers


class Following:
    def __init__(self, service: Service, intercom: Intercom, parts: Parts) -> None:
        self._service, self._intercom, self._parts = service, intercom, parts
        self._background: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Go on with what an earlier process owed."""
        now = self._service.clock.now()
        async with self._service.ledger.reader() as conn:
            rows = await lookups.recent_of_type(conn, events.OptionClicked.TYPE, LOOKED_BACK)
        for row in rows:
            if row.source == SOURCE and now - row.recorded_at <= NEWS:
                self._spawn(self._resume(row))

    async def stop(self) -> None:
        """Let follow-ups under way be said."""
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=STOPPING_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def ask(self, product: str, nudge_id: str, conversation_id: str) -> None:
        """Say it soon; nobody waits for it."""
        self._spawn(self._say(product, nudge_id, conversation_id))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(_quietly(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

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
        for tried in range(TRIES):
            step = await self._parts.begin(product, nudge_id, INTERCOM_FOLLOW_UP, settings.timeout)
            if not isinstance(step.event, events.DeliveryAttempted):
                return
            try:
                await self._parts.carry(
                    product,
                    nudge_id,
                    step.event,
                    settings.timeout,
                    lambda: self._intercom.comment(
                        settings, conversation_id, text, self._service.clock.now()
                    ),
                    lambda part: part.id,
                )
            except TryLater as later:
                await asyncio.sleep(max(PAUSE_S * 2**tried, min(later.after or 0.0, LONGEST_PAUSE_S)))
            else:
                return


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (NudgeledgerError, DeliveryError) as error:
        log.warning("follow_up_failed", error=str(error))
    except Exception as error:  # whatever it is: nobody waits for it, so say it here
        log.error("follow_up_failed", error=type(error).__name__, exc_info=True)
