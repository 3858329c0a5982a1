"""CloudEvents 1.0 over HTTP: structured, in batches, or binary, with `ce-` headers.

    {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "com.acme.chat_message",
     "subject": "ps_1", "userid": "u_1", "time": "2026-05-19T11:07:19Z", "data": {"role": "user", "text": …}}

`source` and `id` together are the identity. A type whose last word is one of ours carries our data; any other
type is an action of that name. The session is `sessionid` or the subject. Outside events that this service
exported are taken too, without what was sealed in them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from api.ingest import clock, fields, native, payloads, strict
from api.ingest.acts import Act, Seen
from api.ingest.arrivals import Arrival, Arrived, short, table
from domain import envelope, events, instants
from domain.errors import Fault, InvalidInput

SOURCE = "cloudevents"
STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
PREFIX = "ce-"  # of headers in binary mode

_VERSION = re.compile(r"v\d+\Z")
_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?\Z")
_JSON = re.compile(r"[^;]*[/+]json\s*(;.*)?\Z", re.IGNORECASE)
_EXPORTED = frozenset(("productseq", "batchid", "origin"))  # attributes of a line of ours
_ADDED = ("user_id", "timings", "registry_id", "labeller")  # by the service, on storing
# How the native form calls it -> how an event does.
_NAMES = {
    "event_id": "id",
    "session_id": "sessionid",
    "user_id": "userid",
    "occurred_at": "time",
    "sent_at": "time",
    "correlation_id": "correlationid",
    "source": "via",
}


def is_body(data: object) -> bool:
    first = data[0] if type(data) is list and data else data
    return type(first) is dict and "specversion" in first


def binary(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, Any], list[Fault]]:
    """The event of a request in binary mode, as the structured mode has it; headers by lower-case name."""
    value: dict[str, Any] = {
        name.removeprefix(PREFIX): unquote(text) for name, text in headers.items() if name.startswith(PREFIX)
    }
    kind = headers.get("content-type")
    if kind is not None:
        value["datacontenttype"] = kind
    if not body:
        return value, []
    if kind is None or not _JSON.match(kind):
        return value, [Fault("datacontenttype", "must be JSON")]
    data, faults = strict.salvaged(body)
    value["data"] = data
    return value, faults


def translate(data: object, received_at: int, traceparent: str | None = None) -> Arrived:
    """One event or a list of them; `traceparent`: the request's own. Raises InvalidInput for neither."""
    items = data if type(data) is list else [data]
    if not 1 <= len(items) <= native.MAX_EVENTS:
        raise InvalidInput([Fault("", f"must hold 1 to {native.MAX_EVENTS} events")])
    arrived = Arrived()
    for index, item in enumerate(items):
        faults: list[Fault] = []
        seen = _event(item, f"[{index}]" if type(data) is list else "", received_at, traceparent, faults)
        if seen is None or faults:
            arrived.reject(index, faults)
        else:
            arrived.events.append(Arrival(seen))
    return arrived


def _event(
    raw: object, path: str, received_at: int, traceparent: str | None, faults: list[Fault]
) -> Seen | None:
    if type(raw) is not dict:
        faults.append(Fault(path, "must be an object"))
        return None
    if raw.get("specversion") != "1.0":
        faults.append(Fault(strict.join(path, "specversion"), "must be 1.0"))
    source = fields.text(raw, "source", path, faults, 500)
    own_id = fields.text(raw, "id", path, faults, 500)
    type_ = fields.text(raw, "type", path, faults, 200)
    if type(raw.get("time")) not in (str, type(None)):
        faults.append(Fault(strict.join(path, "time"), "must be an RFC 3339 instant, as text"))
    data = _data(raw, path, faults)
    named = _known(type_)
    if named in events.ENGINE_TYPES or named in events.RESERVED_TYPES:
        detail = "is made by the engine and cannot be sent from outside"
        faults.append(Fault(strict.join(path, "type"), detail))
    if faults:
        return None
    exported = raw.keys() >= _EXPORTED
    session_id, user_id = _whose(raw, data, exported)
    sealed = False
    if exported:
        data = _restored(named, data)
        sealed = named == events.ChatMessage.TYPE and "text" not in data
        if sealed:
            data["text"] = "-"  # stands for what was sealed, until it was checked
    known = named in payloads.PARSERS
    parsed = native.parse_event(
        {
            "event_id": own_id if exported else _identity(source, own_id, raw.get("time")),
            "type": named if known else events.Action.TYPE,
            "session_id": session_id,
            "user_id": user_id,
            "occurred_at": raw.get("time"),
            "correlation_id": _trace(raw.get("traceparent"), traceparent) or raw.get("correlationid"),
            "source": raw.get("via") or SOURCE,
            "data": data if known else {"type": type_, "title": type_},
        },
        path,
        received_at,
        faults,
    )
    if parsed is None:
        faults[:] = [Fault(_renamed(fault.path, path), fault.detail) for fault in faults]
        return None
    what: Act | events.Outside = parsed.event
    if sealed and isinstance(what, events.ChatMessage):
        what = replace(what, text=None)
    if not known:
        what = act(type_, data)
    return Seen(
        what,
        parsed.event_id,
        parsed.session_id,
        parsed.user_id,
        received_at,
        parsed.occurred_at,
        clock.verbatim(raw.get("time")),
        None,
        False,
        parsed.source,
        parsed.correlation_id,
    )


