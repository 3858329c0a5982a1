"""What a turn concludes today beside the rows that the service's turn stored then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from domain import codec, events
from domain.envelope import ENGINE, OUTSIDE
from domain.run import ADDED, Stored
from projections import rederive
from projections.rederive import CONCLUSIONS
from projections.replaying.divergence import LOST, NEW, OTHER
from projections.replaying.units import Row

FAILED = "evaluation_failed"


class Difference(NamedTuple):
    """A row that is not derived again, something derived that has no row, or both and they disagree."""

    kind: str
    row: Row | None
    made: Stored | None
    recorded: dict[str, Any] | None  # stored data
    derived: dict[str, Any] | None

    @property
    def what(self) -> str:
        return self.row.type if self.row is not None else self._made.event.TYPE

    @property
    def event_id(self) -> str:
        return self.row.event_id if self.row is not None else self._made.event_id

    @property
    def decides(self) -> bool:
        return self.what in CONCLUSIONS

    @property
    def cause(self) -> str | None:
        return self.row.causation_id if self.row is not None else self._made.cause

    @property
    def _made(self) -> Stored:
        assert self.made is not None
        return self.made


def stored(made: Stored) -> bytes:
    """The clear data of what was derived, as the ledger would store it."""
    return orjson.dumps(_clear(made))


def exact(rows: Sequence[Row], made: Sequence[Stored]) -> bool:
    """Whether every row is derived again byte by byte: then the states that a turn left are the record's."""
    if len(rows) != len(made):
        return False
    for row, again in zip(rows, made, strict=True):
        if row.event_id != again.event_id or row.stream != again.stream:
            return False
        if again.incoming is not None:
            if type(again.event) is not events.Action and _added(row) != _added_again(again):
                return False
        elif stored(again) != row.data or row.at != again.at:
            return False
    return True


def differences(rows: Sequence[Row], made: Sequence[Stored]) -> list[Difference]:
    """All that the record and the derivation do not share, in the order of the ledger, then of deriving.

    What follows from a decision (a budget spent, a nudge superseded) is left out where the decision itself
    differs.
    """
    found: list[Difference] = []
    again = {each.event_id: each for each in made if each.incoming is None}
    outside = iter([each for each in made if each.incoming is not None])
    for row in rows:
        if row.origin == OUTSIDE:
            each = next(outside)
            before, now = _added(row), _added_again(each)
            if not rederive.agrees(before, now):
                found.append(Difference(OTHER, row, each, before, now))
            continue
        derived = again.get(row.event_id)
        if derived is not None and (row.stream, row.type) == (derived.stream, derived.event.TYPE):
            before, now = orjson.loads(row.data), orjson.loads(stored(derived))
            if row.type != FAILED and not rederive.agrees(before, now):
                found.append(Difference(OTHER, row, derived, before, now))
        elif row.type != FAILED:
            found.append(Difference(LOST, row, None, orjson.loads(row.data), None))
    known = {row.event_id for row in rows if row.origin == ENGINE}
    found += [
        Difference(NEW, None, each, None, orjson.loads(stored(each)))
        for each in made
        if each.incoming is None and each.event_id not in known
    ]
    deciding = {each.event_id for each in found if each.decides}
    return [each for each in found if not _follows(each, deciding)]


def _clear(made: Stored) -> dict[str, Any]:
    clear = codec.encode(made.event)[0]
    return {"user_id": made.user_id, **clear} if made.user_id else clear


def _follows(difference: Difference, deciding: set[str]) -> bool:
    return not difference.decides and difference.cause in deciding


def _added(row: Row) -> dict[str, Any]:
    return _of(orjson.loads(row.data))


def _added_again(made: Stored) -> dict[str, Any]:
    return _of(codec.encode(made.event)[0])


def _of(data: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: data[name] for name in ADDED if name in data}
    return {"registry_id": None, **found}  # without one the tour was not in the config in force
