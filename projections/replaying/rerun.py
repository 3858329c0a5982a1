"""Turns executed again, on states that come from the record.

The turn is the service's own (`domain.run`); only what it stands on is loaded as of a position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import cast

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import OUTSIDE
from domain.finding import Finding
from domain.run import Incoming, Live, Missing, Transition, Turn, World
from domain.triggers import Ruleset
from projections import facts
from projections.replaying.rulebook import Rulebook
from projections.replaying.states import Keyring, States
from projections.replaying.units import Row

Act = Callable[[Turn], None]


class Rerun:
    """One product's states up to `states.before`, and turns on top of them."""

    def __init__(self, conn: AsyncConnection, product: str, rulebook: Rulebook, begin: int) -> None:
        self._conn, self.product, self.rulebook = conn, product, rulebook
        self._keyring = Keyring(conn, wanted=rulebook.reads_properties)
        self.states = States(conn, product, self._keyring, before=begin, from_start=begin == 1)

    async def run(
        self,
        act: Act,
        rules: Ruleset,
        now: int,
        live: Live | None = None,
        *,
        served: Mapping[str, Finding] | None = None,
        evaluates: bool = True,
        states: States | None = None,
    ) -> Turn:
        """What `act` makes a fresh turn do at `now`; nothing of it goes into the states.

        `live`: the session as the turn finds it. `served`: what predicates found; `rulebook.asked` says
        whether more was asked for.
        """
        states = states or self.states
        while True:
            world = World(states.sessions, states.users)
            if live is not None:
                world.changed_sessions[live.state.session_id] = live
            turn = Turn(self.product, rules, world, now)
            turn.evaluates = evaluates
            self.rulebook.served, self.rulebook.asked = served or {}, False
            try:
                act(turn)
            except Missing as missing:
                await states.load(missing.stream)
            else:
                return turn

    async def as_of(
        self, act: Act, rules: Ruleset, instant: int, live: Live, *, until: int | None = None
    ) -> Turn:
        """The same with everything but `live` as it was recorded by that instant, or by `until`."""
        known = States(
            self._conn,
            self.product,
            self._keyring,
            before=self.states.before,
            until=instant if until is None else until,
        )
        return await self.run(act, rules, instant, live, states=known)

    async def incoming(self, rows: Sequence[Row]) -> list[Incoming]:
        """The outside events of a batch. What the service added on storing them it adds again."""
        keys = await self._keyring.of(rows)
        found = []
        for row in rows:
            if row.origin != OUTSIDE:
                continue
            self.states.note_erased(row, keys)
            found.append(facts.fact(row, keys))
        return cast("list[Incoming]", found)

    def adopt(self, turn: Turn) -> None:
        """Take in what the turn left, where the record says exactly the same."""
        for name, live in turn.world.changed_sessions.items():
            self.states.sessions.put(name, Live(live.state))
        for name, who in turn.world.changed_users.items():
            self.states.users.put(name, who)

    async def apply(self, rows: Sequence[Row]) -> list[Transition]:
        """Take in what was recorded; the machine's transitions by it."""
        moves: list[Transition] = []
        for stream, run in groupby(rows, key=lambda row: row.stream):
            kind, _, name = stream.partition("-")
            if kind != "session":
                await self.states.apply(list(run))
                continue
            for row in run:
                before = (await self.states.session(name)).current_state
                await self.states.apply([row])
                after = (await self.states.session(name)).current_state
                if after != before:
                    moves.append(Transition(row.at, name, before, after, row.type))
        return moves
