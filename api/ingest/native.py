"""The native JSON of an outside event, checked by hand because it is the hot path.

Every fault of a batch is collected with its path; a detail never repeats a value that was sent.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from api.ingest import clock, payloads, strict
from api.ingest.fields import Data, optional_identifier, optional_text
from domain import events
from domain.errors import Fault, InvalidInput

MAX_EVENTS = 1000
MAX_UNKNOWN = 10  # unknown keys of one object that are named

_TOP = frozenset(
    (
        "event_id",
        "type",
        "session_id",
        "user_id",
        "occurred_at",
        "sent_at",
        "data",
        "source",
        "correlation_id",
    )
)
_TOP_BACKTEST = _TOP | {"received_at", "batch_id"}


class OutsideEvent(NamedTuple):
    """A checked event from outside, before it has an id, a stream and a place in the ledger."""

    event_id: str | None  # the sender's; None: to be made
    event: events.Outside
    session_id: str | None  # at least one of session_id and user_id is given
    user_id: str | None
    received_at: int  # µs; the instant of recording that the clock rules were applied with
    occurred_at: int  # µs, corrected and clamped
    occurred_raw: str | None  # as it was sent
    sent_raw: str | None
    clock_suspect: bool
    source: str
    correlation_id: str | None
    batch_id: str | None = None  # from a backtest's events file only


@dataclass(frozen=True, slots=True)
class Rejection:
    """One fault of one event of a batch."""

    index: int
    path: str
    detail: str


class ParsedBatch(NamedTuple):
    events: list[OutsideEvent]  # the good ones, in the order they were sent
    rejected: list[Rejection]  # an event with several faults has several
    atomic: bool  # one bad event refuses the request


def parse_batch(body: object, received_at: int) -> ParsedBatch:
    """`{"events": […], "atomic": true}` with 1 to 1,000 events. Raises InvalidInput for any other form."""
    if type(body) is not dict:
        raise InvalidInput([Fault("", "must be an object with a list `events`")])
    faults: list[Fault] = []
    _refuse_unknown(body, frozenset(("events", "atomic")), "", faults)
    items = body.get("events")
    if type(items) is not list:
        faults.append(Fault("events", "must be a list of events" if items is not None else "is required"))
    elif not 1 <= len(items) <= MAX_EVENTS:
        faults.append(Fault("events", f"must hold 1 to {MAX_EVENTS} events, this has {len(items)}"))
    atomic = body.get("atomic", True)
    if type(atomic) is not bool:
        faults.append(Fault("atomic", "must be true or false"))
    if faults or type(items) is not list:
        raise InvalidInput(faults)
    good: list[OutsideEvent] = []
    rejected: list[Rejection] = []
    for index, item in enumerate(items):
        event = parse_event(item, f"events[{index}]", received_at, faults)
        if event is not None:
            good.append(event)
        else:
            rejected += [Rejection(index, fault.path, fault.detail) for fault in faults]
            faults.clear()
    return ParsedBatch(good, rejected, atomic)


def parse_event(
    raw: object, path: str, received_at: int, faults: list[Fault], *, backtest: bool = False
) -> OutsideEvent | None:
    """The checked event, or None after its faults were added to `faults`.

    `path` is where the event stands in the input, `received_at` (µs) the instant of recording. A line of a
    backtest's events file may name its own `received_at` (default: `occurred_at`) and `batch_id`.
    """
    if type(raw) is not dict:
        faults.append(Fault(path, "must be an object"))
        return None
    before = len(faults)
    get = raw.get
    known = _TOP_BACKTEST if backtest else _TOP
    if not raw.keys() <= known:
        _refuse_unknown(raw, known, path, faults)

    event_id = optional_identifier(raw, "event_id", path, faults)
    session_id = optional_identifier(raw, "session_id", path, faults)
    user_id = optional_identifier(raw, "user_id", path, faults)
    if get("session_id") is None and get("user_id") is None:
        faults.append(Fault(path, "session_id or user_id is required"))
    correlation_id = optional_identifier(raw, "correlation_id", path, faults)
    source = optional_text(raw, "source", path, faults, 50) or "host"

    occurred = clock.instant(raw, "occurred_at", path, faults)
    sent = clock.instant(raw, "sent_at", path, faults)
    batch_id: str | None = None
    if backtest:
        batch_id = optional_identifier(raw, "batch_id", path, faults)
        received = clock.instant(raw, "received_at", path, faults)
        if received is None:
            received = occurred
        if received is not None:
            received_at = received
        elif get("received_at") is None and get("occurred_at") is None:
            faults.append(Fault(path, "received_at or occurred_at is required"))
    occurred_at, shift, suspect = clock.corrected(occurred, sent, received_at)

    type_ = get("type")
    parse = payloads.PARSERS.get(type_) if type(type_) is str else None
    if parse is None:
        faults.append(Fault(strict.join(path, "type"), _type_refusal(type_)))
        return None
    data = get("data")
    below = f"{path}.data" if path else "data"
    if type(data) is not dict:
        if data is not None:
            faults.append(Fault(below, "must be an object"))
            return None
        data = {}
    event = parse(data, below, faults, received_at, shift)
    if len(faults) > before:
        return None
    return OutsideEvent(
        event_id,
        event,
        session_id,
        user_id,
        received_at,
        occurred_at,
        clock.verbatim(get("occurred_at")),
        clock.verbatim(get("sent_at")),
        suspect,
        source,
        correlation_id,
        batch_id,
    )


def _refuse_unknown(raw: Data, known: Iterable[str], path: str, faults: list[Fault]) -> None:
    names = sorted(known)
    unknown = (key for key in raw if key not in names)
    for key in islice(unknown, MAX_UNKNOWN):
        near = difflib.get_close_matches(key[:100], names, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
        faults.append(Fault(strict.join(path, key), f"unknown key; {hint}"))


def _type_refusal(type_: object) -> str:
    if type_ is None:
        return f"is required: {', '.join(payloads.PARSERS)}"
    if not isinstance(type_, str):
        return "must be text"
    if type_ in events.ENGINE_TYPES or type_ in events.RESERVED_TYPES:
        return f"{type_} is made by the engine and cannot be sent from outside"
    near = difflib.get_close_matches(type_[:100], list(payloads.PARSERS), 1)
    return f"unknown type; {f'did you mean {near[0]}? ' if near else ''}known: {', '.join(payloads.PARSERS)}"
