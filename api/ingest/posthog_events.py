"""One event of PostHog's SDKs, and of its stock webhook: what the user did, when, and who it was.

An act is a function of what is stored of it (`act`): so a label can be made anew from the ledger alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import orjson

from api.ingest import clock, elements, strict
from api.ingest.acts import Act, Seen
from api.ingest.arrivals import Arrival
from api.ingest.elements import Element
from api.ingest.fields import MAX_ID, Data, optional_identifier
from domain import envelope, events
from domain.errors import Fault
from domain.instants import DAY

SOURCE = "posthog"
MAX_URL = 4096
MAX_TEXT = 2_000  # characters of one text that is kept
MAX_KEYS = 100  # properties that are kept of one event
MAX_NESTED = 8_192  # bytes of a property that is a list or an object
MAX_OFFSET_MS = 30 * 24 * 3600 * 1000

# Of the SDKs' own events. `$rageclick` and `$dead_click` come beside the clicks that they are about: counted
# as well, one click would be two.
ACTS = frozenset(("$pageview", "$pageleave", "$autocapture", "$screen"))
PEOPLE = frozenset(("$identify", "$create_alias", "$merge_dangerously", "$set"))

_NOT_PROPERTIES = frozenset(("distinct_id", "token"))
_IN_BODY = {  # of the event's properties, what is kept beside those that rules may ask for: as which name
    "$event_type": "event_type",
    "$el_text": "button_or_link_text",
    "$pageview_id": "pageview_id",
    "$window_id": "window_id",
    "$device_id": "device_id",
    "$lib": "lib",
    "$lib_version": "lib_version",
    "navigation_type": "navigation_type",
}
_PAGE = {"title": "page_title", "$screen_name": "page_title"}
_KINDS = {"touch": "click"}


class Sent(NamedTuple):
    """When the sender's clock says that it sent the request."""

    at: int | None  # µs
    raw: str | None


UNSAID = Sent(None, None)


class Ignored(NamedTuple):
    """Says nothing of what the user did."""

    name: str


def act(
    body: Mapping[str, Any],
    properties: Mapping[str, Any],
    url: str | None,
    chain: Sequence[Element] | None = None,
) -> Act:
    """The act of what is kept of an event: the same again from a stored action.

    `chain`: the chain of the properties, where it was parsed already.
    """
    name = str(body["event"])
    page_title = body.get("page_title")
    if chain is None:
        written = properties.get("elements_chain") if name == "$autocapture" else None
        chain = elements.parse(written) if isinstance(written, str) else ()
    kind, own = "custom", None
    if name in ("$pageview", "$screen"):
        kind = "pageview"
    elif name == "$pageleave":
        kind = "pageleave"
    elif name == "$autocapture":
        kind = str(body.get("event_type") or "click")
        kind = _KINDS.get(kind, kind)
    else:
        own = name
    text = body.get("button_or_link_text")
    return Act(
        kind=kind,
        name=own,
        url=url,
        page_title=page_title,
        chain=chain,
        # The flat destination cuts at a quote that was escaped, and leaves the backslash.
        text=text.rstrip("\\") or None if isinstance(text, str) else None,
        properties=properties,
        body=body,
    )


def read(
    raw: object, path: str, received_at: int, sent: Sent, faults: list[Fault]
) -> Arrival | Ignored | None:
    """What one event says; None after its faults were added. `received_at` is in µs."""
    if type(raw) is not dict:
        faults.append(Fault(path, "must be an object"))
        return None
    known_faults = len(faults)
    properties = raw.get("properties")
    if type(properties) is not dict:
        if properties is not None:
            faults.append(Fault(strict.join(path, "properties"), "must be an object"))
        properties = {}
    name = raw.get("event")
    if type(name) is not str or not name or name.isspace() or len(name) > 200:
        faults.append(Fault(strict.join(path, "event"), "must be a name of 1 to 200 characters"))
        return None
    user_id = _distinct_id(raw, properties, path, faults)
    below = strict.join(path, "properties")
    session_id = optional_identifier(properties, "$session_id", below, faults) if properties else None
    if user_id is None and session_id is None and len(faults) == known_faults:
        faults.append(Fault(strict.join(path, "distinct_id"), "is required"))
    if len(faults) > known_faults:
        return None
    if name.startswith("$") and name not in ACTS and name not in PEOPLE:
        return Ignored(name)
    if name == "$create_alias" and _is_id(properties.get("alias")):
        user_id, properties = properties["alias"], {**properties, "alias": user_id}  # who it was, who it is
    what = _person(name, raw, properties, user_id) if name in PEOPLE else _act(name, raw, properties)
    if what is None:
        return Ignored(name)
    occurred_at, occurred_raw, suspect = _occurred(raw, properties, received_at, sent)
    seen = Seen(
        what,
        _event_id(raw, occurred_raw),
        session_id,
        user_id,
        received_at,
        occurred_at,
        occurred_raw,
        sent.raw,
        suspect,
        SOURCE,
    )
    before = what.previous_id if isinstance(what, events.UserIdentified) else None
    return Arrival(seen, before, in_page=bool(properties.get("$current_url")))


def kept_chain(chain: str) -> tuple[str, Sequence[Element]]:
    """A chain as it is stored, and parsed: without values of fields, and no longer than it is looked at."""
    parsed = elements.parse(chain)
    clean = elements.without_values(parsed)
    return (chain[: elements.MAX_CHARS] if clean is parsed else elements.written(clean)), clean


