"""An events file: one outside event a line, with its instant of recording."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from api.ingest import native, strict
from domain.errors import Fault, InvalidInput


def read(lines: Iterable[bytes]) -> Iterator[native.OutsideEvent]:
    """The events of a file's lines, every one with an id. Blank lines say nothing.

    Raises InvalidInput at the first bad line, with all its faults; their paths name line and field
    (`line 3: data.title`).
    """
    for number, raw in enumerate(lines, 1):
        text = raw.strip()
        if text:
            event = _event(number, text)
            yield event if event.event_id is not None else event._replace(event_id=line_id(number, text))


def line_id(number: int, text: bytes) -> str:
    """The id of a line that names none. Such ids sort by line: actions of one instant keep their order."""
    return f"line-{number:09d}-{hashlib.sha256(text).hexdigest()[:16]}"


def _event(number: int, text: bytes) -> native.OutsideEvent:
    faults: list[Fault] = []
    try:
        value = strict.loads(text)
    except InvalidInput as error:
        raise InvalidInput([_at_line(number, fault) for fault in error.faults]) from None
    event = native.parse_event(value, "", 0, faults, backtest=True)
    if event is None:
        raise InvalidInput([_at_line(number, fault) for fault in faults])
    return event


def _at_line(number: int, fault: Fault) -> Fault:
    path = f"line {number}: {fault.path}" if fault.path else f"line {number}"
    # The parser saw one line only, its first: the number that counts is the file's.
    return Fault(path, fault.detail.replace("malformed JSON at line 1 column", "malformed JSON at column"))
