"""What really happened in a window: offers, which of them were shown, and which a simulation lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from domain import events
from domain.envelope import Recorded as Row
from domain.envelope import name_in
from projections import facts
from projections.backtesting.tally import Offer


@dataclass(slots=True, eq=False)
class _Nudge:
    trigger_id: str
    session_id: str
    user_id: str | None
    at: int
    expires_at: int
    shown: bool = False


class Displaced(NamedTuple):
    """A nudge that was really shown and would not have been offered."""

    at: int
    nudge_id: str
    trigger_id: str
    session_id: str
    user_id: str | None


class Recorded:
    """The real nudges of a window."""

    def __init__(self) -> None:
        self._nudges: dict[str, _Nudge] = {}

    def __contains__(self, nudge_id: str) -> bool:
        return nudge_id in self._nudges

    def offered(self, row: Row) -> None:
        offered = facts.fact(row).event
        assert isinstance(offered, events.NudgeOffered)
        self._nudges[row.event_id] = _Nudge(
            offered.trigger_id, name_in(row.stream), offered.user_id, row.at, offered.expires_at
        )

    def shown(self, nudge_id: str) -> None:
        nudge = self._nudges.get(nudge_id)
        if nudge is not None:
            nudge.shown = True

    def by_trigger(self) -> dict[str, tuple[int, int]]:
        """For each trigger how many were offered, and how many of them shown."""
        found: dict[str, tuple[int, int]] = {}
        for nudge in self._nudges.values():
            offered, shown = found.get(nudge.trigger_id, (0, 0))
            found[nudge.trigger_id] = offered + 1, shown + nudge.shown
        return found

    def displaced(self, offers: Mapping[str, Sequence[Offer]]) -> list[Displaced]:
        """The shown ones that lack an offer of their trigger in their session, not farther away than they
        were open, by instant. `offers`: those of the simulation, by session."""
        return sorted(
            Displaced(nudge.at, nudge_id, nudge.trigger_id, nudge.session_id, nudge.user_id)
            for nudge_id, nudge in self._nudges.items()
            if nudge.shown and not _kept(nudge, offers.get(nudge.session_id, ()))
        )


def _kept(nudge: _Nudge, offers: Sequence[Offer]) -> bool:
    reach = nudge.expires_at - nudge.at
    return any(offer.trigger_id == nudge.trigger_id and abs(offer.at - nudge.at) <= reach for offer in offers)
