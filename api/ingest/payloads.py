"""The `data` of an outside event, type by type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from api.ingest import clock
from api.ingest.fields import (
    Data,
    choice,
    identifier,
    mapping,
    optional_identifier,
    optional_text,
    step,
    text,
)
from domain import canonical, events
from domain.errors import Fault

# The same few pages and labels come again and again.
_canonical_url = lru_cache(maxsize=2048)(canonical.canonical_url)
_scrub = lru_cache(maxsize=2048)(canonical.scrub)


def _extra(data: Data, known: frozenset[str]) -> Mapping[str, Any] | None:
    """Fields that this version does not know: kept, sealed with what is personal."""
    if data.keys() <= known:
        return None
    return {key: value for key, value in data.items() if key not in known}


_ACTION = frozenset(
    ("type", "title", "description", "raw_url", "canonical_url", "timestamp_end", "properties")
)
_CHAT = frozenset(("role", "text", "conversation_id"))
_OPTION = frozenset(("option_id", "nudge_id"))
_REACTION = frozenset(("value",))
_TOUR = frozenset(("tour_id", "step"))
_TOUR_ENDED = _TOUR | {"outcome"}
_SHOWN = frozenset(("nudge_id", "tab_id"))
_DISMISSED = _SHOWN | {"by"}
_LINKED = frozenset(("conversation_id", "link"))
_IDENTIFIED = frozenset(("previous_id", "email", "traits"))
_GOAL = frozenset(("goal_id",))


def _action(data: Data, path: str, faults: list[Fault], received_at: int, shift: int) -> events.Outside:
    description = optional_text(data, "description", path, faults, 2000)
    raw_url = optional_text(data, "raw_url", path, faults, 4096)
    canonical_url = optional_text(data, "canonical_url", path, faults, 4096)
    if canonical_url is None and raw_url is not None:
        canonical_url = _canonical_url(raw_url)
    end = clock.instant(data, "timestamp_end", path, faults)
    return events.Action(
        type=text(data, "type", path, faults, 200),
        title=_scrub(text(data, "title", path, faults, 500)),
        description=None if description is None else canonical.scrub(description),
        raw_url=raw_url,
        canonical_url=canonical_url,
        timestamp_end=None if end is None else clock.clamped(end + shift, received_at),
        properties=mapping(data, "properties", path, faults),
        extra=_extra(data, _ACTION),
    )


def _chat_message(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    return events.ChatMessage(
        role=choice(data, "role", path, faults, ("user", "assistant"), required=True) or "",
        text=text(data, "text", path, faults, 20_000),
        conversation_id=optional_identifier(data, "conversation_id", path, faults),
        extra=_extra(data, _CHAT),
    )


def _option_clicked(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    return events.OptionClicked(
        option_id=identifier(data, "option_id", path, faults),
        nudge_id=optional_identifier(data, "nudge_id", path, faults),
        extra=_extra(data, _OPTION),
    )


def _reaction(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    return events.Reaction(value=text(data, "value", path, faults, 500), extra=_extra(data, _REACTION))


def _tour_started(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    tour_id = identifier(data, "tour_id", path, faults)
    return events.TourStarted(tour_id=tour_id, step=step(data, path, faults), extra=_extra(data, _TOUR))


def _tour_step(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    tour_id = identifier(data, "tour_id", path, faults)
    return events.TourStep(tour_id=tour_id, step=step(data, path, faults), extra=_extra(data, _TOUR))


def _tour_ended(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    return events.TourEnded(
        tour_id=identifier(data, "tour_id", path, faults),
        step=step(data, path, faults),
        outcome=choice(data, "outcome", path, faults, ("completed", "dismissed")),
        extra=_extra(data, _TOUR_ENDED),
    )


def _nudge_shown(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    nudge_id = identifier(data, "nudge_id", path, faults)
    tab_id = optional_identifier(data, "tab_id", path, faults)
    return events.NudgeShown(nudge_id=nudge_id, tab_id=tab_id, extra=_extra(data, _SHOWN))


def _nudge_dismissed(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    return events.NudgeDismissed(
        nudge_id=identifier(data, "nudge_id", path, faults),
        tab_id=optional_identifier(data, "tab_id", path, faults),
        by=choice(data, "by", path, faults, ("user", "timeout")),
        extra=_extra(data, _DISMISSED),
    )


def _conversation_linked(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    return events.ConversationLinked(
        conversation_id=identifier(data, "conversation_id", path, faults),
        link=choice(data, "link", path, faults, ("new", "reply_existing"), required=True) or "",
        extra=_extra(data, _LINKED),
    )


def _user_identified(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    traits = mapping(data, "traits", path, faults)
    timezone = traits.get("timezone") if traits is not None else None
    return events.UserIdentified(
        previous_id=optional_identifier(data, "previous_id", path, faults),
        email=optional_text(data, "email", path, faults, 320),
        traits=traits,
        timezone=timezone if isinstance(timezone, str) and 0 < len(timezone) <= 100 else None,
        extra=_extra(data, _IDENTIFIED),
    )


def _goal_reached(data: Data, path: str, faults: list[Fault], _: int, __: int) -> events.Outside:
    return events.GoalReached(goal_id=identifier(data, "goal_id", path, faults), extra=_extra(data, _GOAL))


# (data, its path, faults, instant of recording, what the clock correction added) -> the event
Parser = Callable[[Data, str, list[Fault], int, int], events.Outside]
PARSERS: Mapping[str, Parser] = {
    "action": _action,
    "chat_message": _chat_message,
    "option_clicked": _option_clicked,
    "reaction": _reaction,
    "tour_started": _tour_started,
    "tour_step": _tour_step,
    "tour_ended": _tour_ended,
    "nudge_shown": _nudge_shown,
    "nudge_dismissed": _nudge_dismissed,
    "conversation_linked": _conversation_linked,
    "user_identified": _user_identified,
    "goal_reached": _goal_reached,
}
