"""What can be asked of the recorder: a batch of facts, a due timer, events of the service's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from api.ingest.native import OutsideEvent
from domain import canonical, codec, events
from domain.config_labels import Pattern
from domain.decide import draft
from domain.envelope import PRODUCT_STREAM, Recorded, derived_id, session_stream, user_stream
from domain.run import ADDED, Stored, Turn
from projections import configs
from projections.inline import Written


class Known(NamedTuple):
    """An event that the ledger holds already under an id that came again."""

    row: Recorded
    personal: Mapping[str, Any] | None  # unsealed; None where there is nothing sealed, or no key any more


@dataclass(slots=True)
class Outcome:
    """What became of a job."""

    written: list[Written] = field(default_factory=list)  # all but plain actions, in ledger order
    accepted: int = 0
    duplicates: int = 0
    conflicting: int = 0
    last_position: int = 0
    decided: list[Written] = field(default_factory=list)  # by the events of this job
    earlier: dict[str, Recorded] = field(default_factory=dict)  # by batch: the first duplicate of each
    value: Any = None  # what else the caller asked for


@dataclass(slots=True, eq=False)
class Job:
    """A unit that is stored whole or not at all."""

    product: str
    batch_id: str
    future: asyncio.Future[Outcome] | None = None
    outcome: Outcome = field(default_factory=Outcome)
    needs: set[str] = field(default_factory=set)  # streams that a first run found missing

    def session(self) -> str | None:
        return None

    def users(self) -> Iterable[str]:
        return ()

    def ids(self) -> Sequence[str]:
        """Ids of outside events that the ledger may hold already."""
        return ()

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        """Say what is to be stored, into `turn.stored`. May be run again from the start."""
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class BatchJob(Job):
    """The events of one request for one session, or for one user where they name no session."""

    session_id: str | None = None
    user_id: str | None = None  # of events without a session
    items: Sequence[OutsideEvent] = ()
    made_ids: bool = False  # all ids were made here: none can be known

    def session(self) -> str | None:
        return self.session_id

    def users(self) -> Iterable[str]:
        named = {item.user_id for item in self.items if item.user_id}
        for item in self.items:
            if isinstance(item.event, events.UserIdentified) and item.event.previous_id:
                named.add(item.event.previous_id)
        return named

    def ids(self) -> Sequence[str]:
        return () if self.made_ids else [item.event_id for item in self.items if item.event_id is not None]

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        fresh: list[OutsideEvent] = []
        here: dict[str, OutsideEvent] = {}
        outcome = self.outcome = Outcome()
        for item in self.items:
            assert item.event_id is not None
            before = known.get(item.event_id)
            if before is not None:
                outcome.duplicates += 1
                outcome.last_position = max(outcome.last_position, before.row.position)
                outcome.conflicting += _differs(item, before, self, turn.rules.config.labels.collapse)
                outcome.earlier.setdefault(before.row.batch_id, before.row)
            elif item.event_id in here:
                outcome.duplicates += 1
                first = here[item.event_id]
                outcome.conflicting += (item.event, item.user_id) != (first.event, first.user_id)
            else:
                here[item.event_id] = item
                fresh.append(item)
        outcome.accepted = len(fresh)
        if not fresh:
            return
        if self.session_id is not None:
            turn.record(self.session_id, fresh, turn.now)
        else:
            assert self.user_id is not None
            turn.record_user(self.user_id, fresh, turn.now)


def by_stream(items: Iterable[OutsideEvent]) -> Iterable[tuple[str | None, str | None, list[OutsideEvent]]]:
    """The events of each session, or of each user where they name no session, as first named:
    (session id, user id of events without a session, events)."""
    groups: dict[tuple[str | None, str | None], list[OutsideEvent]] = {}
    for item in items:
        key = (item.session_id, None if item.session_id is not None else item.user_id)
        groups.setdefault(key, []).append(item)
    return [(session_id, user_id, listed) for (session_id, user_id), listed in groups.items()]


@dataclass(slots=True, eq=False)
class BackfillJob(BatchJob):
    """Events of long ago, recorded now as history: nothing is evaluated.

    What they mean for other streams (a merged id, an answered offer) is recorded with them, and so are
    timeouts that came due before, since a stream's instants never decrease.
    """

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        turn.evaluates = False
        BatchJob.run(self, turn, known, product)


def _differs(item: OutsideEvent, known: Known, job: BatchJob, collapse: Sequence[Pattern]) -> bool:
    """Whether the event under this id says something else than the one stored: kind, stream, user or data.

    What the service adds on storing (timings, registry ids) is no part of it; neither are fields that were
    erased since, nor what our own labelling makes of it: its version, the product's rules and the events
    that came with it.
    """
    row = known.row
    stream = session_stream(job.session_id) if job.session_id is not None else user_stream(job.user_id or "")
    if row.type != item.event.TYPE or row.stream != stream:
        return True
    clear, personal = stored_form(item.event, item.user_id)
    before = orjson.loads(row.data)
    for added in ADDED:
        before.pop(added, None)
    was = known.personal
    merged = _is_merged(personal) or _is_merged(was)
    if merged or clear.get("labeller") != before.get("labeller"):
        for label in _LABEL:
            clear.pop(label, None)
            before.pop(label, None)
        less = _ACT if merged else _ACT[:1]
        personal = {name: personal[name] for name in personal if name not in less}
        was = None if was is None else {name: was[name] for name in was if name not in less}
    elif "labeller" in before:
        clear.pop(_END, None)
        before.pop(_END, None)
    elif collapse and "canonical_url" in before:
        before["canonical_url"] = canonical.collapse(before["canonical_url"], collapse)
    if orjson.loads(orjson.dumps(clear)) != before:
        return True
    if row.sealed is not None and was is None:
        return False
    return bool(orjson.loads(orjson.dumps(personal)) != (was or {}))


_END = "timestamp_end"  # says what else was in the request
_LABEL = ("labeller", "type", "title", "description", "canonical_url", _END)
_ACT = ("body", "properties", "raw_url")  # of an act, those of the event that named it


def _is_merged(personal: Mapping[str, Any] | None) -> bool:
    return personal is not None and "merged" in (personal.get("body") or ())


def stored_form(event: events.Event, user_id: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(clear data with the user's id, personal data), as they are stored."""
    clear, personal = codec.encode(event)
    return ({"user_id": user_id, **clear} if user_id else clear), personal


