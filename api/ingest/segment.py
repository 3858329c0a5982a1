"""Segment's tracking API and its webhook destination; RudderStack speaks the same.

    {"batch": [{"type": "track", "event": "Project Saved", "userId": …, "anonymousId": …, "messageId": …,
      "timestamp": …, "context": {"page": {"url", "title"}}, "properties": {…}}], "sentAt": …, "writeKey": …}

An instant is corrected by how far the sender's clock is from ours: receivedAt - (sentAt - timestamp). What
came through a webhook was corrected already. A session is only known where the sender names one
(`context.sessionId`); `sessionizing` finds the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from api.ingest import amplitude, bodies, clock, fields
from api.ingest.acts import Act, Seen
from api.ingest.arrivals import Arrival, Arrived, person, short, table
from domain import envelope, events
from domain.errors import Fault, InvalidInput

SOURCE, RUDDERSTACK = "segment", "rudderstack"
MAX_EVENTS = 2_500
MAX_BATCH = 500 * 1024  # bytes of a body when it is unpacked
MAX_EVENT = 32 * 1024  # bytes of one event

KINDS = ("track", "page", "screen", "identify", "group", "alias")

# What products name the clicks that some tool captures by itself.
_CAPTURED = {"element clicked": "click", "element changed": "change", "form submitted": "submit"}
_TEXTS = ("text", "label", "element_text", "elementText")
_PAGE = frozenset(("url", "title", "path", "referrer", "search", "name"))  # of a page: told otherwise


class Sent(NamedTuple):
    """What surrounds the events of a body."""

    received_at: int  # µs
    at: int | None  # µs, by the sender's clock; None: instants need no correction
    raw: Any = None
    context: Mapping[str, Any] = {}


def is_body(data: object) -> bool:
    """Whether this is a webhook's body: one event, or a list of them."""
    first = data[0] if type(data) is list and data else data
    return type(first) is dict and first.get("type") in KINDS and "specversion" not in first


def write_key(data: object) -> str | None:
    """The key that a body names, if any."""
    found = data.get("writeKey") if type(data) is dict else None
    return found if type(found) is str and found else None


def translate(data: object, received_at: int, kind: str | None = None) -> Arrived:
    """What an SDK sent: a batch, or a single call, whose kind its path says; `received_at` is in µs.

    Raises InvalidInput for what is neither.
    """
    if type(data) is not dict:
        raise InvalidInput([Fault("", "must be an object")])
    sent = Sent(
        received_at, clock.instant(data, "sentAt", "", []), data.get("sentAt"), table(data.get("context"))
    )
    if kind is not None:
        return _translated([data], "", sent._replace(context={}), kind, None)
    if type(data.get("batch")) is not list:
        detail = "must be a list of events" if "batch" in data else "is required"
        raise InvalidInput([Fault("batch", detail)])
    return _translated(data["batch"], "batch", sent, None, None)


def delivered(data: object, received_at: int, source: str) -> Arrived:
    """What a webhook destination sent: one event, or a list."""
    sent = Sent(received_at, None)
    if type(data) is list:
        return _translated(data, "", sent, None, source)
    return _translated([data], "", sent, None, source)


def _translated(items: list[Any], key: str, sent: Sent, kind: str | None, source: str | None) -> Arrived:
    if not items:
        raise InvalidInput([Fault(key, "holds no events")])
    if len(items) > MAX_EVENTS:
        raise bodies.TooLarge([Fault(key, f"may hold at most {MAX_EVENTS} events")])
    arrived = Arrived()
    for index, item in enumerate(items):
        faults: list[Fault] = []
        path = f"{key}[{index}]" if key or len(items) > 1 else ""
        arrival = _event(item, path, sent, kind, source, faults)
        arrived.take(index, arrival, faults)
    return arrived


def _event(
    raw: object, path: str, sent: Sent, kind: str | None, source: str | None, faults: list[Fault]
) -> Arrival | None:
    if type(raw) is not dict:
        faults.append(Fault(path, "must be an object"))
        return None
    if len(orjson.dumps(raw)) > MAX_EVENT:
        faults.append(Fault(path, f"an event may hold at most {MAX_EVENT} bytes"))
        return None
    kind = kind or fields.choice(raw, "type", path, faults, KINDS, required=True)
    user = person(raw, "userId", path, faults)
    device = person(raw, "anonymousId", path, faults)
    if kind == "alias":
        device = person(raw, "previousId", path, faults) or device
    if user is None and device is None and not faults:
        faults.append(Fault(path, "userId or anonymousId is required"))
    told = "originalTimestamp" if sent.at is not None and raw.get("originalTimestamp") else "timestamp"
    occurred = clock.instant(raw, told, path, faults)
    context = {**sent.context, **table(raw.get("context"))}
    name = ""
    if kind == "track":
        name = fields.text(raw, "event", path, faults, 200)
    if faults or kind is None:
        return None
    source = source or (RUDDERSTACK if _is_rudderstack(raw, context) else SOURCE)
    what: Act | events.Outside | None = None
    if kind in ("identify", "alias"):
        what = _identified(user, device, raw, context)
    elif kind != "group":
        page = table(context.get("page"))
        called = short(raw.get("name") or table(raw.get("properties")).get("name"), 200)
        what = act(kind, name or called or "", page, table(raw.get("properties")))
    if what is None:
        return None
    occurred_at, _, suspect = clock.corrected(occurred, sent.at, sent.received_at)
    seen = Seen(
        what,
        _event_id(raw, kind, occurred, path, faults),
        _session(context, device or user or "", path, faults),
        user or device,
        sent.received_at,
        occurred_at,
        clock.verbatim(raw.get(told)) if occurred is not None else None,
        clock.verbatim(sent.raw) if sent.at is not None else None,
        suspect,
        source,
    )
    in_page = kind in ("page", "screen") or type(context.get("page")) is dict
    return Arrival(seen, device if device != seen.user_id else None, in_page) if not faults else None