def _data(raw: dict[str, Any], path: str, faults: list[Fault]) -> dict[str, Any]:
    """The payload, an object."""
    data, packed = raw.get("data"), raw.get("data_base64")
    if data is not None and packed is not None:
        faults.append(Fault(strict.join(path, "data_base64"), "stands beside data: one of them is the data"))
        return {}
    kind = raw.get("datacontenttype")
    if kind is not None and (type(kind) is not str or ((data or packed) and not _JSON.match(kind))):
        faults.append(Fault(strict.join(path, "datacontenttype"), "must be JSON"))
    key = "data"
    if packed is not None:
        key = "data_base64"
        try:
            data = strict.loads(base64.b64decode(packed if type(packed) is str else "?", validate=True))
        except (binascii.Error, ValueError, InvalidInput):
            faults.append(Fault(strict.join(path, key), "must be base64 of a JSON object"))
            return {}
    if data is not None and type(data) is not dict:
        faults.append(Fault(strict.join(path, key), "must be an object"))
    return table(data)


def _known(type_: str) -> str:
    """The last word of a type, a version behind it apart: `com.acme.action.v1` is an action."""
    words = type_.split(".")
    if len(words) > 1 and _VERSION.match(words[-1]):
        words.pop()
    return words[-1]


def _whose(raw: dict[str, Any], data: dict[str, Any], exported: bool) -> tuple[Any, Any]:
    """(session, user)."""
    subject, user_id = raw.get("subject"), raw.get("userid")
    if not exported:
        return raw.get("sessionid") or subject or None, user_id or None
    kind, _, name = subject.partition("-") if type(subject) is str else ("", "", "")
    if kind == "user":
        return None, name
    return name if kind == "session" else None, user_id or data.get("user_id")


def _restored(type_: str, data: dict[str, Any]) -> dict[str, Any]:
    """Stored data as it is sent: without what the service added, instants as text."""
    sent = {key: value for key, value in data.items() if key not in _ADDED}
    end = sent.get("timestamp_end")
    if type(end) is int and 0 <= end < 2**53:
        sent["timestamp_end"] = instants.text(end)
    if type_ == events.UserIdentified.TYPE and "timezone" in sent:
        sent["traits"] = {"timezone": sent.pop("timezone"), **table(sent.get("traits"))}
    return sent


def _identity(source: str, own_id: str, time: object) -> str:
    """An id for the source's id: no URI holds a space, so no two pairs read alike."""
    joined = f"{source} {own_id}"
    if len(joined) <= fields.MAX_ID and " " not in source:
        return joined
    try:
        at = clock.parse(time)
    except ValueError:
        at = 0
    return envelope.derived_id(at, SOURCE, source, own_id)


def _trace(*told: object) -> str | None:
    """The trace that a `traceparent` names; one that is not as the standard has it is as none."""
    for value in told:
        found = _TRACE.match(value) if type(value) is str else None
        if found is not None and not (found[0].startswith("00") and found[2]):
            return found[1]
    return None


def _renamed(path: str, at: str) -> str:
    inner = path.removeprefix(at).removeprefix(".")
    first, dot, rest = inner.partition(".")
    return strict.join(at, _NAMES.get(first, first)) + dot + rest if inner else at


def act(type_: str, data: Mapping[str, Any]) -> Act:
    """An event of a type that is none of ours."""
    urls = (short(data.get(key), 4096) for key in ("raw_url", "url", "page_url"))
    return Act(
        kind="custom",
        name=type_,
        url=next((url for url in urls if url), None),
        page_title=short(data.get("page_title"), 500),
        properties=dict(data),
        body={"type": type_},
    )


def act_again(action: events.Action) -> Act | None:
    """The act that an action was labelled from; None where it came with a label of its own."""
    type_ = (action.body or {}).get("type")
    return act(type_, action.properties or {}) if type(type_) is str else None
