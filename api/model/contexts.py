"""A session as a text, for a model or a person to read."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from api.model import activity, background
from api.model.summaries import Summaries
from api.recorder import Recorder
from domain import events
from domain.session import SessionState
from eventstore import reader
from projections import facts, lookups

EXPLICIT = 10  # of the host's own events that are told once more, where they would drown


async def told(recorder: Recorder, summaries: Summaries, product: str, session_id: str) -> str:
    """What `Assistant.context` promises."""
    state = (await recorder.session(product, session_id)).state
    settings = (await recorder.book(product)).rules.config.model
    async with recorder.ledger.reader() as conn:
        known = await background.read(conn, product, session_id)
        counted, new = summaries.split(state.actions, known.summary, settings)
        said = await background.descriptions(conn, product, session_id, new)
        offer = await _open_offer(conn, product, state, recorder.clock.now())
    lines: list[str] = []
    if state.actions:
        lines.append(f"Session {activity.line(session_id)} — {len(state.actions)} actions")
    lines += summaries.told(known.summary, counted)
    places = {action.event_id: place for place, action in enumerate(state.actions)}
    lines += [activity.told(a, places[a.event_id], said.get(a.event_id)) for a in new]
    explicit = [a for a in state.actions if a.type not in activity.IMPLICIT][-EXPLICIT:]
    if explicit:
        lines += ["", "Events", *(f"{activity.line(a.type)}: {activity.line(a.title)}" for a in explicit)]
    if offer is not None:
        why = activity.line(str(offer.explanation.get("summary", "")), 500)
        lines += ["", f"Open offer: {activity.line(offer.message['body'])}", why]
    return "\n".join(lines).strip()


async def _open_offer(
    conn: AsyncConnection, product: str, state: SessionState, now: int
) -> events.NudgeOffered | None:
    offer = state.open_offer(now)
    nudge = await lookups.nudge(conn, product, offer.nudge_id) if offer is not None else None
    if nudge is None or nudge["closed_at"] is not None:  # superseded in another session of the same user
        return None
    rows = await reader.read_positions(conn, [nudge["position"]])
    event = facts.fact(rows[0]).event if rows else None
    return event if isinstance(event, events.NudgeOffered) else None
