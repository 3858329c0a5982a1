"""Outside events of long ago, from CloudEvents lines, recorded now as history.

They go through the recorder, as `BackfillJob`s: the same versions are checked under the same lock as for the
service's own writes, so both may run at once; what is personal is sealed; a user's ids are linked; and what
came again is told by its id. Nothing is evaluated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from api.clock import Clock
from api.ingest import native, strict
from api.ingest.native import OutsideEvent
from api.jobs import BackfillJob, Outcome, by_stream
from api.recorder import Recorder
from api.transfer import lines
from api.transfer.cloudevents import SPECVERSION
from domain.errors import Fault, InvalidInput
from projections.replaying import units

PAGE = 1_000  # lines taken at once
SOURCE = "backfill"  # where a line does not say `via`
_NAMES = {  # how the API calls it -> how a line does
    "event_id": "id",
    "session_id": "subject",
    "user_id": "userid",
    "occurred_at": "time",
    "correlation_id": "correlationid",
    "source": "via",
}
_REQUIRED = ("id", "source", "type", "subject", "time")


def read(rows: Iterable[bytes], received_at: int) -> Iterator[tuple[int, OutsideEvent]]:
    """The events of a file with the numbers of their lines. `received_at`: the instant of recording, µs.

    Raises InvalidInput at the first line that is wrong, with all its faults.
    """
    for number, text in lines.numbered(rows):
        with lines.at_line(number):
            event = _event(strict.loads(text), received_at)
        yield number, event


def _event(value: Any, received_at: int) -> OutsideEvent:
    if type(value) is not dict:
        raise InvalidInput([Fault("", "must be an object")])
    faults = [Fault(name, "is required") for name in _REQUIRED if value.get(name) is None]
    if value.get("specversion") != SPECVERSION:
        faults.append(Fault("specversion", f"must be {SPECVERSION}"))
    if "data_base64" in value:
        faults.append(Fault("data_base64", "must be `data`, a JSON object"))
    subject = value.get("subject")
    kind, _, name = subject.partition("-") if type(subject) is str else ("", "", "")
    if subject is not None and kind not in ("session", "user"):
        faults.append(Fault("subject", "must be session-<id> or user-<id>"))
    user_id = value.get("userid")
    if kind == "user" and user_id is not None and user_id != name:
        faults.append(Fault("userid", "is another than the subject's"))
    if faults:
        raise InvalidInput(faults)
    raw = {
        "event_id": value["id"],
        "type": value["type"],
        "session_id": name if kind == "session" else None,
        "user_id": name if kind == "user" else user_id,
        "occurred_at": value["time"],
        "correlation_id": value.get("correlationid"),
        "source": value.get("via") or SOURCE,
        "data": value.get("data"),
    }
    event = native.parse_event(raw, "", received_at, faults)
    if event is None:
        user_path = "subject" if kind == "user" else "userid"
        names = {**_NAMES, "user_id": user_path}
        raise InvalidInput([Fault(names.get(fault.path, fault.path), fault.detail) for fault in faults])
    return event


async def write(
    recorder: Recorder,
    clock: Clock,
    product: str,
    rows: Iterable[bytes],
    on_progress: Callable[[int], None] = lambda done: None,
) -> Counter[str]:
    """Record a file that was checked; counts of accepted, duplicates and conflicting."""
    counts: Counter[str] = Counter()
    pending = read(rows, clock.now())
    while page := list(islice(pending, PAGE)):
        for outcome in await recorder.submit(*_jobs(product, clock, [event for _, event in page])):
            _count(counts, outcome)
        on_progress(page[-1][0])
    return counts


def _jobs(product: str, clock: Clock, page: Iterable[OutsideEvent]) -> list[BackfillJob]:
    return [
        BackfillJob(
            product, units.HISTORY + clock.new_id(), session_id=session_id, user_id=user_id, items=items
        )
        for session_id, user_id, items in by_stream(page)
    ]


def _count(counts: Counter[str], outcome: Outcome) -> None:
    counts["accepted"] += outcome.accepted
    counts["duplicates"] += outcome.duplicates
    counts["conflicting"] += outcome.conflicting
