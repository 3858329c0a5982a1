"""The newest acts of recent sessions, so that one act whose events come in several requests stays one.

SDKs send what waits every few seconds, and webhooks send each event alone; two sources on one page report the
same click. In memory and bounded: after a restart, or where a session did much in between, such events stay
two actions. Nothing here waits: a caller asks and enters in one step, and says later whether it was stored.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from api.ingest import merging
from api.ingest.labelling import Group
from api.ingest.merging import Trace
from api.ingest.native import OutsideEvent
from domain import events
from domain.instants import SECOND

SESSIONS: Final = 5_000
ACTS: Final = 16  # of one session
IDS: Final = 32  # of events merged into one act
SAME: Final = SECOND // 2  # two sources that report one act differ by no more
REPORTED_TWICE: Final = frozenset(
    ("pageview", "pageleave", *merging.KINDS)
)  # not what hosts named themselves


@dataclass(slots=True, eq=False)
class Known:
    """An action that is stored, or is about to be."""

    event_id: str
    source: str
    type: str
    page: str | None
    at: int  # µs
    action: events.Action | None = None  # with its label as corrected; None: another's, not to be corrected
    traces: tuple[Trace, ...] = ()
    worth: int = 0
    named_by: str = ""
    merged: dict[str, None] = field(default_factory=dict)  # ids of events that it stands for
    reporters: set[tuple[str, str]] = field(default_factory=set)  # (other source, kind of its report)
    raw: str | None = None  # when it was, in its source's words
    stored: Future[bool] | None = None  # until somebody knows

    def take(self, group: Group) -> None:
        """A group's events are this act, too. The oldest ids of very many are forgotten."""
        if group.event.source != self.source:
            assert isinstance(group.event.event, events.Action)
            self.reporters.add((group.event.source, group.event.event.type))
        else:
            self.traces += group.traces
        for trace in group.traces:
            self.merged[trace.event_id] = None
        while len(self.merged) > IDS:
            del self.merged[next(iter(self.merged))]

    def settle(self, stored: bool) -> None:
        """Say to whoever waits what became of it."""
        if self.stored is not None and not self.stored.done():
            self.stored.set_result(stored)


class Memory:
    """Of all products."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], list[Known]] = {}

    def of(self, product: str, session_id: str) -> list[Known]:
        """The session's acts, oldest first. The session is one of the recent from here on."""
        key = (product, session_id)
        found = self._sessions.pop(key, None)
        if found is None:
            found = []
            if len(self._sessions) >= SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        self._sessions[key] = found
        return found

    def enter(self, product: str, session_id: str, known: Known) -> None:
        listed = self.of(product, session_id)
        listed.append(known)
        if len(listed) > ACTS:
            del listed[0]

    def forget(self, product: str, session_id: str, known: Known) -> None:
        """It was not stored after all."""
        listed = self._sessions.get((product, session_id), [])
        if known in listed:
            listed.remove(known)


def known(group: Group, stored: Future[bool]) -> Known:
    """An action that is about to be stored."""
    item = group.event
    assert isinstance(item.event, events.Action)
    assert item.event_id is not None
    return Known(
        item.event_id,
        item.source,
        item.event.type,
        item.event.canonical_url,
        item.occurred_at,
        item.event,
        group.traces,
        group.worth,
        group.named_by,
        {trace.event_id: None for trace in group.traces},
        stored=stored,
        raw=item.occurred_raw,
    )


def holder(listed: Iterable[Known], event_id: str) -> Known | None:
    """The act that the event is part of already."""
    return next((one for one in listed if event_id == one.event_id or event_id in one.merged), None)


def part_of(listed: Iterable[Known], group: Group) -> Known | None:
    """The act of the same source that these events are part of; the nearest, where several could be."""
    item = group.event
    mine = [trace for trace in group.traces if trace.target is not None]
    if not mine:
        return None
    kinds = {trace.kind for trace in mine}
    fitting = [
        one
        for one in listed
        if one.source == item.source
        and one.traces
        and one.traces[0].page == mine[0].page
        and kinds.isdisjoint(trace.kind for trace in one.traces)
        and any(_one_act(trace, one.traces) for trace in mine)
    ]
    return min(
        fitting, key=lambda one: (abs(one.at - item.occurred_at), -one.worth, one.event_id), default=None
    )


def _one_act(mine: Trace, others: Iterable[Trace]) -> bool:
    return any(other.target is not None and merging.one_act(other, mine) for other in others)


def reported(listed: Iterable[Known], group: Group) -> Known | None:
    """The act that another source has reported; it stands for one report of each kind from each source."""
    item, action = group.event, group.event.event
    assert isinstance(action, events.Action)
    if action.type not in REPORTED_TWICE or action.canonical_url is None:
        return None
    fitting = [
        one
        for one in listed
        if one.source != item.source
        and (item.source, action.type) not in one.reporters
        and one.page == action.canonical_url
        and _told(one, item, action.type)
    ]
    return min(fitting, key=lambda one: (abs(one.at - item.occurred_at), one.event_id), default=None)


def _told(one: Known, item: OutsideEvent, kind: str) -> bool:
    """Whether the act, or an event that was merged into it, is of this kind and instant."""
    if one.type == kind and one.raw is not None and one.raw == item.occurred_raw:
        return True  # sources may correct one clock by different amounts
    told = [(one.type, one.at), *((trace.kind, trace.at) for trace in one.traces)]
    return any(each == kind and abs(at - item.occurred_at) <= SAME for each, at in told)