def own(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that the product itself gave: no names with `$`, nothing that is null or too large."""
    kept: dict[str, Any] = {}
    for key, value in properties.items():
        if value is None or key.startswith("$") or key in _NOT_PROPERTIES or len(key) > MAX_ID:
            continue
        if isinstance(value, str):
            value = value[:MAX_TEXT]
        elif isinstance(value, (dict, list)) and len(orjson.dumps(value)) > MAX_NESTED:
            continue
        kept[key] = value
        if len(kept) == MAX_KEYS:
            break
    return kept


def _act(name: str, raw: Data, properties: Data) -> Act:
    body: dict[str, Any] = {"event": name}
    kept = own(properties)
    wanted = {**_IN_BODY, **_PAGE} if name in ("$pageview", "$screen") else _IN_BODY
    for key, short in wanted.items():
        value = properties.get(key)
        if type(value) is str and value:
            body[short] = value[:MAX_TEXT]
            kept.pop(key, None)
    referrer = properties.get("$referrer")
    if type(referrer) is str and referrer != "$direct":
        kept["referrer"] = referrer[:MAX_URL]
    parsed: Sequence[Element] = ()
    if name == "$autocapture":
        chain, parsed = _chain(raw, properties)
        if chain:
            kept["elements_chain"] = chain
        if elements.in_field(parsed):
            body.pop("button_or_link_text", None)
    url = properties.get("$current_url")
    return act(body, kept, url[:MAX_URL] or None if type(url) is str else None, parsed)


def _chain(raw: Data, properties: Data) -> tuple[str, Sequence[Element]]:
    for holder in (properties.get("$elements_chain"), raw.get("elements_chain")):
        if type(holder) is str and holder:
            return kept_chain(holder)
    listed = elements.without_values(elements.listed(properties.get("$elements")))
    return elements.written(listed), listed


def _person(name: str, raw: Data, properties: Data, user_id: str | None) -> events.UserIdentified | None:
    given: Data = {}
    for holder in (raw.get("$set"), properties.get("$set")):
        if type(holder) is dict:
            given = {**given, **holder}
    if name == "$set":
        # The browser SDK sets properties of nameless people too; they are nobody yet.
        nameless = properties.get("$lib") == "web" and properties.get("$is_identified") is not True
        if nameless or not own(given):
            return None
    previous = {"$identify": properties.get("$anon_distinct_id"), "$set": None}.get(
        name, properties.get("alias")
    )
    traits = own(given)
    email = traits.pop("email", None)
    timezone = traits.get("timezone")
    return events.UserIdentified(
        previous_id=previous if previous != user_id and _is_id(previous) else None,
        email=email if isinstance(email, str) and 0 < len(email) <= 320 else None,
        traits=traits or None,
        timezone=timezone if isinstance(timezone, str) and 0 < len(timezone) <= 100 else None,
    )


def _is_id(value: object) -> bool:
    return value is not None and optional_identifier({"": value}, "", "", []) is not None


def _distinct_id(raw: Data, properties: Data, path: str, faults: list[Fault]) -> str | None:
    for holder, where in ((raw, path), (properties, strict.join(path, "properties"))):
        value = holder.get("distinct_id")
        if value is None or value == "":
            continue
        if type(value) is int:  # hosts of the server SDKs give numbers
            return str(value)
        return optional_identifier(holder, "distinct_id", where, faults)
    return None


def _event_id(raw: Data, occurred_raw: str | None) -> str:
    if _is_id(raw.get("uuid")):
        return str(raw["uuid"])
    at = 0
    if occurred_raw is not None and raw.get("offset") is None:
        with contextlib.suppress(ValueError):
            at = clock.parse(occurred_raw)
    return envelope.derived_id(at, SOURCE, orjson.dumps(raw, option=orjson.OPT_SORT_KEYS).decode())


def _occurred(raw: Data, properties: Data, received_at: int, sent: Sent) -> tuple[int, str | None, bool]:
    """(µs, in the sender's words, whether its clock is suspect).

    Batches of SDKs before 1.408 say how long ago it was; everything else says when, on the sender's clock.
    """
    timestamp = raw.get("timestamp")
    offset = raw.get("offset")
    if timestamp is None and _is_number(offset) and 0 <= offset <= MAX_OFFSET_MS:
        return clock.clamped(received_at - int(offset * 1000), received_at), f"{offset} ms before", False
    if timestamp is None:
        timestamp = properties.get("$time")
    if timestamp is None:
        return received_at, None, False
    words = timestamp[:64] if type(timestamp) is str else repr(timestamp)[:64]
    try:
        occurred = clock.parse(timestamp)
    except ValueError:
        return received_at, words, True  # what happened counts for more than when
    at, _, suspect = clock.corrected(occurred, sent.at, received_at)
    return at, words, suspect


def _is_number(value: object) -> TypeGuard[int | float]:
    return type(value) is int or type(value) is float


def sent_at(value: object, query_ms: str | None) -> Sent:
    """The instant of sending: a body's `sent_at`, else the query's milliseconds. Unreadable is unsaid."""
    if value is not None:
        try:
            return Sent(clock.parse(value), clock.verbatim(value))
        except ValueError:
            return UNSAID
    if query_ms is not None and query_ms.isascii() and query_ms.isdigit() and len(query_ms) <= 15:
        at = int(query_ms) * 1000
        if at < 400 * 365 * DAY:
            return Sent(at, query_ms)
    return UNSAID
