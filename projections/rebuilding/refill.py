"""The tables of a rebuild, filled beside the live ones from the ledger's first event to its last.

A batch is read and folded without any lock; its rows and the checkpoint are then written in one short
transaction, so whoever kills this at any point loses one batch at most, and the live writer hardly waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import Recorded, name_in
from domain.errors import NudgeledgerError
from domain.history import History
from domain.run import Live
from domain.session import SessionState
from eventstore import reader, schema, statements, subscription
from eventstore.engine import Ledger
from projections import facts, inline, poison, tables
from projections.code import code_version
from projections.inline import Written
from projections.poison import Poisoned

BATCH = 2_000  # events a transaction
STATES = 20_000  # sessions kept folded; others are read again when they go on
BESIDE = (
    tables.rebuilt_sessions,
    tables.rebuilt_decisions,
    tables.rebuilt_nudges,
    tables.rebuilt_deliveries,
)
PREFIX = "rebuild:"  # of the checkpoint's name; the rest says which code filled the tables

Key = tuple[Any, ...]  # the primary key of a row
Progress = Callable[[str, int, int], None]  # what is being done, how far, of how much


class Overtaken(NudgeledgerError):
    """Another rebuild of this ledger is under way; let it end, or run this again to go on from its batch."""


@dataclass(slots=True)
class Touched:
    """Rows of the projections that some events may have changed."""

    sessions: set[Key] = field(default_factory=set)
    decisions: set[Key] = field(default_factory=set)
    nudges: set[Key] = field(default_factory=set)
    deliveries: set[Key] = field(default_factory=set)
    goals: list[dict[str, Any]] = field(default_factory=list)  # which nudges they touch, the database knows

    def add(self, rows: Iterable[Recorded]) -> None:
        for row in rows:
            if row.stream.startswith("session-"):
                self.sessions.add((row.product, name_in(row.stream)))
        for _, changed in inline.changes(_written(rows, []), ()).writes:
            if "decision_id" in changed:
                self.decisions.add((changed["position"],))
            elif "channel" in changed:
                self.deliveries.add((changed["product"], changed["nudge_id"], changed["channel"]))
            elif "nudge_id" in changed:
                self.nudges.add((changed["product"], changed["nudge_id"]))
            else:
                self.goals.append(changed)

    async def keys(self, conn: AsyncConnection) -> dict[str, set[Key]]:
        """The keys of the touched rows, for each projection."""
        nudges = set(self.nudges)
        for goal in self.goals:
            nudges |= {(goal["product"], name) for name in await inline.nudges_of_goal(conn, goal)}
        deliveries = {key for key in self.deliveries if key[2] is not None}
        for product, nudge_id, channel in self.deliveries:
            if channel is None:  # it was closed: every channel's
                for name in await inline.channels_of(conn, product, nudge_id):
                    deliveries.add((product, nudge_id, name))
        return {
            "sessions": self.sessions,
            "decisions": self.decisions,
            "nudges": nudges,
            "deliveries": deliveries,
        }


class Filler:
    """Fills the tables; `position` is how far they are."""

    def __init__(self, ledger: Ledger, now: int) -> None:
        self._ledger, self._now = ledger, now
        self._name = PREFIX + code_version()
        self._states: dict[tuple[str, str], SessionState] = {}  # in the order of their last use
        self._touched: Touched | None = None
        self.position = 0

    async def begin(self, *, restart: bool = False) -> None:
        """Go on where the same code stopped; anew where it was another code, or where `restart` says so."""
        async with self._ledger.transaction() as conn:
            known = await checkpoints(conn)
            if restart or list(known) != [self._name]:
                await empty(conn)
                await subscription.save_checkpoint(conn, self._name, 0)
                known = {}
        self.position = known.get(self._name, 0)

    async def fill(self, on_progress: Progress) -> None:
        """Batch after batch up to the ledger's head."""
        async with self._ledger.reader() as conn:
            head = await reader.head(conn)
        while await self._step():
            on_progress("events", self.position, max(head, self.position))
        on_progress("events", self.position, self.position)

    async def finish(self, conn: AsyncConnection) -> None:
        """What came since, under the writer's lock, so that nothing follows."""
        while rows := await reader.read_all(conn, after=self.position, limit=BATCH):
            await self._write(conn, rows, await self._derive(conn, rows))

    def watch(self) -> Touched:
        """From now on note which rows the batches touch."""
        self._touched = Touched()
        return self._touched

    async def _step(self) -> bool:
        async with self._ledger.reader() as conn:
            rows = await reader.read_all(conn, after=self.position, limit=BATCH)
            derived = await self._derive(conn, rows)
        if rows:
            async with self._ledger.transaction() as conn:
                await self._write(conn, rows, derived)
        return len(rows) == BATCH

    async def _derive(self, conn: AsyncConnection, rows: Sequence[Recorded]) -> inline.Changes:
        """What these events change, those among it that could not be applied."""
        poisoned: list[Poisoned] = []
        streams: dict[tuple[str, str], list[Recorded]] = {}
        for row in rows:
            if row.stream.startswith("session-"):
                streams.setdefault((row.product, row.stream), []).append(row)
        lives: list[tuple[str, Live]] = []
        for key, own in streams.items():
            before = await self._state(conn, *key, own[0].version - 1)
            state, bad = facts.folded_session(before, own)
            poisoned += bad
            lives.append((key[0], Live(state)))
            self._keep(key, state)
        written = _written(rows, poisoned)
        return inline.changes(written, lives, poisoned)

    async def _write(
        self,
        conn: AsyncConnection,
        rows: Sequence[Recorded],
        changes: inline.Changes,
    ) -> None:
        if await checkpoints(conn) != {self._name: self.position}:
            raise Overtaken(str(Overtaken.__doc__))
        await inline.apply_beside(conn, changes, self._now)
        self.position = rows[-1].position
        await subscription.save_checkpoint(conn, self._name, self.position)
        if self._touched is not None:
            self._touched.add(rows)

    async def _state(self, conn: AsyncConnection, product: str, stream: str, version: int) -> SessionState:
        """The session as of a version; what it had done by then is left out."""
        known = self._states.pop((product, stream), None)
        if known is not None and known.version == version:
            return known
        rows = await reader.read_stream(conn, product, stream, up_to=version) if version else []
        return facts.folded_session(SessionState(name_in(stream)), rows)[0]

    def _keep(self, key: tuple[str, str], state: SessionState) -> None:
        """Without its actions, which move nothing else: memory is bounded whatever sessions hold."""
        self._states[key] = replace(state, actions=History())
        if len(self._states) > STATES:
            del self._states[next(iter(self._states))]


