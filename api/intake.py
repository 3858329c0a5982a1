"""Takes in what sources send that cannot be told to send it better: never atomic, nothing lost.

What can be stored is stored; what cannot is noted by path as `rejected_input`. Events of one act, and two
sources' reports of one act, become one action: what came too late for that corrects the action's label.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from api.ingest import labelling, naming, remembered
from api.ingest.acts import Act, Seen
from api.ingest.labelling import Group
from api.ingest.native import OutsideEvent, ParsedBatch
from api.ingest.remembered import Known
from api.jobs import RelabelJob
from domain import events
from domain.config_labels import Labels
from domain.envelope import OUTSIDE
from domain.errors import Unavailable
from eventstore import reader

if TYPE_CHECKING:
    from api.book import Book
    from api.service import Service

LOADED = 20  # sessions of one request that are read to see what other sources said of them


class Taken(NamedTuple):
    """What became of a request of a source."""

    accepted: int
    duplicates: int
    merged: int  # further events of acts that were stored
    ignored: int  # left out by rules, or of no interest
    rejected: int


@dataclass(slots=True)
class _Plan:
    """What is to be done with a request."""

    store: list[OutsideEvent] = field(default_factory=list)
    entered: list[tuple[str, Known]] = field(default_factory=list)  # session, act that is new
    leaning: list[Known] = field(default_factory=list)  # acts that events went to
    corrections: list[tuple[str, Known, events.ActionRelabelled]] = field(default_factory=list)
    merged: int = 0
    again: int = 0  # events of known acts, sent once more


async def take(
    service: Service, product: str, seen: Sequence[Seen], rejected: Sequence[tuple[str, str]] = ()
) -> Taken:
    """Label, merge and record what a source saw; note what it sent wrongly, as (path, detail).

    Raises Unavailable where it could not be stored: to be sent again.
    """
    book = await service.product(product)
    labels = book.rules.config.labels
    if rejected:
        await service.reject(product, rejected)
    made = service.clock.new_id
    named = [item if item.event_id is not None else item._replace(event_id=made()) for item in seen]
    plan = _Plan()
    fresh = _fresh(service, product, named, plan)
    labelled = labelling.outside(fresh, labels)
    if await _look(service, book, labelled.groups):
        plan = _Plan()  # other requests came in between
        fresh = _fresh(service, product, named, plan)
        labelled = labelling.outside(fresh, labels)
    _decide(service, product, labelled.groups, labels, plan)
    accepted, duplicates = await _carry_out(service, product, plan)
    return Taken(
        accepted,
        duplicates + plan.again + labelled.repeated,
        labelled.merged + plan.merged,
        labelled.ignored,
        len(rejected),
    )


def _fresh(service: Service, product: str, named: Sequence[Seen], plan: _Plan) -> list[Seen]:
    """What is not part of an act that is remembered: such an event comes again."""
    fresh: list[Seen] = []
    for item in named:
        known: Known | None = None
        if item.session_id is not None and isinstance(item.what, Act):
            listed = service.acts.of(product, item.session_id)
            known = remembered.holder(listed, str(item.event_id))
        if known is None or (known.action is None and known.event_id == item.event_id):
            fresh.append(item)
        else:
            plan.again += 1
            plan.leaning.append(known)
    return fresh


async def _look(service: Service, book: Book, groups: Sequence[Group]) -> bool:
    """Remember actions of other sources that these groups may be reports of. Whether time went by for it."""
    waited = False
    names = {group.event.session_id for group in groups if group.traces}
    wanted: dict[str, tuple[str, events.Action, int, str]] = {}  # session, what is alike, when, by whom
    for group in groups:
        event, session_id = group.event.event, group.event.session_id
        if not group.traces or session_id is None or not isinstance(event, events.Action):
            continue
        if event.type not in remembered.REPORTED_TWICE or event.canonical_url is None:
            continue
        live = book.sessions.get(session_id)
        if live is None and len(names) <= LOADED:
            live = await service.recorder.session(book.product, session_id)
            waited = True
        if live is None:
            continue
        history, at = live.state.actions, group.event.occurred_at
        for place in range(history.since(at - remembered.SAME), history.until(at + remembered.SAME)):
            action = history[place]
            if (action.type, action.url) == (event.type, event.canonical_url):
                wanted[action.event_id] = session_id, event, action.occurred_at, group.event.source
    for event_id, (session_id, *_) in list(wanted.items()):
        if remembered.holder(service.acts.of(book.product, session_id), event_id) is not None:
            del wanted[event_id]
    if not wanted:
        return waited
    async with service.ledger.reader() as conn:
        rows = await reader.find_ids(conn, book.product, OUTSIDE, list(wanted))
    for event_id, row in sorted(rows.items()):
        session_id, alike, at, source = wanted[event_id]
        if row.source == source:
            continue
        listed = service.acts.of(book.product, session_id)
        if remembered.holder(listed, event_id) is None:
            known = Known(event_id, row.source, alike.type, alike.canonical_url, at)
            service.acts.enter(book.product, session_id, known)
    return True


def _decide(service: Service, product: str, groups: Sequence[Group], labels: Labels, plan: _Plan) -> None:
    """Say of every group where it goes, and enter what is new. No await: no two requests are both first."""
    for group in groups:
        item = group.event
        if not group.traces or item.session_id is None or not isinstance(item.event, events.Action):
            plan.store.append(item)
            continue
        listed = service.acts.of(product, item.session_id)
        known = remembered.part_of(listed, group)
        if known is not None:
            _correct(plan, item.session_id, known, group, labels)
        else:
            known = remembered.reported(listed, group)
        if known is not None:
            plan.merged += 1
            plan.leaning.append(known)
            known.take(group)
            continue
        plan.store.append(item)
        if item.event.type in remembered.REPORTED_TWICE:
            new = remembered.known(group, asyncio.get_running_loop().create_future())
            plan.entered.append((item.session_id, new))
            service.acts.enter(product, item.session_id, new)


def _correct(plan: _Plan, session_id: str, known: Known, group: Group, labels: Labels) -> None:
    """Give the stored action the label that the whole act deserves, where that is another."""
    action, more = known.action, group.event.event
    assert action is not None
    assert isinstance(more, events.Action)
    kind = labelling.kind_after([action.type, more.type])
    telling = labelling.telling(group.worth, group.named_by) > labelling.telling(known.worth, known.named_by)
    title = more.title if telling else action.title
    if (kind, title) == (action.type, action.title):
        return
    where = labelling.page_name(action.canonical_url, labels) if action.canonical_url else None
    description = naming.describe(kind, title, where)
    known.type, known.action = kind, replace(action, type=kind, title=title, description=description)
    if telling:
        known.worth, known.named_by = group.worth, group.named_by
    correction = events.ActionRelabelled(
        known.event_id,
        labelling.labeller(known.source, labels),
        type=kind if kind != action.type else None,
        title=title if title != action.title else None,
        description=description,
        merged=tuple(trace.event_id for trace in group.traces),
    )
    plan.corrections.append((session_id, known, correction))


async def _carry_out(service: Service, product: str, plan: _Plan) -> tuple[int, int]:
    """(accepted, duplicates), once all that the request's events became part of is durable."""
    accepted = duplicates = 0
    stored = False
    try:
        if plan.store:
            receipt = await service.record(product, ParsedBatch(plan.store, [], False))
            accepted, duplicates = receipt.accepted, receipt.duplicates
        stored = True
    finally:
        for session_id, known in plan.entered:
            if not stored:
                service.acts.forget(product, session_id, known)
            known.settle(stored)
    for known in plan.leaning:
        if known.stored is not None and not await asyncio.shield(known.stored):
            raise Unavailable("what this belongs to was not stored: to be sent again")
    for session_id, known, correction in plan.corrections:
        job = RelabelJob(product, service.clock.new_id(), session_id=session_id, corrections=[correction])
        try:
            await service.recorder.submit(job)
        except BaseException:
            service.acts.forget(product, session_id, known)
            raise
    return accepted, duplicates
