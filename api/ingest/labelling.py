"""One labelling step for all sources: type, title, description, addresses and end of what a user did.

What the rules of a product say of pages and elements comes first. What was typed into a field is neither in a
label nor in what is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from api.ingest import elements, merging, naming, ruling, stripping
from api.ingest.acts import Act, Seen
from api.ingest.merging import Trace
from api.ingest.native import OutsideEvent
from domain import canonical, events
from domain.config_labels import Labels

VERSION = 2  # raise it whenever the same act gets another label
MAX_URL = 4096
RULED = naming.SAID + 1  # the worth of a name that a product's rule gave

_canonical_url = lru_cache(maxsize=4096)(canonical.canonical_url)


class Group(NamedTuple):
    """An action and the events that it was made of."""

    event: OutsideEvent
    traces: tuple[Trace, ...]  # in the order in which they happened; empty where it can be part of no act
    worth: int = 0  # of its name
    named_by: str = ""  # the kind of the event that gave the name


class Labelled(NamedTuple):
    groups: list[Group]  # in the request's order
    merged: int  # further events of acts that are among them
    ignored: int  # left out by the product's own rules
    repeated: int = 0  # acts whose id came before in the same request

    @property
    def events(self) -> list[OutsideEvent]:
        return [group.event for group in self.groups]


class _Read(NamedTuple):
    """An act with its label."""

    item: Seen
    act: Act
    page: str | None  # canonical
    name: naming.Name
    trace: Trace | None


def outside(seen: Sequence[Seen], labels: Labels) -> Labelled:
    """The outside events of one request of one source."""
    reads: dict[int, _Read] = {}
    traces: list[Trace] = []
    places: dict[str, int] = {}  # the first event of each id
    facts: list[int] = []
    ignored = repeated = 0
    for place, item in enumerate(seen):
        act = item.what
        if not isinstance(act, Act):
            facts.append(place)
            continue
        page = address(act.url, labels)
        if ruling.ignored(act, page, labels):
            ignored += 1
            continue
        if item.event_id is not None and places.setdefault(item.event_id, place) != place:
            repeated += 1
            continue
        trace = merging.trace(item, act, page)
        reads[place] = _Read(item, act, page, name_of(act, labels), trace)
        if trace is not None:
            traces.append(trace)
    ends = _ends(read for read in reads.values() if read.trace is not None)
    groups: dict[int, Group] = {place: _fact(seen[place]) for place in facts}
    for members in merging.together(traces):
        at = [places[trace.event_id] for trace in members]
        groups[min(at)] = _grouped([reads[place] for place in at], labels, ends)
    merged = len(traces) - (len(groups) - len(facts))
    for place, read in reads.items():
        if read.trace is None:
            groups[place] = _grouped([read], labels, ends)
    return Labelled([groups[place] for place in sorted(groups)], merged, ignored, repeated)


def action(act: Act, labels: Labels, source: str) -> events.Action:
    """The act with its label."""
    return _action(act, address(act.url, labels), name_of(act, labels), labels, source)


def again(act: Act, stored: events.Action, labels: Labels, source: str) -> events.Action:
    """The label that this version gives to a stored action, by the act that was made of it again."""
    kinds = [act.kind, *_merged_kinds(stored.body)]
    whole = replace(act, kind=kind_after(kinds)) if len(kinds) > 1 else act
    return _action(whole, address(act.url, labels), name_of(act, labels), labels, source)


def _merged_kinds(body: Mapping[str, Any] | None) -> list[str]:
    merged = (body or {}).get("merged")
    rows = merged if isinstance(merged, list) else []
    return [row["kind"] for row in rows if isinstance(row, dict) and row.get("kind") in merging.RANK]


def labeller(source: str, labels: Labels) -> str:
    """The id of this version of the step, with the product's rules."""
    return f"{source}-{VERSION}+{labels.digest}" if labels.digest else f"{source}-{VERSION}"


def address(url: str | None, labels: Labels) -> str | None:
    """The canonical URL under the product's rules; None where it is no address."""
    found = _canonical_url(url[:MAX_URL]) if url else None
    return canonical.collapse(found, labels.collapse) if found and labels.collapse else found


def collapsed(listed: Iterable[OutsideEvent], labels: Labels) -> list[OutsideEvent]:
    """Events that came with labels of their own, under the product's rules for addresses."""
    found: list[OutsideEvent] = []
    for item in listed:
        event = item.event
        if isinstance(event, events.Action) and event.canonical_url is not None:
            page = canonical.collapse(event.canonical_url, labels.collapse)
            if page != event.canonical_url:
                item = item._replace(event=replace(event, canonical_url=page))
        found.append(item)
    return found


