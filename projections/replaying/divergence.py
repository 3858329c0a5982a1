"""What a replay counts, and where the record and today's code part ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

LOST = "recorded, not derived"
NEW = "derived, not recorded"
OTHER = "recorded and derived differ"


class Divergence(NamedTuple):
    """Something that was recorded and that the same inputs do not give again, or the other way round."""

    position: int  # of the row; of what was derived only: of the row after which it would stand
    event_id: str
    product: str
    stream: str
    at: int  # µs
    what: str  # an event's type, or `transition`
    kind: str  # one of the three above
    recorded: Mapping[str, Any] | None  # stored data; None: nothing was recorded
    derived: Mapping[str, Any] | None  # the same of what is derived, or today's explanation of silence


@dataclass(slots=True)
class Report:
    """What a replay checked and found."""

    decisions: int = 0  # recorded ones
    timeouts: int = 0  # recorded ones
    transitions: int = 0  # of the machine, as recorded
    silent: int = 0  # evaluations that recorded nothing, and today come to nothing
    unknown: int = 0  # cannot be derived: a predicate's finding or a config revision is not in the ledger
    erased: int = 0  # decisions that read what was erased since
    divergences: list[Divergence] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Take in what another share of the same replay found."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        self.divergences.sort(key=lambda found: found[:6])
