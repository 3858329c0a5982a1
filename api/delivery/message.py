"""A recorded offer as channels get it."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from api.delivery.jobs import Offer
from api.delivery.port import Message
from domain import events
from domain.envelope import ENGINE, Recorded, name_in
from eventstore import reader
from projections import facts


class Offered(NamedTuple):
    """An offer beside its row of the ledger."""

    row: Recorded
    event: events.NudgeOffered

    @property
    def session_id(self) -> str:
        return name_in(self.row.stream)

    @property
    def offer(self) -> Offer:
        return Offer(self.row.event_id, self.row.at, self.event.expires_at)


async def offered(conn: AsyncConnection, product: str, nudge_id: str) -> Offered | None:
    """The offer of that id; None where there is none, or it cannot be read."""
    row = (await reader.find_ids(conn, product, ENGINE, [nudge_id])).get(nudge_id)
    if row is None:
        return None
    event = facts.fact(row).event
    return Offered(row, event) if isinstance(event, events.NudgeOffered) else None


def message(found: Offered, conversation_id: str | None, attempt: int, attempted_at: int) -> Message:
    row, event = found
    said = event.message
    return Message(
        product=row.product,
        nudge_id=row.event_id,
        trigger_id=event.trigger_id,
        session_id=found.session_id,
        user_id=event.user_id,
        conversation_id=conversation_id,
        body=said["body"],
        tours=said.get("tours", ()),
        options=said.get("options", ()),
        target=said.get("target"),
        how_to=said.get("how_to"),
        reason=event.explanation.get("summary", ""),
        offered_at=row.at,
        expires_at=event.expires_at,
        attempt=attempt,
        attempted_at=attempted_at,
    )