def _is_rudderstack(raw: dict[str, Any], context: Mapping[str, Any]) -> bool:
    """Its SDKs say when something happened by another name than Segment's."""
    if "rudderId" in raw or ("originalTimestamp" in raw and "channel" in raw):
        return True
    library = table(context.get("library")).get("name")
    return type(library) is str and library.lower().startswith("rudder")


def _session(context: Mapping[str, Any], owner: str, path: str, faults: list[Fault]) -> str | None:
    """The session that the sender names. A number is a point in time, which two people may share."""
    named = context.get("sessionId")
    if named is None or named == "":
        return None
    if type(named) is int or (type(named) is str and named.isdecimal()):
        named = f"{named}-{owner}"
    found: dict[str, Any] = {"sessionId": named}
    return fields.optional_identifier(found, "sessionId", f"{path}.context".lstrip("."), faults)


def _event_id(
    raw: dict[str, Any], kind: str, occurred: int | None, path: str, faults: list[Fault]
) -> str | None:
    """The sender's `messageId`; without any, what identifies the message, if it says when."""
    if raw.get("messageId") not in (None, ""):
        return fields.optional_identifier(raw, "messageId", path, faults)
    if occurred is None:
        return None
    keys = ("userId", "anonymousId", "event", "name", "properties", "traits", "previousId")
    said = orjson.dumps([raw.get(key) for key in keys], option=orjson.OPT_SORT_KEYS)
    return envelope.derived_id(occurred, SOURCE, kind, said.decode())


def _identified(
    user: str | None, device: str | None, raw: dict[str, Any], context: Mapping[str, Any]
) -> events.UserIdentified | None:
    """None of somebody whom nobody knows yet: that would be no anonymous id any more."""
    if user is None:
        return None
    traits = table(raw.get("traits")) or table(context.get("traits"))
    zone = traits.get("timezone") or context.get("timezone")
    return events.UserIdentified(
        previous_id=device if device != user else None,
        email=short(traits.get("email"), 320),
        traits=traits or None,
        timezone=zone if type(zone) is str and 0 < len(zone) <= 100 else None,
    )


# --- acts --------------------------------------------------------------------------------------------


def act(kind: str, name: str, page: Mapping[str, Any], properties: Mapping[str, Any]) -> Act | None:
    """What a page, screen or track call is; None for one that says nothing of what the user did."""
    url, title = short(page.get("url"), 4096), short(page.get("title"), 500)
    if kind == "track" and name.startswith("[Amplitude] "):
        return amplitude.act(
            name, {"[Amplitude] Page URL": url, "[Amplitude] Page Title": title, **properties}
        )
    shown: str | None = None
    text: str | None = None
    if kind != "track":
        url = short(properties.get("url"), 4096) or url
        title = short(properties.get("title"), 500) or title or short(name, 500)
        shown = "pageview"
    else:
        text = next((found for key in _TEXTS if (found := short(properties.get(key), 400))), None)
        shown = _CAPTURED.get(name.lower()) if text is not None else None
    body: dict[str, Any] = {"type": kind, "name": name, "page": {"title": title} if title else {}}
    return Act(
        kind=shown or "custom",
        name=None if shown else name,
        url=url,
        page_title=title,
        text=text if shown in ("click", "submit") else None,
        properties={key: properties[key] for key in properties if kind == "track" or key not in _PAGE},
        body=body,
    )


def act_again(action: events.Action) -> Act | None:
    """The act that an action was labelled from; None where nothing of its body was kept."""
    body = action.body or {}
    if "event_type" in body:
        return amplitude.act_again(action)
    kind, name = body.get("type"), body.get("name")
    if kind not in KINDS or type(name) is not str:
        return None
    return act(kind, name, {**table(body.get("page")), "url": action.raw_url}, action.properties or {})
