"""Appends events in commit order. Whoever calls holds `Ledger.transaction()`, so nobody else writes.

What falls due to be refused is found by reading before anything is inserted. A unique violation is a defect,
never control flow: on PostgreSQL it would abort every caller of the group.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.envelope import NewEvent, Recorded
from domain.errors import NudgeledgerError
from eventstore import chain, reader, statements
from eventstore.engine import Ledger, translate_errors
from eventstore.shortcut import Shortcut, Statement

ANY = -1  # as an expected version: unchecked
NOTIFY_CHANNEL = "nudgeledger"

_SCAN_LIMIT = 2_000  # more events of others than this are not read: versions and ids are asked for

Key = tuple[str, str]  # (product, stream)
Id = tuple[str, str, str]  # (product, origin, event_id)


class Unit(NamedTuple):
    """What stands or falls together: one request's events, of one product, in several streams perhaps."""

    product: str
    expected: Mapping[str, int]  # stream -> version that must still be current (0: none yet; ANY: unchecked)
    events: Sequence[NewEvent]  # in order; a stream that `expected` does not name counts as ANY
    hashes: Sequence[bytes] | None = None  # content hash of each event, where they were made before the lock


class Appended(NamedTuple):
    recorded: tuple[Recorded, ...] | None  # None: refused, because of a conflict
    conflict: frozenset[Key]  # (product, stream) that moved, or (product, event_id) that came to exist


class Conflict(NudgeledgerError):
    """A stream is not at the version that was expected; nothing was stored."""


@dataclass(slots=True)
class Head:
    """The ledger's end as this process knows it; good while nobody else wrote and nothing was rolled back."""

    position: int
    rollbacks: int  # the ledger's count when this was read
    tails: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # product -> (product_seq, chain_hash)
    types: set[tuple[str, int]] = field(default_factory=set)  # known to be in event_types


class Plan(NamedTuple):
    """An append that was worked out before the lock."""

    after: int
    answers: list[Appended]
    rows: list[Recorded]
    head: Head


class Appender:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._head = Head(-1, -1)
        self._shortcut = (
            Shortcut(ledger.path, ledger.busy_timeout_s, ledger.pragmas) if ledger.path is not None else None
        )

    async def close(self) -> None:
        if self._shortcut is not None:
            await self._shortcut.close()

    async def append(
        self, conn: AsyncConnection, units: Sequence[Unit], *, after: int | None = None
    ) -> list[Appended]:
        """One answer a unit, in order; refused units leave no trace.

        `after`: the caller promises that every exact expected version, and the absence of every event id,
        was true at that position; only what came later is then checked. None: all is checked by query.
        Expected versions count the events of earlier units of the same call. Where an earlier unit is
        refused, so is every later one that expects or writes a stream that it would have written.
        Raises ValueError where a unit holds an event id twice or another product's event.
        """
        head = await self._read_head(conn)
        check = _Check(head.position)
        await check.read(conn, units, after)
        answers: list[Appended] = []
        accepted: list[Recorded] = []
        for unit in units:
            conflict = check.conflicts(unit)
            if conflict:
                answers.append(Appended(None, conflict))
                continue
            await self._read_tail(conn, head, unit)
            recorded = check.place(unit, head)
            accepted += recorded
            answers.append(Appended(recorded, frozenset()))
        if accepted:
            await self._insert(conn, head, accepted)
        return answers

    def plan(self, units: Sequence[Unit], *, after: int) -> Plan | None:
        """What `append` would do, where it needs not ask the database: nobody else wrote since `after`, as
        far as is known here, and every version is expected exactly. None on PostgreSQL."""
        known = self._head
        if self._shortcut is None or known.position != after or known.rollbacks != self._ledger.rollbacks:
            return None
        head = Head(known.position, known.rollbacks, dict(known.tails), known.types)
        check = _Check(head.position)
        answers: list[Appended] = []
        rows: list[Recorded] = []
        for unit in units:
            exact = unit.expected.get
            if unit.product not in head.tails or any(
                exact(event.stream, ANY) == ANY or event[2:4] not in head.types for event in unit.events
            ):
                return None
            conflict = check.conflicts(unit)
            recorded = None if conflict else check.place(unit, head)
            answers.append(Appended(recorded, conflict))
            rows += recorded or ()
        return Plan(after, answers, rows, head)

    async def carry_out(self, plan: Plan, more: Sequence[Statement]) -> bool:
        """Commit a plan, with `more` statements of the caller's, in one go; False, with nothing stored, where
        somebody else wrote meanwhile. Raises Unavailable as a transaction does."""
        assert self._shortcut is not None
        try:
            with translate_errors():
                done = await self._shortcut.commit(plan.after, plan.rows, more)
        except BaseException:
            self._ledger.rollbacks += 1
            raise
        if done:
            self._head = plan.head
        return done

    async def _read_head(self, conn: AsyncConnection) -> Head:
        position = await reader.head(conn)
        if self._head.position != position or self._head.rollbacks != self._ledger.rollbacks:
            self._head = Head(position, self._ledger.rollbacks)
        return self._head

    async def _read_tail(self, conn: AsyncConnection, head: Head, unit: Unit) -> None:
        if unit.product in head.tails or not unit.events:
            return
        rows = await statements.fetch(
            conn,
            "SELECT product_seq, chain_hash FROM events WHERE product = $1 ORDER BY product_seq DESC LIMIT 1",
            unit.product,
        )
        head.tails[unit.product] = (rows[0][0], bytes(rows[0][1])) if rows else (0, chain.START)

    async def _insert(self, conn: AsyncConnection, head: Head, rows: list[Recorded]) -> None:
        new_types = {row[5:7] for row in rows} - head.types  # type and schema_version
        for kind, version in sorted(new_types):
            await statements.execute(
                conn,
                "INSERT INTO event_types (type, schema_version) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                kind,
                version,
            )
        head.types |= new_types
        await statements.insert(conn, rows, NOTIFY_CHANNEL)


