"""When a session is to be looked at next, under the rules in force now.

The column `next_due` is a to-do and no history: no event tells it. So a rebuild asks the rules, as the
service does after a config put; it concludes nothing, and names no instant that has passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import PRODUCT_STREAM, name_in, session_stream
from domain.instants import DAY
from domain.run import Live, Missing, Turn, World
from domain.session import SessionState
from domain.triggers import Ruleset
from domain.user import UserState
from domain.view import Predicates
from eventstore import reader
from projections import configs, facts, tables
from projections.rebuilding.refill import Key

KEPT = 1_000  # folded streams of a product kept at once
RECENT = DAY  # for how long after its last event the rules are asked about a session without a to-do


class Arming:
    """Instants after `now` at which sessions are to be looked at; each worked out once."""

    def __init__(self, now: int, predicates: Predicates) -> None:
        self._now, self._predicates = now, predicates
        self._known: dict[Key, int | None] = {}
        self._products: dict[str, _Product] = {}

    def forget(self, moved: Iterable[Key]) -> None:
        """These sessions have moved on, and so perhaps have streams of their users."""
        self._products.clear()
        for key in moved:
            self._known.pop(key, None)

    async def due(self, conn: AsyncConnection, key: Key, live: Mapping[str, Any] | None = None) -> int | None:
        """The next instant of the session (product, id), whose row is derived anew already.

        `live`: its row as it stands. An instant there that has passed stays: the service has not looked yet,
        and still will.
        """
        overdue = live["next_due"] if live is not None else None
        if overdue is not None and overdue <= self._now:
            return int(overdue)
        if key not in self._known:
            self._known[key] = await self._due(conn, key)
        return self._known[key]

    async def _due(self, conn: AsyncConnection, key: Key) -> int | None:
        product, session_id = key
        live, anew = tables.sessions, tables.rebuilt_sessions
        mine, newly = [(t.c.product == product) & (t.c.session_id == session_id) for t in (live, anew)]
        armed = await conn.scalar(sa.select(live.c.next_due).where(mine))
        query = sa.select(anew.c.last_event_at, anew.c.next_due).where(newly)
        row = (await conn.execute(query)).one_or_none()
        if row is None:
            return None  # the session itself goes
        last_event_at, timeout = row
        if armed is None and last_event_at < self._now - RECENT:
            return timeout if timeout is not None and timeout > self._now else None
        if product not in self._products:
            rows = await reader.read_stream(conn, product, PRODUCT_STREAM)
            rules = configs.ruleset(product, configs.fold(rows).current, self._predicates)
            self._products[product] = _Product(product, rules)
        return await self._products[product].due(conn, session_id, self._now)


class _Product:
    """One product's rules and folded streams, as the ledger holds them."""

    def __init__(self, product: str, rules: Ruleset) -> None:
        self._product, self._rules = product, rules
        self._sessions: dict[str, Live] = {}
        self._users: dict[str, UserState] = {}

    async def due(self, conn: AsyncConnection, session_id: str, now: int) -> int | None:
        if len(self._sessions) + len(self._users) > KEPT:
            self._sessions.clear()
            self._users.clear()
        if session_id not in self._sessions:
            await self._load(conn, session_stream(session_id))
        at = max(now, self._sessions[session_id].state.at)  # no rule is asked about before the newest event
        while True:
            world = World(self._sessions, self._users)
            try:
                Turn(self._product, self._rules, world, at).rearm(session_id, at)
            except Missing as missing:
                await self._load(conn, missing.stream)
                continue
            live = world.changed_sessions[session_id]
            instants = (live.state.timeout_due, live.next_evaluation)
            return min((each for each in instants if each is not None and each > now), default=None)

    async def _load(self, conn: AsyncConnection, stream: str) -> None:
        rows = await reader.read_stream(conn, self._product, stream)
        name = name_in(stream)
        if stream == session_stream(name):
            keys = await facts.keys_of(conn, rows) if self._rules.reads_properties else None
            self._sessions[name] = Live(facts.folded_session(SessionState(name), rows, keys)[0])
        else:
            self._users[name] = facts.folded_user(UserState(name), rows)[0]
