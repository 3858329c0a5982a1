"""A product's life through the real service, on a clock that the story moves."""

from __future__ import annotations

from typing import Any

from api.jobs import TimerJob
from api.service import Service
from domain.instants import SECOND
from eventstore.engine import Ledger
from projections.replaying import replay
from projections.replaying.divergence import Report
from projections.replaying.replay import Scope
from tests.api.inside import FakeClock, post

SAVES = {"type": "count", "where": {"title_contains": "save"}, "at_least": 2, "within_s": 120}
DWELL = {"type": "user_page_dwell", "dwell_threshold_seconds": 15}
EDITS = {"type": "count", "where": {"title_contains": "edit"}, "at_least": 1, "within_s": 30}


def config(*, gap: int = 3, **more: Any) -> dict[str, Any]:
    """Short timings, and every kind of gate."""
    triggers = [
        {
            "id": "saves",
            "criteria": SAVES,
            "cooldown_s": 20,
            "limits": {"per_user": {"times": 2, "per": "hour"}},
        },
        {"id": "dwell", "criteria": DWELL, "cooldown_s": 5, "interaction_timeout_s": 4},
        {"id": "edits", "criteria": EDITS, "holdout": 0.4, "limits": {"per_session": 1}},
    ]
    return {
        "schema": 1,
        "product_id": "p",
        "session": {"interaction_timeout_s": 10, "cooldown_period_s": 15},
        "tours": [{"id": "tour", "user_tour_id": "flow", "interaction_timeout_s": 8}],
        "limits": {"min_gap_s": gap},
        "triggers": triggers,
        **more,
    }


class Story:
    """What happens to one service."""

    def __init__(self, service: Service, clock: FakeClock) -> None:
        self.service, self.clock = service, clock
        self._events = 0

    async def act(
        self, session: str | None, user: str | None, *events: tuple[str, dict[str, Any]], ago: int = 0
    ) -> None:
        """One request; `ago`: seconds since it happened."""
        body = []
        for kind, data in events:
            self._events += 1
            row = {"event_id": f"e{self._events}-{self.clock.instant}", "type": kind, "data": data}
            row["occurred_at"] = str(self.clock.instant // SECOND - ago)
            body.append(
                row | ({"session_id": session} if session else {}) | ({"user_id": user} if user else {})
            )
        await post(self.service, "p", *body)

    async def click(self, title: str, session: str = "s", user: str | None = "u", ago: int = 0) -> None:
        data = {"type": "click", "title": title, "raw_url": "https://a.test/projects"}
        await self.act(session, user, ("action", data), ago=ago)

    async def put(self, rules: dict[str, Any]) -> None:
        """A config, and every session looked at anew: the service does that by and by."""
        await self.service.put_config("p", rules)
        await self.service._background.settle()

    async def wait(self, seconds: float, *, timers: bool = True) -> None:
        """Time passes; `timers` False: and nobody looks, as while the service is down."""
        end = self.clock.instant + round(seconds * SECOND)
        while timers:
            due = min((d for d in self.service.recorder.due.values()), default=end)
            if due >= end:
                break
            self.clock.instant = max(self.clock.instant, due + 1)
            await self.look()
        self.clock.instant = end

    async def look(self) -> None:
        """Fire what is due, in order."""
        now = self.clock.now()
        late = sorted((d, *key) for key, d in self.service.recorder.due.items() if d < now)
        jobs = [TimerJob(p, self.clock.new_id(), session_id=s) for _, p, s in late]
        if jobs:
            await self.service.recorder.submit(*jobs)


async def replayed(ledger: Ledger, **scope: Any) -> Report:
    async with ledger.reader() as conn:
        reports = [report async for _, report in replay.replay(conn, Scope(**scope))]
    return reports[-1]


def told(report: Report) -> list[tuple[str, str, str | None]]:
    """The divergences: kind, type, trigger."""
    return [(d.kind, d.what, (d.recorded or d.derived or {}).get("trigger_id")) for d in report.divergences]


async def ordinary(story: Story) -> None:
    """A bit of everything: offers, gates, chats, tours, late events, a merge, downtime, configs."""
    await story.click("save")
    await story.click("save")
    await story.wait(2)
    await story.click("save", session="s2")
    await story.act("s", "u", ("chat_message", {"role": "user", "text": "hello"}))
    await story.wait(40)
    await story.click("edit", ago=9)
    await story.act("s", "u", ("tour_started", {"tour_id": "flow"}), ("tour_step", {"tour_id": "flow"}))
    await story.wait(30)
    await story.click("save", session="a1", user="anon")
    await story.click("save", session="a1", user="anon")
    await story.act("a1", "u", ("user_identified", {"previous_id": "anon", "traits": {"timezone": "UTC"}}))
    await story.act(None, "u", ("goal_reached", {"goal_id": "g"}))
    await story.wait(45, timers=False)
    await story.click("save", session="a1")
    await story.look()
    await story.put(config(gap=0))
    await story.wait(25)
    for number in range(6):
        await story.click("save" if number % 2 else "edit", session=f"s{number}", user=f"u{number % 3}")
        await story.click("save", session=f"s{number}", user=f"u{number % 3}")
        await story.wait(number)
    await story.wait(60)
    await story.click("save")