@dataclass(slots=True, eq=False)
class TimerJob(Job):
    """Something of a session came due."""

    session_id: str = ""

    def session(self) -> str | None:
        return self.session_id

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        self.outcome = Outcome()
        turn.timers(self.session_id, turn.now)
        turn.own = len(turn.stored)


@dataclass(slots=True, eq=False)
class RearmJob(Job):
    """The rules changed: when is this session to be looked at next?"""

    session_id: str = ""

    def session(self) -> str | None:
        return self.session_id

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        self.outcome = Outcome()
        turn.timers(self.session_id, turn.now)
        turn.rearm(self.session_id, turn.now)
        turn.own = len(turn.stored)


@dataclass(slots=True, eq=False)
class RelabelJob(Job):
    """Corrections of one session's actions; those that change nothing any more are left out."""

    session_id: str = ""
    corrections: Sequence[events.ActionRelabelled] = ()

    def session(self) -> str | None:
        return self.session_id

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        self.outcome = Outcome()
        turn.correct(self.session_id, self.corrections, turn.now)


@dataclass(slots=True, eq=False)
class NoteJob(Job):
    """Something that the service itself says of a session: a reply, a summary."""

    session_id: str = ""
    event: events.Engine | None = None
    key: str = ""  # what makes its id its own
    user_id: str | None = None  # under whose key its personal fields are sealed

    def session(self) -> str | None:
        return self.session_id

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        self.outcome = Outcome()
        assert self.event is not None
        turn.note(self.session_id, self.event, turn.now, self.key, self.user_id)


@dataclass(slots=True, eq=False)
class JudgeJob(Job):
    """What the judge answered; dropped where its proposal waits no more."""

    session_id: str = ""
    answer: events.JudgeAnswered | None = None

    def session(self) -> str | None:
        return self.session_id

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        self.outcome = Outcome()
        assert self.answer is not None
        turn.judged(self.session_id, self.answer, turn.now)


@dataclass(slots=True, eq=False)
class EngineJob(Job):
    """Facts of the service itself: deliveries, rejected input, the engine's version."""

    facts: Sequence[tuple[str, events.Engine, str]] = ()  # stream, event, what makes its id its own

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        self.outcome = Outcome()
        for stream, event, key in self.facts:
            made = draft(self.product, stream, event, turn.now, None, key)
            turn.stored.append(Stored(stream, made.event_id, event, turn.now, None, None, None))


@dataclass(slots=True, eq=False)
class ConfigJob(Job):
    """Activate a config, unless it is the one in force."""

    config: Any = None
    digest: str = ""

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        self.outcome = Outcome()
        current = product.current
        if current is not None and current.revision.endswith(f"-{self.digest}"):
            self.outcome.value = current.revision
            return
        revision = f"r{len(product.revisions) + 1}-{self.digest}"
        activated = events.ConfigActivated(revision, self.config)
        event_id = derived_id(turn.now, self.product, PRODUCT_STREAM, activated.TYPE, revision)
        turn.stored.append(Stored(PRODUCT_STREAM, event_id, activated, turn.now, None, None, None))
        self.outcome.value = revision