def name_of(act: Act, labels: Labels) -> naming.Name:
    """What the act was about, in words, and how much they say."""
    if act.kind in ("pageview", "pageleave"):
        return naming.Name("", naming.SAID)
    if act.kind == "custom" or (act.name and not act.chain and not act.text):
        return naming.Name(naming.clean(act.name or ""), naming.SAID)
    ruled = ruling.element_name(act, labels)
    if ruled is not None:
        return naming.Name(naming.clean(ruled), RULED)
    return naming.of_element(act.chain, act.text, act.kind)


def page_name(page: str | None, labels: Labels, page_title: str | None = None) -> str:
    """What people call a page, by its canonical URL; `page_title` helps only where there is none."""
    return ruling.page_name(page, labels) or naming.of_page(page, page_title)


def kind_after(kinds: Iterable[str]) -> str:
    """The type of an act that several events are: that of the event which ends it."""
    return max(kinds, key=lambda kind: merging.RANK.get(kind, -1))


def _grouped(members: Sequence[_Read], labels: Labels, ends: Mapping[int, int]) -> Group:
    """One action of the events of one act. The first says when and under which id, the most telling what."""
    first, last = members[0], members[-1]
    best = (
        max(members, key=lambda read: telling(read.name.worth, read.act.kind)) if len(members) > 1 else first
    )
    act = best.act
    if len(members) > 1:
        kept = [{"id": read.item.event_id, "kind": read.act.kind} for read in members]
        kind = kind_after(read.act.kind for read in members)
        act = replace(act, kind=kind, body={**act.body, "merged": kept})
    made = _action(act, best.page, best.name, labels, first.item.source)
    made = replace(made, timestamp_end=ends.get(id(last), last.item.occurred_at))
    traces = tuple(read.trace for read in members if read.trace is not None)
    user_id = first.item.user_id or next((r.item.user_id for r in members if r.item.user_id), None)
    event = _event(first.item, made)
    if user_id != event.user_id:
        event = event._replace(user_id=user_id)
    return Group(event, traces, best.name.worth, best.act.kind)


def telling(worth: int, kind: str) -> tuple[int, int]:
    """How well a name says what was done, by its worth and the kind of event it is of."""
    return worth, merging.TELLING.get(kind, 0)


def _action(act: Act, page: str | None, name: naming.Name, labels: Labels, source: str) -> events.Action:
    kind = naming.kind_name(act)
    where = page_name(page, labels, act.page_title)
    title = naming.title_of(act.kind, name.text, where)
    known = page is not None or act.page_title is not None
    element = act.kind not in ("pageview", "pageleave", "custom")
    field = element and (act.kind == "change" or elements.in_field(act.chain))
    properties, body = act.properties, act.body
    return events.Action(
        type=kind,
        title=title,
        description=naming.describe(act.kind, title, where if known else None),
        raw_url=act.url[:MAX_URL] if act.url else None,
        canonical_url=page,
        properties=stripping.stripped(properties, element=element, field=field) or None
        if properties
        else None,
        body=stripping.stripped(body, element=element, field=field) or None if body else None,
        labeller=labeller(source, labels),
    )


def _event(item: Seen, event: events.Outside) -> OutsideEvent:
    return OutsideEvent(item.event_id, event, *item[2:10], item.correlation_id)


def _fact(item: Seen) -> Group:
    assert not isinstance(item.what, Act)
    return Group(_event(item, item.what), ())


def _ends(reads: Iterable[_Read]) -> dict[int, int]:
    """When each act ended, by the identity of its `_Read`, where a later one of its session says so.

    An act ends as the next begins; a pageview as its page is left, or at the next pageview.
    """
    by_session: dict[str, list[_Read]] = {}
    for read in reads:
        if read.item.session_id is not None:
            by_session.setdefault(read.item.session_id, []).append(read)
    ends: dict[int, int] = {}
    for listed in by_session.values():
        if len(listed) == 1:
            continue
        listed.sort(key=lambda read: (read.item.occurred_at, read.item.event_id or ""))
        following: int | None = None
        turned: int | None = None
        for read in reversed(listed):
            at = read.item.occurred_at
            end = following
            if read.act.kind == "pageview" and turned is not None:
                end = turned
            if end is not None:
                ends[id(read)] = end
            following = at
            if read.act.kind in ("pageview", "pageleave"):
                turned = at
    return ends
