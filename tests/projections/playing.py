"""Lively traffic through a real service on a clock of the test's own, every timer on time."""

from __future__ import annotations

import random
from typing import Any

from api.jobs import TimerJob
from api.service import Service
from tests.api import inside
from tests.api.inside import FakeClock

Json = dict[str, Any]
START = inside.START


def config(product: str = "acme", **changes: Any) -> Json:
    """Triggers of several shapes, and every kind of gate."""
    return {
        "schema": 1,
        "product_id": product,
        "session": {"interaction_timeout_s": 10, "cooldown_period_s": 15},
        "limits": {"min_gap_s": 5, "per_user": {"times": 6, "per": "day"}},
        "tours": [{"id": "tour", "user_tour_id": "flow_1", "interaction_timeout_s": 20}],
        "triggers": [
            {
                "id": "held",
                "holdout": 0.5,
                "cooldown_s": 200,
                "criteria": {"type": "count", "where": {"title_contains": "export"}, "at_least": 2},
            },
            {
                "id": "saves",
                "name": "Saves one by one",
                "goal": "bulk",
                "expires_s": 60,
                "tours": ["tour"],
                "interaction_timeout_s": 5,
                "cooldown_s": 20,
                "limits": {"per_user": {"times": 3, "per": "day"}},
                "criteria": {
                    "operator": "AND",
                    "conditions": [
                        {"type": "count", "where": {"title_contains": "save"}, "at_least": 3, "within_s": 90},
                        {"type": "absent", "where": {"title_contains": "bulk"}, "within": "session"},
                    ],
                },
            },
            {
                "id": "dwell",
                "cooldown_s": 40,
                "criteria": {"type": "user_page_dwell", "dwell_threshold_seconds": 25},
            },
            {
                "id": "then",
                "criteria": {
                    "type": "sequence",
                    "within_s": 60,
                    "steps": [{"title_contains": "export"}, {"title_contains": "save"}],
                },
            },
        ],
    } | changes


async def until(service: Service, clock: FakeClock, instant: int) -> None:
    """Let time pass; whatever comes due is looked at one microsecond later."""
    due = service.recorder.due
    while due and min(due.values()) < instant:
        at, (product, session_id) = min((at, key) for key, at in due.items())
        clock.instant = max(clock.instant, at + 1)
        job = TimerJob(product, service.clock.new_id(), session_id=session_id)
        await service.recorder.submit(job)
    clock.instant = max(clock.instant, instant)


async def play(
    service: Service, clock: FakeClock, requests: int, seed: int, product: str = "acme"
) -> list[Json]:
    """Post so many requests of a few users, some answers to what was offered; gives what was posted."""
    dice = random.Random(seed)
    posted: list[Json] = []
    offered: list[Json] = []
    for number in range(requests):
        await until(service, clock, clock.instant + dice.choice((200, 900, 3_000, 9_000, 26_000)) * 1_000)
        first = _event(dice, f"{seed}-{number}", offered)
        events = [first]
        if first["type"] == "action":
            events += [first | {"event_id": f"{seed}-{number}-{i}"} for i in range(dice.choice((0, 0, 1, 2)))]
        receipt = await inside.post(service, product, *events)
        assert not receipt.rejected
        offered += [each for each in receipt.decisions if each["outcome"] == "offered"]
        posted += events
    return posted


def _event(dice: random.Random, event_id: str, offered: list[Json]) -> Json:
    session = dice.randrange(9)
    user = f"u{session % 5}" if session < 7 else None
    place: Json = {"session_id": f"s{session}", **({"user_id": user} if user else {})}
    roll = dice.random()
    if roll < 0.05:
        return {"event_id": event_id, "type": "goal_reached", "data": {"goal_id": "bulk"}} | place
    if roll < 0.10:
        return {
            "event_id": event_id,
            "type": "chat_message",
            "data": {"role": "user", "text": "How?"},
        } | place
    if roll < 0.16:
        kind, data = dice.choice(
            [("tour_started", {"tour_id": "flow_1"}), ("tour_step", {"tour_id": "tour", "step": 1}),
             ("tour_ended", {"tour_id": "tour", "outcome": "completed"})]
        )  # fmt: skip
        return {"event_id": event_id, "type": kind, "data": data} | place
    if roll < 0.19:
        data = {"previous_id": f"anon{session}", "traits": {"timezone": "Asia/Tokyo"}}
        return {"event_id": event_id, "type": "user_identified", "data": data} | place | {"user_id": "u1"}
    if roll < 0.21:
        return {"event_id": event_id, "type": "reaction", "user_id": "u2", "data": {"value": "up"}}
    if roll < 0.40 and offered:
        nudge = dice.choice(offered[-3:])
        kind, data = dice.choice(
            [("nudge_shown", {"tab_id": "t"}), ("nudge_shown", {"tab_id": "u"}),
             ("nudge_dismissed", {"by": "user"}), ("option_clicked", {"option_id": "yes"})]
        )  # fmt: skip
        where = {"session_id": nudge["session_id"], "user_id": nudge["user_id"]}
        data = data | {"nudge_id": nudge["nudge_id"]}
        found = {"event_id": event_id, "type": kind, "data": data} | where
        return {key: value for key, value in found.items() if value is not None}
    title = dice.choice(("Save changes", "Save changes", "Save changes", "Export", "Open", "Bulk edit?"))
    if title == "Bulk edit?" and dice.random() < 0.8:
        title = "Menu"
    data = {"type": "click", "title": title, "raw_url": f"https://app.test/{dice.choice(('a', 'b'))}"}
    return {"event_id": event_id, "type": "action", "data": data} | place
