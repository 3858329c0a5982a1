"""Requests of PostHog's browser and server SDKs, whichever generation wrote them.

    up to 1.407    one event, or a list of events that say by `offset` how long ago they were; the time of
                   sending stands in the query, as `_` or `sent_at`
    from 1.408,    {"api_key", "batch": […], "sent_at"}
    and servers

Bytes come as JSON, as gzip of it (told by its first two bytes: no header says so), or as a form whose `data`
is base64 of either. Raises InvalidInput for what is none of these, TooLarge past the limits.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from api.ingest import posthog_events, strict
from api.ingest.arrivals import Arrived
from api.ingest.posthog_events import Ignored, Sent
from domain.errors import Fault, InvalidInput

MOST = 4 * 1024 * 1024  # bytes of a body when it is unpacked
MAX_EVENTS = 2_500  # of one request

_GZIP = b"\x1f\x8b"
_JSON = (b"{", b"[")


class TooLarge(InvalidInput):
    """More than one request may hold."""


class Sending(NamedTuple):
    """A request as it was written."""

    token: str | None  # the project's public key
    events: list[tuple[str, Any]]  # where it stands, what it is
    sent: Sent


def unpack(raw: bytes) -> bytes:
    """The JSON text of a body."""
    if raw.startswith(_GZIP):
        return inflate(raw)
    text = raw.lstrip(b" \t\r\n")
    if text.startswith(_JSON):
        if len(text) > MOST:
            raise TooLarge([Fault("", f"may hold at most {MOST} bytes")])
        return text
    data = next((part[5:] for part in text.split(b"&", 20) if part.startswith(b"data=")), text)
    # Some senders forget to escape the plus signs of base64, which read as spaces then.
    plain = unquote_plus(data.decode("latin-1")).strip().replace(" ", "+")
    if plain[:1] in ("{", "["):
        return unquote_plus(data.decode("latin-1")).encode()
    try:
        decoded = base64.b64decode(plain.rstrip("=") + "=" * (-len(plain.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput([Fault("", "is neither JSON, nor gzip, nor base64 of them")]) from None
    return inflate(decoded) if decoded.startswith(_GZIP) else decoded


def inflate(raw: bytes) -> bytes:
    """What was compressed, if it is not larger than `MOST`."""
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(raw, MOST + 1)
    except zlib.error:
        raise InvalidInput([Fault("", "the gzip is damaged")]) from None
    if len(text) > MOST:
        raise TooLarge([Fault("", f"may hold at most {MOST} bytes when it is unpacked")])
    if not stream.eof:
        raise InvalidInput([Fault("", "the gzip is cut off")])
    return text


def sending(value: Any, query: Mapping[str, str]) -> Sending:
    """The events of a body, and whose they are."""
    asked = query.get("token") or query.get("api_key")
    sent_ms = query.get("_") or query.get("sent_at")
    if type(value) is list:
        listed, at = [(f"[{i}]", item) for i, item in enumerate(value)], None
    elif type(value) is not dict:
        raise InvalidInput([Fault("", "must be an event, a list of events, or an object with a batch")])
    elif "batch" in value:
        if type(value["batch"]) is not list:
            raise InvalidInput([Fault("batch", "must be a list of events")])
        listed, at = [(f"batch[{i}]", item) for i, item in enumerate(value["batch"])], value.get("sent_at")
        asked = _text(value.get("api_key")) or _text(value.get("token")) or asked
    elif "event" in value:
        listed, at = [("", value)], value.get("sent_at")
    else:
        raise InvalidInput([Fault("", "has neither a batch nor an event")])
    if not listed:
        raise InvalidInput([Fault("", "holds no events")])
    if len(listed) > MAX_EVENTS:
        raise TooLarge([Fault("", f"may hold at most {MAX_EVENTS} events")])
    return Sending(asked or _token_of(listed[0][1]), listed, posthog_events.sent_at(at, sent_ms))


def read(request: Sending, received_at: int) -> Arrived:
    """Every event of the request. `received_at` is in µs."""
    found = Arrived()
    for place, (path, raw) in enumerate(request.events):
        faults: list[Fault] = []
        event = posthog_events.read(raw, path, received_at, request.sent, faults)
        if isinstance(event, Ignored):
            found.ignored += 1
        elif event is None:
            found.reject(place, faults)
        else:
            found.events.append(event)
    return found


def loads(raw: bytes) -> tuple[Any, list[Fault]]:
    """The value of a body, and what of it was left out: one bad number costs no batch."""
    return strict.salvaged(unpack(raw))


def _token_of(event: Any) -> str | None:
    if type(event) is not dict:
        return None
    properties = event.get("properties")
    holders = (event, properties) if type(properties) is dict else (event,)
    keys = ("api_key", "token", "$token")
    return next((found for holder in holders for key in keys if (found := _text(holder.get(key)))), None)


def _text(value: Any) -> str | None:
    return value if type(value) is str and value else None