async def checkpoints(conn: AsyncConnection) -> dict[str, int]:
    """How far each rebuild is that was begun: one, or none."""
    rows = await statements.fetch(
        conn, "SELECT name, position FROM checkpoints WHERE name >= $1 AND name < $2", PREFIX, PREFIX + "~"
    )
    return {name: position for name, position in rows}  # noqa: C416  # rows are no pairs to the type checker


async def forget(conn: AsyncConnection) -> None:
    """No rebuild is under way any more; what its tables hold is worth nothing."""
    table = schema.checkpoints
    await conn.execute(sa.delete(table).where(table.c.name >= PREFIX, table.c.name < PREFIX + "~"))


async def empty(conn: AsyncConnection) -> None:
    """Empty the tables and forget how far they were."""
    await forget(conn)
    for table in BESIDE:
        if conn.dialect.name == "postgresql":
            await statements.execute(conn, f"TRUNCATE {table.name}")
        else:
            await conn.execute(sa.delete(table))


def _written(rows: Iterable[Recorded], poisoned: list[Poisoned]) -> list[Written]:
    """The events that make or change rows; those that cannot be read are added to `poisoned`."""
    found: list[Written] = []
    for row in rows:
        projections = inline.TYPES.get(row.type, ())
        if not projections:
            continue
        try:
            found.append(Written(row, facts.fact(row).event))
        except Exception as error:  # whatever it is, it costs this event's rows alone
            poisoned += [poison.poisoned(name, row, error) for name in projections]
    return found
