"""A nudge's question into the chat, asked for by the user, and the grounded follow-up behind it.

Both are said at most once, whoever asks how often: each is a delivery of the nudge like any other (channels
`rasa` and `rasa_follow_up`), so an attempt is recorded before the call and its outcome after, and an attempt
whose outcome nobody knows is the end of it. That the user asked is recorded once and whatever the chat does:
as the user's chat message in the nudge's session. A follow-up that a stop or a crash prevented is said after
the next start, where that is within a minute of the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from api.chat import nudges, options, saying
from api.chat.nudges import Nudge
from api.chat.options import Told
from api.chat.saying import FOLLOW_UP, Saying, Spot
from api.delivery import parts
from api.delivery.jobs import NEWS
from api.delivery.jobs import Answer as Step
from api.delivery.port import DeliveryError
from api.delivery.rasa import Rasa, Said
from api.unattended import Unattended
from domain import events
from domain.envelope import OUTSIDE, Recorded, name_in
from domain.errors import NotCarriedOut, NotFound
from domain.instants import SECOND
from domain.nudge import DELIVERED, TRYING, UNKNOWN
from eventstore import reader
from projections import facts, lookups

if TYPE_CHECKING:
    from api.service import Service

FOLLOW_UP_AFTER_S = 0.6  # behind the question
LOOKED_BACK = 50_000  # positions in which a start looks for attempts that nobody settled
WAKING_S = 0.01  # behind the end of an attempt, before it is looked whether it was settled
SETTLED = (Rasa.name, FOLLOW_UP, parts.INTERCOM_TEXT, parts.INTERCOM_FOLLOW_UP)  # by no worker


class Injected(NamedTuple):
    """The question stands in the chat."""

    nudge: Nudge
    sent: bool  # by this call; False: it was there already
    said: Said


class Injecting:
    """What is said in chats because users open them."""

    def __init__(self, service: Service, rasa: Rasa) -> None:
        self._service, self._saying = service, Saying(service.recorder, rasa)
        self._background = Unattended("follow_up_failed", DeliveryError)

    async def start(self) -> None:
        """Begin with what an earlier process left in the middle of an attempt."""
        async with self._service.ledger.reader() as conn:
            rows = await lookups.recent_of_type(conn, events.DeliveryAttempted.TYPE, LOOKED_BACK)
        self._background.spawn(self._settle_left(rows))

    async def stop(self) -> None:
        """Let follow-ups under way be said."""
        await self._background.stop(parts.STOPPING_S)

    async def inject(
        self, product: str, user_id: str | None, trigger_id: str | None, sender_id: str
    ) -> Injected:
        """Say the recorded question of the user's open nudge, else of the newest, in the chat `sender_id`.

        Raises NotFound where no such nudge was offered, NotCarriedOut where the chat does not take it.
        """
        nudge = await self._nudge(product, user_id, trigger_id)
        settings = (await self._service.product(product)).rules.config.channels.rasa
        if settings is None:
            await self._asked(product, nudge, sender_id)
            raise NotCarriedOut("no chat is configured: the config has no channels.rasa")
        spot = Spot(product, nudge.nudge_id, nudge.trigger_id, sender_id, settings)
        # Before the asking closes the nudge: an attempt under way is left alone, one that is due is dropped.
        step = await self._saying.begin(spot, Rasa.name)
        await self._asked(product, nudge, sender_id)
        if not isinstance(step.event, events.DeliveryAttempted):
            _check_said(step)
            if step.standing.status == DELIVERED:  # perhaps by itself, with nothing said behind it
                self._background.spawn(self._follow_up(spot))
            return Injected(nudge, False, Said())
        said = await self._saying.say(spot, step.event, nudge.body)
        self._background.spawn(self._follow_up(spot))
        return Injected(nudge, True, said)

    # --- inside ----------------------------------------------------------------------------------

    async def _nudge(self, product: str, user_id: str | None, trigger_id: str | None) -> Nudge:
        found = None
        if user_id is not None:
            async with self._service.ledger.reader() as conn:
                found = await nudges.newest(conn, product, user_id, trigger_id, self._service.clock.now())
        if found is None:
            raise NotFound("no such nudge was offered: user_id and trigger_id name one that was")
        return found

    async def _asked(self, product: str, nudge: Nudge, sender_id: str) -> None:
        """Record that the user asked for the question in this conversation; the asking once a nudge."""
        state = (await self._service.recorder.session(product, nudge.session_id)).state
        asked = events.ChatMessage("user", nudge.body, sender_id)
        told = [Told(asked, "chat", f"inject-{nudge.nudge_id}")]
        if state.conversation_id != sender_id:
            told.insert(0, Told(events.ConversationLinked(sender_id, "new"), "chat"))
        await options.record(self._service, product, nudge, told)

    async def _follow_up(self, spot: Spot) -> None:
        """Behind the question, what helps: made while the pause runs, said when it is over."""
        text, _ = await asyncio.gather(
            self._service.assistant.follow_up(spot.product, spot.nudge_id), asyncio.sleep(FOLLOW_UP_AFTER_S)
        )
        await self._saying.follow_up(spot, text)

    async def _settle_left(self, rows: Sequence[Recorded]) -> None:
        """An attempt that nobody settled by its end is one of which nobody knows; a question that was said
        just now is owed its follow-up."""
        left = [
            (event.until, row, event.channel)
            for row in rows
            if isinstance(event := facts.fact(row).event, events.DeliveryAttempted)
            and event.channel in SETTLED
        ]
        for until, row, channel in sorted(left, key=lambda item: item[0]):
            product, nudge_id = row.product, name_in(row.stream)
            standing = await self._saying.parts.standing(product, nudge_id, channel)
            while standing.status == TRYING:  # a sleep may end early, by a little
                rest = (standing.next_at or until) - self._service.clock.now()
                await asyncio.sleep(max(0, rest) / SECOND + WAKING_S)
                standing = await self._saying.parts.standing(product, nudge_id, channel)
            recent = self._service.clock.now() - row.recorded_at <= NEWS
            if channel == Rasa.name and standing.status == DELIVERED and recent:
                self._background.spawn(self._resume(product, nudge_id))

    async def _resume(self, product: str, nudge_id: str) -> None:
        """Say the follow-up of a question that a user asked for, unless an attempt was made."""
        asked_id = f"inject-{nudge_id}"
        async with self._service.ledger.reader() as conn:
            row = (await reader.find_ids(conn, product, OUTSIDE, [asked_id])).get(asked_id)
            nudge = await nudges.of_id(conn, product, nudge_id)
        asked = facts.fact(row).event if row is not None and row.source == "chat" else None
        settings = (await self._service.product(product)).rules.config.channels.rasa
        if nudge is None or settings is None or not isinstance(asked, events.ChatMessage):
            return
        if (
            asked.conversation_id is not None
            and not (await self._saying.parts.standing(product, nudge_id, FOLLOW_UP)).attempt
        ):
            await self._follow_up(Spot(product, nudge_id, nudge.trigger_id, asked.conversation_id, settings))


def _check_said(step: Step) -> None:
    """Where no attempt is made. Raises NotCarriedOut unless the question is said, or being said."""
    if isinstance(step.event, events.DeliveryUnknown) or step.standing.status == UNKNOWN:
        raise NotCarriedOut(saying.ONCE)
    if step.standing.status not in (DELIVERED, TRYING):
        raise NotCarriedOut(f"the chat refused the question {step.standing.attempt} times: it is given up")