class _Check:
    """What is known of the streams and ids that the units of one call touch."""

    def __init__(self, position: int) -> None:
        self._position = position
        self._versions: dict[Key, int] = {}  # current, this call's accepted events included
        self._moved: set[Key] = set()  # written by somebody else since `after`
        self._fallen: set[Key] = set()  # would have been written by a unit refused in this call
        self._ids: set[Id] = set()  # exist, this call's accepted events included

    async def read(self, conn: AsyncConnection, units: Sequence[Unit], after: int | None) -> None:
        if after is not None and after > self._position:
            after = None  # a promise about a position that was never committed is none
        trusted = after is not None
        if after is not None and self._position - after > _SCAN_LIMIT:
            trusted = False
        elif after is not None and self._position > after:
            await self._read_others(conn, after)
        asked = {
            (unit.product, stream)
            for unit in units
            for stream in (*unit.expected, *(event.stream for event in unit.events))
            if not trusted or unit.expected.get(stream, ANY) == ANY
        }
        if asked:
            self._versions = await reader.versions(conn, asked)
        if not trusted:
            by_origin: dict[Key, list[str]] = {}
            for unit in units:
                for event in unit.events:
                    by_origin.setdefault((unit.product, event.origin), []).append(event.event_id)
            for (product, origin), ids in by_origin.items():
                found = await reader.find_ids(conn, product, origin, ids)
                self._ids.update((product, origin, event_id) for event_id in found)

    async def _read_others(self, conn: AsyncConnection, after: int) -> None:
        rows = await statements.fetch(
            conn,
            "SELECT product, stream, origin, event_id FROM events WHERE position > $1::bigint",
            after,
        )
        for product, stream, origin, event_id in rows:
            self._moved.add((product, stream))
            self._ids.add((product, origin, event_id))

    def conflicts(self, unit: Unit) -> frozenset[Key]:
        product = unit.product
        found: set[Key] = set()
        for stream, expected in unit.expected.items():
            key = (product, stream)
            if key in self._fallen or (expected != ANY and self._is_not_at(key, expected)):
                found.add(key)
        streams: set[str] = set()
        ids: set[Id] = set()
        for event in unit.events:
            if event.product != product:
                raise ValueError(f"an event of product {event.product} in a unit of {product}")
            streams.add(event.stream)
            identity = (product, event.origin, event.event_id)
            if identity in self._ids:
                found.add((product, event.event_id))
            ids.add(identity)
        if len(ids) != len(unit.events):
            raise ValueError("an event id stands twice in one unit")
        written = {(product, stream) for stream in streams}
        found |= written & self._fallen
        if found:
            self._fallen |= written
        return frozenset(found)

    def _is_not_at(self, key: Key, expected: int) -> bool:
        if key in self._versions:
            return self._versions[key] != expected
        return key in self._moved

    def place(self, unit: Unit, head: Head) -> tuple[Recorded, ...]:
        """Gives an accepted unit's events their places, and moves `head` behind them."""
        if not unit.events:
            return ()
        product = unit.product
        position = head.position
        seq, previous = head.tails[product]
        versions = {stream: self._version(unit, stream) for stream in {e.stream for e in unit.events}}
        recorded: list[Recorded] = []
        hashes = unit.hashes or [chain.content_hash(event) for event in unit.events]
        for event, content in zip(unit.events, hashes, strict=True):
            position += 1
            seq += 1
            stream = event.stream
            versions[stream] = version = versions[stream] + 1
            previous = chain.chain_hash(previous, seq, version, event.recorded_at, content)
            place = (position, product, seq, stream, version, *event[2:], content, previous)
            recorded.append(tuple.__new__(Recorded, place))
            self._ids.add((product, event.origin, event.event_id))
        head.position = position
        head.tails[product] = (seq, previous)
        self._versions.update(((product, stream), version) for stream, version in versions.items())
        return tuple(recorded)

    def _version(self, unit: Unit, stream: str) -> int:
        known = self._versions.get((unit.product, stream))
        return unit.expected[stream] if known is None else known


async def append_events(
    ledger: Ledger, product: str, events: Sequence[NewEvent], expected: Mapping[str, int] | None = None
) -> list[Recorded]:
    """For tests and tools: appends what is not there yet, and returns every event as recorded, in order.

    Idempotent: an id that exists is not appended again, its first recording comes back. Raises Conflict
    where something is left to append and an expected version is not the current one.
    """
    unique = {(event.origin, event.event_id): event for event in reversed(events)}
    async with ledger.transaction() as conn:
        known = await _find(conn, product, unique)
        left = [event for event in dict.fromkeys(events) if (event.origin, event.event_id) not in known]
        left = [event for event in left if unique[event.origin, event.event_id] is event]
        if left:
            (answer,) = await Appender(ledger).append(conn, [Unit(product, expected or {}, left)])
            if answer.recorded is None:
                names = ", ".join(sorted(name for _, name in answer.conflict))
                raise Conflict(f"not at the expected version: {names}")
            known.update(((row.origin, row.event_id), row) for row in answer.recorded)
    return [known[event.origin, event.event_id] for event in events]


async def _find(
    conn: AsyncConnection, product: str, identities: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Recorded]:
    by_origin: dict[str, list[str]] = {}
    for origin, event_id in identities:
        by_origin.setdefault(origin, []).append(event_id)
    found: dict[tuple[str, str], Recorded] = {}
    for origin, ids in by_origin.items():
        rows = await reader.find_ids(conn, product, origin, ids)
        found.update(((origin, event_id), row) for event_id, row in rows.items())
    return found
