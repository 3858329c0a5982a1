"""Instants as a sender gives them, and what its clock is worth."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from api.ingest import strict
from domain import instants
from domain.errors import Fault

MAX_SKEW = instants.DAY  # a clock further off than this is left alone and marked


def parse(value: object) -> int:
    """As `domain.instants.parse`; events of one second share the work for the form that browsers send."""
    if type(value) is str and len(value) == 24 and value[23] == "Z" and value[19] == "." and value.isascii():
        millis = value[20:23]
        if millis.isdigit():
            return _second(value[:19]) + int(millis) * 1000
    return instants.parse(value)


@lru_cache(maxsize=4096)
def _second(prefix: str) -> int:
    return instants.parse(prefix + "Z")


def instant(data: dict[str, Any], key: str, path: str, faults: list[Fault]) -> int | None:
    """The instant (µs), None where absent; what cannot be read is added to `faults`."""
    value = data.get(key)
    if value is None:
        return None
    try:
        return parse(value)
    except ValueError as error:
        faults.append(Fault(strict.join(path, key), str(error)))
        return None


def corrected(occurred: int | None, sent: int | None, recorded: int) -> tuple[int, int, bool]:
    """(the instant to store, what was added to `occurred`, whether the sender's clock is suspect), in µs.

    With `sent` the sender's clock is compared with ours: stored is recorded - (sent - occurred), unless sent
    lies before occurred or more than 24 h from recorded. Nothing is later than it was recorded.
    """
    if occurred is None:
        return recorded, 0, False
    shift, suspect = 0, False
    if sent is not None:
        suspect = sent < occurred or abs(recorded - sent) > MAX_SKEW
        shift = 0 if suspect else recorded - sent
    return clamped(occurred + shift, recorded), shift, suspect


def clamped(at: int, recorded: int) -> int:
    return max(0, min(at, recorded))


def verbatim(value: object) -> str | None:
    """An instant as it was sent, for the record."""
    return value if value is None or type(value) is str else repr(value)
