"""A user across sessions, folded from the user's own stream.

What limits, gaps and cooldowns count, and who the user was before. Where an anonymous id was merged into a
user, each of the two streams says so; the counters of both are one from that fact on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from domain import events
from domain.session import Fact, OfferMade


@dataclass(frozen=True, slots=True)
class UserState:
    """What a user's stream says, as of `version`."""

    user_id: str
    version: int = 0
    at: int = 0  # of the newest event
    identified: bool = False  # some user_identified named this id
    first_id: str = ""  # whose hash decides holdouts; empty: this id
    merged_from: tuple[str, ...] = ()  # anonymous ids that are now this user
    merged_into: str | None = None  # the user that this anonymous id became
    timezone: str | None = None
    offers: tuple[OfferMade, ...] = ()
    last_sessions: tuple[str, ...] = ()  # sessions that may be in proactive assistance

    @property
    def holdout_id(self) -> str:
        return self.first_id or self.user_id


def evolve(state: UserState, fact: Fact) -> UserState:
    """The state after one more fact of the user's stream; facts that say nothing here only count."""
    state = replace(state, version=fact.version, at=fact.at)
    match fact.event:
        case events.BudgetSpent() as spent:
            made = OfferMade(
                spent.trigger_id,
                spent.offered_at,
                spent.nudge_id,
                spent.session_id,
                state.user_id,
                fact.version,
                spent.holdout,
            )
            busy = state.last_sessions
            if not spent.holdout:
                # An offer is made only while no other session of the user is in proactive assistance, so
                # from here on this session is the only one that can be. One that is counted later than it
                # was made (nobody had said yet who the user is) says nothing of the others.
                others = () if spent.offered_at == fact.at else busy
                busy = (*(name for name in others if name != spent.session_id), spent.session_id)
            return replace(state, offers=(*state.offers, made), last_sessions=busy)
        case events.UserLinked() as linked:
            return _linked(state, linked)
        case events.UserIdentified() as identified:
            return replace(state, identified=True, timezone=identified.timezone or state.timezone)
        case _:
            return state


def skipped(state: UserState, version: int, at: int) -> UserState:
    """The state after an event of its stream that nothing could be made of: only counted."""
    return replace(state, version=version, at=at)


def _linked(state: UserState, linked: events.UserLinked) -> UserState:
    if linked.merged_into is not None:
        return replace(state, merged_into=linked.merged_into)
    timezone = linked.timezone or state.timezone
    source = linked.merged_from
    if source is None or source in state.merged_from:
        return replace(state, identified=True, timezone=timezone)
    # The first id decides holdouts: the anonymous one where this user was offered nothing before the merge.
    fresh = not state.offers and not state.merged_from
    first = state.first_id or (source if fresh else "")
    return replace(
        state,
        identified=True,
        timezone=timezone,
        merged_from=(*state.merged_from, source),
        first_id=first,
    )


def fold(state: UserState, facts: Iterable[Fact]) -> UserState:
    for fact in facts:
        state = evolve(state, fact)
    return state
