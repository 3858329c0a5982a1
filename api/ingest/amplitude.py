"""Amplitude's HTTP API as its SDKs speak it, and the body that Autoplay's template makes of the same events.

    {"api_key": …, "events": [{"event_type": "[Amplitude] Element Clicked", "user_id": …, "device_id": …,
      "session_id": 1795167251277, "time": 1795167252543, "insert_id": …, "event_properties": {…}}],
     "client_upload_time": …}

Instants are milliseconds. A session's number is the millisecond in which it began, which two people can
share, so a session here is `<session_id>-<device_id>`; without a number it is its device's.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from api.ingest import amplitude_acts, bodies, clock, fields
from api.ingest.acts import Act, Seen
from api.ingest.amplitude_acts import act, act_again
from api.ingest.arrivals import Arrival, Arrived, person, short, table
from domain import envelope, events
from domain.errors import Fault, InvalidInput

__all__ = ["SOURCE", "act", "act_again", "is_body", "translate"]

SOURCE = "amplitude"
MAX_EVENTS = 2_000

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


def is_body(data: object) -> bool:
    """Whether a body is Amplitude's: PostHog's has `batch` where this has `events`."""
    return type(data) is dict and type(data.get("events")) is list and "batch" not in data


def translate(data: object, received_at: int) -> Arrived:
    """What a body says; `received_at` is in µs. Raises InvalidInput where it is no such body."""
    if type(data) is not dict:
        raise InvalidInput([Fault("", "must be an object with a list `events`")])
    items = data.get("events")
    if type(items) is not list:
        raise InvalidInput([Fault("events", "must be a list" if items is not None else "is required")])
    if len(items) > MAX_EVENTS:
        raise bodies.TooLarge([Fault("events", f"must hold at most {MAX_EVENTS} events")])
    arrived = Arrived()
    sent_raw = data.get("client_upload_time")
    sent = clock.instant(data, "client_upload_time", "", [])
    forms: amplitude_acts.Forms = {}
    for index, item in enumerate(items):
        faults: list[Fault] = []
        arrival = _event(item, f"events[{index}]", received_at, (sent, sent_raw), forms, faults)
        arrived.take(index, arrival, faults)
    return arrived


def _event(
    raw: object,
    path: str,
    received_at: int,
    sent: tuple[int | None, Any],
    forms: amplitude_acts.Forms,
    faults: list[Fault],
) -> Arrival | None:
    if type(raw) is not dict:
        faults.append(Fault(path, "must be an object"))
        return None
    name = fields.text(raw, "event_type", path, faults, 200)
    user_id = person(raw, "user_id", path, faults)
    device = person(raw, "device_id", path, faults)
    if user_id is None and device is None and not faults:
        faults.append(Fault(path, "user_id or device_id is required"))
    occurred = _millis(raw, "time", path, faults)
    number = raw.get("session_id")
    if number is not None and type(number) is not int:
        faults.append(Fault(f"{path}.session_id", "must be a whole number"))
    properties = raw.get("event_properties")
    if properties is not None and type(properties) is not dict:
        faults.append(Fault(f"{path}.event_properties", "must be an object"))
    if faults:
        return None
    what: Act | events.Outside | None
    if name == "$identify":
        what = _identified(user_id, device, table(raw.get("user_properties")))
    else:
        what = act(
            name, amplitude_acts.placed(name, table(properties), (device or "", raw.get("session_id")), forms)
        )
    if what is None:
        return None
    occurred_at, _, suspect = clock.corrected(occurred, sent[0], received_at)
    session_id = _session(number, device, user_id)
    if session_id is not None and len(session_id) > fields.MAX_ID:
        faults.append(Fault(f"{path}.device_id", "is too long to name a session by"))
        return None
    seen = Seen(
        what,
        _event_id(raw, occurred, device or user_id or ""),
        session_id,
        user_id or device,
        received_at,
        occurred_at,
        clock.verbatim(raw.get("time")) if occurred is not None else None,
        clock.verbatim(sent[1]) if sent[0] is not None else None,
        suspect,
        SOURCE,
    )
    return Arrival(seen, device if user_id is not None else None, device is not None)


def _session(number: int | None, device: str | None, user_id: str | None) -> str | None:
    """-1, and what templates make of nothing, is no number."""
    if number is None or number <= 0:
        return device
    return f"{number}-{device or user_id}"


def _millis(raw: dict[str, Any], key: str, path: str, faults: list[Fault]) -> int | None:
    """An instant in milliseconds, as µs; 0 is what a template makes of nothing."""
    value = raw.get(key)
    if value is None or value == 0:
        return None
    if type(value) in (int, float) and 0 < value < 1e14:
        return int(value * 1000)
    faults.append(Fault(f"{path}.{key}", "must be a UNIX time in milliseconds"))
    return None


def _event_id(raw: dict[str, Any], occurred: int | None, person_id: str) -> str | None:
    """The sender's `insert_id`, which is one device's; without any, what identifies the act."""
    insert_id = raw.get("insert_id")
    if type(insert_id) is str and insert_id:
        if _UUID.match(insert_id):
            return insert_id
        return envelope.derived_id(occurred or 0, SOURCE, person_id, insert_id)
    if occurred is None:
        return None
    said = orjson.dumps(
        [raw.get(key) for key in ("event_type", "user_id", "device_id", "session_id", "event_properties")],
        option=orjson.OPT_SORT_KEYS,
    )
    return envelope.derived_id(occurred, SOURCE, person_id, said.decode())


def _identified(
    user_id: str | None, device: str | None, operations: dict[str, Any]
) -> events.UserIdentified | None:
    """None of somebody whom nobody knows yet: that would be no anonymous id any more."""
    if user_id is None:
        return None
    plain = {key: value for key, value in operations.items() if not key.startswith("$")}
    traits = {**table(operations.get("$setOnce")), **table(operations.get("$set")), **plain}
    zone = traits.get("timezone")
    return events.UserIdentified(
        previous_id=device if device != user_id else None,
        email=short(traits.get("email"), 320),
        traits=traits or None,
        timezone=zone if type(zone) is str and 0 < len(zone) <= 100 else None,
    )
