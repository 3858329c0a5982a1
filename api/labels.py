"""Labels that were wrong, made again from what was kept of the sources' own bodies.

A correction is an event in the session's stream, behind everything that was decided on the old label: those
decisions keep what they saw, and replay comes to the same. Nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.ingest import amplitude, cloud, fullstory, labelling, posthog, segment
from api.ingest.acts import Act
from api.jobs import RelabelJob
from api.recorder import Recorder
from domain import codec, events
from domain.config_labels import Labels
from domain.envelope import PRODUCT_STREAM, Recorded, name_in, session_stream
from domain.session import Label
from eventstore import reader, statements
from projections import configs, facts

PAGE = 1_000
JOB = 200  # corrections that one job stores

# Sources whose bodies are turned into labels here: what makes the act of a stored action again. An event that
# came by CloudEvents may name any source.
SOURCES: Mapping[str, Callable[[events.Action], Act | None]] = {
    posthog.SOURCE: posthog.act_again,
    posthog.WEBHOOK: posthog.act_again,
    segment.SOURCE: segment.act_again,
    segment.RUDDERSTACK: segment.act_again,
    amplitude.SOURCE: amplitude.act_again,
    fullstory.SOURCE: fullstory.act_again,
    cloud.SOURCE: cloud.act_again,
}


class Change(NamedTuple):
    """An action that this version labels otherwise."""

    session_id: str
    version: int
    before: Label
    after: Label
    correction: events.ActionRelabelled


@dataclass(slots=True)
class Looked:
    """What was looked at, apart from the changes."""

    actions: int = 0  # of sources that are labelled here
    without_body: int = 0  # recorded before bodies were kept
    erased: int = 0  # their key is gone


async def changes(
    conn: AsyncConnection,
    product: str,
    looked: Looked,
    session_id: str | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> AsyncIterator[Change]:
    """Every action whose label would be another now, corrections that were made before taken in."""
    labels = await _rules(conn, product)
    corrected = await _corrections(conn, product)
    async for page in _pages(conn, product, session_id):
        labelled = [row for row in page if _is_labelled(row)]
        keys = await facts.keys_of(conn, labelled)
        for row in labelled:
            looked.actions += 1
            if row.key_id is not None and row.key_id not in keys:
                looked.erased += 1
                continue
            recorded = facts.fact(row, keys).event
            assert isinstance(recorded, events.Action)
            act = SOURCES.get(row.source, cloud.act_again)(recorded)
            if act is None:
                looked.without_body += 1
                continue
            before, again = label_of(recorded), label_of(labelling.again(act, recorded, labels, row.source))
            for correction in corrected.get(row.event_id, ()):
                before = before.corrected(correction)
                if correction.merged:  # it says what later events of the act made of it
                    again = again.corrected(correction)
            if (change := _change(row, before, again, labels)) is not None:
                yield change
        on_progress(page[-1].product_seq if session_id is None else page[-1].version)


async def apply(recorder: Recorder, clock: Clock, product: str, wanted: Iterable[Change]) -> int:
    """Append the corrections that are still needed; how many those were."""
    by_session: dict[str, list[events.ActionRelabelled]] = {}
    for change in wanted:
        by_session.setdefault(change.session_id, []).append(change.correction)
    count = 0
    for session_id, corrections in by_session.items():
        for start in range(0, len(corrections), JOB):
            part = corrections[start : start + JOB]
            job = RelabelJob(product, clock.new_id(), session_id=session_id, corrections=part)
            (outcome,) = await recorder.submit(job)
            count += sum(isinstance(w.event, events.ActionRelabelled) for w in outcome.written)
    return count


def label_of(action: events.Action) -> Label:
    return Label(action.type, action.title, action.description, action.canonical_url)


def _is_labelled(row: Recorded) -> bool:
    return row.type == events.Action.TYPE and (row.source in SOURCES or b'"labeller"' in row.data)


def _change(row: Recorded, before: Label, after: Label, labels: Labels) -> Change | None:
    # A correction can replace a URL, not take it away.
    after = after._replace(url=after.url or before.url)
    if after == before:
        return None
    correction = events.ActionRelabelled(
        action_id=row.event_id,
        labeller=labelling.labeller(row.source, labels),
        type=after.type if after.type != before.type else None,
        title=after.title if after.title != before.title else None,
        description=after.description if after.description != before.description else None,
        canonical_url=after.url if after.url != before.url else None,
    )
    return Change(name_in(row.stream), row.version, before, after, correction)


async def _rules(conn: AsyncConnection, product: str) -> Labels:
    """The rules of the config in force."""
    state = configs.fold(await reader.read_stream(conn, product, PRODUCT_STREAM))
    return configs.ruleset(product, state.current).config.labels


async def _corrections(conn: AsyncConnection, product: str) -> dict[str, list[events.ActionRelabelled]]:
    """Corrections that were made before, in their order, by the action that they correct."""
    rows = await statements.fetch(
        conn,
        "SELECT schema_version, data FROM events WHERE product = $1 AND type = $2 ORDER BY product_seq",
        product,
        events.ActionRelabelled.TYPE,
    )
    found: dict[str, list[events.ActionRelabelled]] = {}
    for version, raw in rows:
        made = codec.decode(events.ActionRelabelled.TYPE, version, orjson.loads(raw), None)
        assert isinstance(made, events.ActionRelabelled)
        found.setdefault(made.action_id, []).append(made)
    return found


async def _pages(
    conn: AsyncConnection, product: str, session_id: str | None
) -> AsyncIterator[list[Recorded]]:
    """The product's events, or one session's, page by page."""
    after = 0
    while True:
        if session_id is None:
            page = await reader.read_product(conn, product, after_seq=after, limit=PAGE)
        else:
            stream = session_stream(session_id)
            page = await reader.read_stream(conn, product, stream, after_version=after, limit=PAGE)
        if not page:
            return
        yield page
        after = page[-1].product_seq if session_id is None else page[-1].version
