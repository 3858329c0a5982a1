"""The recorded nudge that a chat speaks of: what it says, where it stands, what may be told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain import events
from domain.envelope import Recorded, name_in
from domain.instants import text
from eventstore import reader
from projections import facts, lookups


class Nudge(NamedTuple):
    """An offer as it was recorded."""

    nudge_id: str
    session_id: str
    user_id: str | None
    trigger_id: str
    position: int
    at: int  # µs
    expires_at: int  # µs
    closed_at: int | None  # µs
    shown_at: int | None  # µs
    message: Mapping[str, Any]  # what a channel shows
    reason: str  # the explanation's summary

    @property
    def body(self) -> str:
        return str(self.message["body"])

    def open_at(self, at: int) -> bool:
        return at < self.expires_at and (self.closed_at is None or at < self.closed_at)

    def unseen_at(self, at: int) -> bool:
        return self.shown_at is None and self.open_at(at)

    def tour(self) -> Mapping[str, Any] | None:
        """The first of the tours that were offered with it: id, flow_id, label."""
        return next(iter(self.message["tours"]), None)


async def of_id(conn: AsyncConnection, product: str, nudge_id: str) -> Nudge | None:
    return await _recorded(conn, await lookups.nudge(conn, product, nudge_id))


async def newest(
    conn: AsyncConnection, product: str, user_id: str, trigger_id: str | None, now: int
) -> Nudge | None:
    """The user's open nudge, else the one offered last; of one trigger, or of any."""
    return await _recorded(conn, await lookups.newest_nudge(conn, product, user_id, trigger_id, now))


async def _recorded(conn: AsyncConnection, row: Mapping[str, Any] | None) -> Nudge | None:
    found = await reader.read_positions(conn, [row["position"]]) if row is not None else []
    if row is None or not found:
        return None
    offered = facts.fact(found[0]).event
    assert isinstance(offered, events.NudgeOffered)
    nudge = of_row(found[0], offered)
    return nudge._replace(user_id=row["user_id"], closed_at=row["closed_at"], shown_at=row["shown_at"])


def of_row(row: Recorded, offered: events.NudgeOffered) -> Nudge:
    """The nudge as it was when it was offered."""
    return Nudge(
        row.event_id,
        name_in(row.stream),
        offered.user_id,
        offered.trigger_id,
        row.position,
        row.at,
        offered.expires_at,
        None,
        None,
        offered.message,
        offered.explanation["summary"],
    )


def guidance(kind: str, nudge: Nudge, tour_id: str | None = None) -> dict[str, Any]:
    """What guidance streams say of a nudge; `tour_id`: of the tour, else the nudge's own first."""
    tour = nudge.tour()
    return {
        "type": kind,
        "session_id": nudge.session_id,
        "message": nudge.body,
        "target": nudge.message.get("target"),
        "tour_id": tour_id or (tour["id"] if tour is not None else None),
        "reason": nudge.reason,
        "created_at": text(nudge.at),
    }


def offer(nudge: Nudge, email: str | None) -> dict[str, Any]:
    """An open offer, as hosts that ask for it are told."""
    told = guidance("offer", nudge)
    del told["type"]
    return {"id": nudge.nudge_id, **told, "user_id": nudge.user_id, "email": email}
