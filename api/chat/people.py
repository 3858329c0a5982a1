"""Who a session's user is, as hosts said: the newest name and e-mail address that can still be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from domain import events
from domain.envelope import Recorded, session_stream, user_stream
from eventstore import reader
from projections import facts

NAMES = ("name", "full_name", "fullName", "first_name", "firstName")  # of traits, in this order
MOST = 200  # characters


class Person(NamedTuple):
    name: str | None
    email: str | None


async def of_session(
    conn: AsyncConnection, product: str, session_id: str | None, user_id: str | None
) -> Person:
    """What was said of the user in the session, in the user's own stream, or where it was said first.

    Of an erased user nothing can be read: both are None.
    """
    streams = [session_stream(session_id)] if session_id is not None else []
    name = email = None
    linked: list[str] = []
    if user_id is not None:
        streams.append(user_stream(user_id))
        rows = await reader.read_stream(conn, product, user_stream(user_id))
        linked = [
            session_stream(named)
            for row in reversed(rows)
            if row.type == events.UserLinked.TYPE and (named := orjson.loads(row.data).get("session_id"))
        ]
    for stream in dict.fromkeys((*streams, *linked[:3])):
        for said in await _said(conn, product, stream, user_id):
            name = name or _name(said.get("traits"))
            email = email or _text(said.get("email"))
        if name and email:
            break
    return Person(name, email)


async def _said(
    conn: AsyncConnection, product: str, stream: str, user_id: str | None
) -> Sequence[Mapping[str, Any]]:
    """What `user_identified` facts of the stream say of the user, newest first."""
    rows = [
        row
        for row in await reader.read_stream(conn, product, stream)
        if row.type == events.UserIdentified.TYPE and _is_about(row, user_id)
    ]
    if not rows:
        return ()
    keys = await facts.keys_of(conn, rows)
    return [facts.personal_of(row, keys) or {} for row in reversed(rows)]


def _is_about(row: Recorded, user_id: str | None) -> bool:
    return user_id is None or orjson.loads(row.data).get("user_id") in (None, user_id)


def _name(traits: Any) -> str | None:
    if not isinstance(traits, dict):
        return None
    return next((found for key in NAMES if (found := _text(traits.get(key)))), None)


def _text(value: Any) -> str | None:
    return " ".join(value.split())[:MOST] or None if isinstance(value, str) else None
