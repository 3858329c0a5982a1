"""What tests of the domain are made of; instants are seconds after a Tuesday noon."""

from __future__ import annotations

from typing import Any, NamedTuple

from domain import config_parse, events
from domain.instants import SECOND
from domain.triggers import Ruleset
from domain.view import Predicates, no_predicates

NOON = 1_779_192_000 * SECOND  # 2026-05-19T12:00:00Z


def at(seconds: float) -> int:
    return NOON + round(seconds * SECOND)


class Sent(NamedTuple):
    event_id: str
    event: events.Outside
    user_id: str | None
    occurred_at: int


def ruleset(triggers: list[dict[str, Any]], predicates: Predicates = no_predicates, **config: Any) -> Ruleset:
    raw = {"schema": 1, "product_id": "acme", "triggers": triggers, **config}
    return Ruleset(config_parse.parse(raw), "r1-test", predicates)


def click(
    title: str = "Save changes", url: str | None = "https://app/projects", **more: Any
) -> events.Action:
    return events.Action(more.pop("type", "click"), title, canonical_url=url, **more)


def trigger(trigger_id: str = "t", title: str | None = None, least: int = 1, **more: Any) -> dict[str, Any]:
    """Met by `least` actions of that title (default: its id) in the last 120 s."""
    criteria = {"type": "count", "where": {"title_equals": title or trigger_id}, "at_least": least}
    return {"id": trigger_id, "criteria": {**criteria, "within_s": 120}, **more}
