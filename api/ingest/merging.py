"""One act of a user that a source reports as several events.

Enter in a search box is a `change` of the box, a `click` on the form's button and a `submit` of the form; a
checkbox is a `click` and a `change`. Events are one act where they come from one source, session and page,
are of different kinds, and are about the same element or form within a second. So a click never merges with
a click: as many as there were, stay.

Pure, and the same whatever the order in which a request names its events. Across requests: `memory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from api.ingest.acts import Act, Seen
from api.ingest.elements import Element
from api.ingest.naming import acting
from domain.instants import SECOND

WITHIN: Final = SECOND  # from the first event of an act to the last
AT_ONCE: Final = SECOND * 30 // 1000  # a browser clicks a form's button itself, and faster than any hand
KINDS: Final = ("change", "click", "submit")  # the later one is the act's type
RANK: Final = {kind: place for place, kind in enumerate(KINDS)}
TELLING: Final = {"change": 1, "submit": 2, "click": 3}  # whose words say best what was done

_BUTTON_ROLES: Final = frozenset(("button", "menuitem", "link"))


class Trace(NamedTuple):
    """What merging compares of an event."""

    at: int
    event_id: str
    kind: str
    source: str
    session_id: str
    page: str | None
    target: int | None = None  # which element; None: nobody said
    form: int | None = None  # which form it is in, or is
    presses: bool = False  # on something that is pressed: a button, a link
    submits: bool = False  # on a button that submits its form


def trace(item: Seen, act: Act, page: str | None) -> Trace | None:
    """None where the event is of no kind that can be part of an act, or nobody knows whose."""
    if item.session_id is None or item.event_id is None:
        return None
    made = Trace(item.occurred_at, item.event_id, act.kind, item.source, item.session_id, page)
    if act.kind not in KINDS or not act.chain:
        return made
    form, target = _places(act.chain)
    pressed = acting(act.chain)
    return made._replace(target=target, form=form, presses=_presses(pressed), submits=_submits(pressed))


def one_act(a: Trace, b: Trace) -> bool:
    """Whether two events of one source, session and page are of one act."""
    first, last = (a, b) if RANK[a.kind] < RANK[b.kind] else (b, a)
    if first.kind == last.kind:
        return False
    passed = last.at - first.at
    if last.kind == "submit":
        if last.form is None or first.form != last.form or not 0 <= passed <= WITHIN:
            return False
        return first.kind == "change" or first.presses
    # A change and a click: of the same element, or Enter in a field, which presses its form's button.
    if first.target is not None and first.target == last.target:
        return 0 <= -passed <= WITHIN
    return first.form is not None and first.form == last.form and last.submits and 0 <= passed <= AT_ONCE


def together(traces: Sequence[Trace]) -> list[list[Trace]]:
    """The events by acts, each act's in the order in which they happened."""
    by_place: dict[tuple[str, str, str | None], list[Trace]] = {}
    acts: list[list[Trace]] = []
    for each in sorted(traces):
        if each.kind in KINDS and each.target is not None:
            by_place.setdefault((each.session_id, each.source, each.page), []).append(each)
        else:
            acts.append([each])
    for listed in by_place.values():
        acts += _grouped(listed) if len(listed) > 1 else [listed]
    return acts


def _grouped(listed: list[Trace]) -> list[list[Trace]]:
    """Changes go to their click, then clicks (with their changes) and lone changes to the submit after."""
    of_kind = {kind: [one for one in listed if one.kind == kind] for kind in KINDS}
    joined: dict[str, list[Trace]] = {one.event_id: [one] for one in listed}
    heads = {one.event_id for one in listed}
    for change in of_kind["change"]:
        _join(change, of_kind["click"], joined, heads)
    for submit in of_kind["submit"]:
        for kind in ("click", "change"):
            if not any(one.kind == kind for one in joined[submit.event_id]):
                _take(submit, of_kind[kind], joined, heads)
    return [sorted(joined[head.event_id]) for head in listed if head.event_id in heads]


def _join(change: Trace, clicks: list[Trace], joined: dict[str, list[Trace]], heads: set[str]) -> None:
    fitting = [c for c in clicks if len(joined[c.event_id]) == 1 and one_act(change, c)]
    if fitting:
        nearest = min(fitting, key=lambda click: (abs(click.at - change.at), click))
        joined[nearest.event_id].append(change)
        heads.discard(change.event_id)


def _take(submit: Trace, others: list[Trace], joined: dict[str, list[Trace]], heads: set[str]) -> None:
    fitting = [o for o in others if o.event_id in heads and one_act(o, submit)]
    if fitting:
        nearest = max(fitting)
        joined[submit.event_id] += joined[nearest.event_id]
        heads.discard(nearest.event_id)


def _places(chain: Sequence[Element]) -> tuple[int | None, int]:
    """(which form, which element): alike for two events in one page exactly where the elements are."""
    form: int | None = None
    path = 0
    for element in reversed(chain):
        get = element.attributes.get
        path = hash((path, element.tag, get("id"), get("name"), get("nth-child"), get("nth-of-type")))
        if element.tag == "form":
            form = path
    return form, path


def _presses(element: Element | None) -> bool:
    if element is None:
        return False
    if element.tag in ("button", "a") or element.attributes.get("role") in _BUTTON_ROLES:
        return True
    return element.tag == "input" and element.attributes.get("type", "").lower() in (
        "submit",
        "image",
        "button",
    )


def _submits(element: Element | None) -> bool:
    if element is None:
        return False
    kind = element.attributes.get("type", "").lower()
    return (
        kind in ("submit", "image")
        if element.tag == "input"
        else element.tag == "button" and kind in ("", "submit")
    )
