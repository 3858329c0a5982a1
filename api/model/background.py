"""What the ledger holds of a session beside its actions: summary, conversation, descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import events
from domain.envelope import OUTSIDE, Recorded, session_stream
from domain.history import ActionFact
from eventstore import reader
from projections import facts

TURNS = 12  # of the conversation
_CORRECTIONS = 100


class Turn(NamedTuple):
    role: str  # user | assistant
    text: str


class Background(NamedTuple):
    summary: events.SummaryGenerated | None  # the newest whose text can be read
    turns: tuple[Turn, ...]  # the newest, oldest first
    replies: tuple[tuple[int, events.ReplyGenerated], ...]  # instant, reply; newest first


async def read(conn: AsyncConnection, product: str, session_id: str) -> Background:
    """The newest of a session's stream."""
    stream = session_stream(session_id)
    summaries = await reader.read_types(conn, product, stream, [events.SummaryGenerated.TYPE], limit=1)
    said = [events.ChatMessage.TYPE, events.ReplyGenerated.TYPE]
    rows = await reader.read_types(conn, product, stream, said, limit=TURNS)
    keys = await facts.keys_of(conn, [*summaries, *rows])
    summary = _event(summaries[0], keys) if summaries else None
    turns: list[Turn] = []
    replies: list[tuple[int, events.ReplyGenerated]] = []
    for row in rows:
        match _event(row, keys):
            case events.ChatMessage(role=role, text=str() as text):
                turns.append(Turn(role, text))
            case events.ReplyGenerated(text=str() as text) as reply:
                turns.append(Turn("assistant", text))
                replies.append((row.recorded_at, reply))
            case _:
                pass
    # A chat that reports back what it was given to say has said it once.
    once = [turn for place, turn in enumerate(turns) if turn not in turns[max(0, place - 1) : place]]
    readable = isinstance(summary, events.SummaryGenerated) and summary.text is not None
    return Background(
        summary if readable and isinstance(summary, events.SummaryGenerated) else None,
        tuple(reversed(once)),
        tuple(replies),
    )


async def follow_up(conn: AsyncConnection, offer: Recorded) -> events.ReplyGenerated | None:
    """What was said behind an offered nudge; None: nothing yet. Its text is None where it was erased."""
    rows = await reader.read_types(
        conn,
        offer.product,
        offer.stream,
        [events.ReplyGenerated.TYPE],
        after_version=offer.version,
        limit=1_000,
    )
    mine = [row for row in rows if orjson.loads(row.data).get("nudge_id") == offer.event_id]
    if not mine:
        return None
    first = _event(mine[-1], await facts.keys_of(conn, mine))
    return first if isinstance(first, events.ReplyGenerated) else None


async def version(conn: AsyncConnection, product: str, session_id: str) -> int:
    """The newest version of the session's stream."""
    stream = session_stream(session_id)
    return (await reader.versions(conn, [(product, stream)]))[product, stream]


async def descriptions(
    conn: AsyncConnection, product: str, session_id: str, actions: Sequence[ActionFact]
) -> Mapping[str, str]:
    """By event id what senders and later corrections say in words of these actions."""
    ids = [action.event_id for action in actions]
    found = await reader.find_ids(conn, product, OUTSIDE, ids)
    said = {event_id: orjson.loads(row.data).get("description") for event_id, row in found.items()}
    stream = session_stream(session_id)
    corrections = await reader.read_types(
        conn, product, stream, [events.ActionRelabelled.TYPE], limit=_CORRECTIONS
    )
    for row in reversed(corrections):
        data = orjson.loads(row.data)
        if data.get("description") is not None or data.get("title") is not None:
            said[data.get("action_id")] = data.get("description")
    return {event_id: text for event_id, text in said.items() if isinstance(text, str)}


def _event(row: Recorded, keys: Mapping[str, bytes]) -> events.Event:
    return facts.fact(row, keys).event
