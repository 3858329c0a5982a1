"""A job that was decided, as rows for the ledger; and what became of a group of them there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from api import jobs
from api.book import Book
from api.ingest.native import OutsideEvent
from api.jobs import Job
from domain import events
from domain.envelope import ENGINE, OUTSIDE, NewEvent, Recorded, derived_id
from domain.run import Live, Stored, Turn, World
from eventstore import chain, keys
from eventstore.appender import ANY, Appended, Unit
from projections.inline import Written
from projections.poison import Poisoned


class Prepared:
    """A job that was decided: what it wants stored, and what it read."""

    __slots__ = ("book", "hashes", "job", "lacks", "rows", "stored", "turn", "world")

    def __init__(self, job: Job, book: Book, world: World, turn: Turn) -> None:
        self.job, self.book, self.world, self.turn = job, book, world, turn
        self.stored: Sequence[Stored] = turn.stored
        self.rows: list[NewEvent] = []
        self.hashes: list[bytes] = []
        self.lacks: set[str] = set()  # persons without whose data keys the rows cannot be made

    def build(self, data_keys: Mapping[tuple[str, str], keys.DataKey], engine_version: str) -> None:
        """Make the rows, sealed, with their content hashes; or say which keys they lack."""
        rows: list[NewEvent] = []
        self.lacks = set()
        product, revision, turn = self.job.product, self.book.rules.revision, self.turn
        for index, stored in enumerate(self.stored):
            clear, personal = jobs.stored_form(stored.event, stored.user_id)
            sealed = key_id = None
            if personal:
                person = f"user-{stored.user_id}" if stored.user_id else stored.stream
                key = data_keys.get((product, person))
                if key is None:
                    self.lacks.add(person)
                    continue
                key_id = key.key_id
                sealed = keys.seal(key.key, orjson.dumps(personal), keys.binding(product, stored.event_id))
            # What came due before the batch is an evaluation of its own.
            batch_id = self.job.batch_id if index >= turn.own else _timer_batch(product, stored)
            tail = (revision, engine_version, orjson.dumps(clear), sealed, key_id)
            rows.append(_row(product, batch_id, stored, turn.now, tail))
        if not self.lacks:
            self.rows = rows
            self.hashes = [chain.content_hash(row) for row in rows]

    def take(self, recorded: Sequence[Recorded]) -> None:
        """The store has given the rows their places."""
        outcome = self.job.outcome
        outcome.last_position = recorded[-1].position
        outcome.written, outcome.decided = [], []
        for index, (row, stored) in enumerate(zip(recorded, self.stored, strict=True)):
            event = stored.event
            if type(event) is events.Action:  # most are, and nobody waits for one
                continue
            written = Written(row, event)
            outcome.written.append(written)
            if index >= self.turn.own and isinstance(event, (events.NudgeOffered, events.NudgeWithheld)):
                outcome.decided.append(written)


class Placed(NamedTuple):
    """What became of a group's jobs in the ledger."""

    refused: list[Prepared]
    written: list[Written]
    lives: list[tuple[str, Live]]  # product and session
    first: int  # positions; 0: none
    last: int
    poisoned: list[Poisoned]  # facts that are stored, though a fold failed over them


def units(prepared: Sequence[Prepared]) -> list[Unit]:
    return [
        Unit(item.job.product, _expected(item), item.rows, item.hashes) for item in prepared if item.stored
    ]


def placed(prepared: Sequence[Prepared], answers: Iterable[Appended]) -> Placed:
    """Give each job its rows, or set it aside."""
    appended = iter(answers)
    refused: list[Prepared] = []
    written: list[Written] = []
    lives: dict[tuple[str, str], Live] = {}
    poisoned: list[Poisoned] = []
    first = last = 0
    for item in prepared:
        recorded = next(appended).recorded if item.stored else ()
        if recorded is None or (refused and not item.stored):
            # Without events there is nothing to refuse, but it may rest on what was.
            refused.append(item)
            continue
        if recorded:
            item.take(recorded)
            poisoned += [
                Poisoned(each.fold, item.job.product, each.stream, each.version, each.error)
                for each in item.turn.unapplied
            ]
            written += item.job.outcome.written
            first, last = first or recorded[0].position, recorded[-1].position
        for session_id, live in item.world.changed_sessions.items():
            lives[item.job.product, session_id] = live
    listed = [(product, live) for (product, _), live in lives.items()]
    return Placed(refused, written, listed, first, last, poisoned)


def _row(
    product: str,
    batch_id: str,
    stored: Stored,
    now: int,
    tail: tuple[Any, str, bytes, bytes | None, str | None],
) -> NewEvent:
    """`tail`: config revision, engine version, data, sealed, key id."""
    at, event, incoming = stored.at, stored.event, stored.incoming
    head = (
        product,
        stored.stream,
        event.TYPE,
        event.VERSION,
        ENGINE if incoming is None else OUTSIDE,
        stored.event_id,
        at,
        now if now > at else at,
    )
    if not isinstance(incoming, OutsideEvent):
        return NewEvent(*head, at, None, None, False, batch_id, None, stored.cause, "engine", *tail)
    return NewEvent(
        *head,
        min(incoming.occurred_at, at),
        incoming.occurred_raw,
        incoming.sent_raw,
        incoming.clock_suspect,
        batch_id,
        incoming.correlation_id,
        stored.cause,
        incoming.source,
        *tail,
    )


def _timer_batch(product: str, stored: Stored) -> str:
    return derived_id(stored.at, product, stored.stream, "timer", str(stored.at))


def _expected(item: Prepared) -> dict[str, int]:
    expected = dict(item.world.read)
    for stored in item.stored:
        expected.setdefault(stored.stream, ANY)
    return expected
