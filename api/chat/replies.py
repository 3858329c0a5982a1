"""Answers to what a user writes in a chat that stands elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from api.chat import people
from api.ingest.native import OutsideEvent
from domain import events
from domain.instants import SECOND

if TYPE_CHECKING:
    from api.service import Service

SAME_WITHIN = 2 * SECOND  # µs in which the same words are the same message: hosts try again
UNKNOWN = "I cannot see any activity of yours here yet. What would you like to do?"

Key = tuple[str, str, str]  # product, user, query


class Replies:
    """Answers, each made once: who asks the same again at once is given the same answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._asked: dict[Key, tuple[int, asyncio.Task[dict[str, Any]]]] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Give up answers that are still being made."""
        tasks = [task for _, task in self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def reply(self, product: str, user_id: str, query: str) -> dict[str, Any]:
        """The answer; the message is recorded in the user's session first. Of a user who has none nothing is
        recorded."""
        now = self._service.clock.now()
        for key, (at, task) in list(self._asked.items()):
            if now - at > SAME_WITHIN and task.done():
                del self._asked[key]
        key = (product, user_id, " ".join(query.split()))
        known = self._asked.get(key)
        if known is None or now - known[0] > SAME_WITHIN:
            known = self._asked[key] = (now, asyncio.create_task(self._answer(product, user_id, query)))
        return await asyncio.shield(known[1])

    async def _answer(self, product: str, user_id: str, query: str) -> dict[str, Any]:
        session_id = await self._service.user_session(product, user_id)
        if session_id is None:
            return {"reply": UNKNOWN, "name": "", "has_activity": False}
        state = (await self._service.recorder.session(product, session_id)).state
        now = self._service.clock.now()
        message = events.ChatMessage("user", query, state.conversation_id)
        item = OutsideEvent(None, message, session_id, user_id, now, now, None, None, False, "chat", None)
        await self._service.record_events(product, [item])
        said = await self._service.assistant.reply(product, session_id, query)
        async with self._service.ledger.reader() as conn:
            person = await people.of_session(conn, product, session_id, user_id)
        return {"reply": said, "name": person.name or "", "has_activity": len(state.actions) > 0}
