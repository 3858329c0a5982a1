"""Figures of triggers over time, and the goals that count for an offer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import overview
from api.service import Service
from domain.errors import InvalidInput
from domain.instants import DAY, HOUR, MINUTE, SECOND, parse, text
from eventstore.engine import Ledger
from projections import lookups
from projections.tables import ATTRIBUTION
from projections.views import figures
from tests.api.inside import START, FakeClock, post, serving
from tests.api.serving import Server, action, config, fact, saves, trigger
from tests.conftest import Run

GOAL = "bulk_edit_used"
SHORT: dict[str, Any] = {"session": {"interaction_timeout_s": 10, "cooldown_period_s": 5}}


def titled(name: str, **more: Any) -> dict[str, Any]:
    """A trigger that one action of that title meets."""
    return trigger(name, criteria=_once(name), **more) | {"name": f"The {name}"}


def _once(title: str) -> dict[str, Any]:
    return {"type": "count", "where": {"title_equals": title}, "at_least": 1, "within_s": 1}


async def _goals(service: Service, *decisions: dict[str, Any]) -> list[int | None]:
    """When the goal of each offer was reached."""
    async with service.ledger.reader() as conn:
        found = [await lookups.nudge(conn, "acme", d["nudge_id"]) for d in decisions]
    assert all(row is not None and row["goal"] == GOAL for row in found)
    return [row["goal_at"] for row in found if row is not None]


# --- goals --------------------------------------------------------------------------------------------


def test_the_first_goal_within_a_day_counts_for_every_open_offer_of_its_user(
    ledger: Ledger, run: Run
) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            await service.put_config("acme", config("acme", triggers=[trigger(goal=GOAL)], **SHORT))
            (old,) = (await post(service, "acme", *saves("a"))).decisions
            clock.instant += 20 * SECOND
            (newer,) = (await post(service, "acme", *saves("b"))).decisions
            (other,) = (await post(service, "acme", *saves("c", user="u_2"))).decisions
            clock.instant = parse(old["at"]) + ATTRIBUTION  # the last instant that counts for the older one
            await post(service, "acme", fact("goal_reached", "d", goal_id="another goal"))
            assert await _goals(service, old, newer, other) == [None, None, None]
            clock.instant += SECOND
            await post(service, "acme", fact("goal_reached", "d", goal_id=GOAL))
            first = await _goals(service, old, newer, other)
            assert first == [None, clock.now(), None]
            clock.instant += SECOND
            await post(service, "acme", fact("goal_reached", "b", goal_id=GOAL))
            assert await _goals(service, old, newer, other) == first

    run(scenario())


def test_the_last_microsecond_of_the_day_still_counts(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            await service.put_config("acme", config("acme", triggers=[trigger(goal=GOAL)]))
            (offer,) = (await post(service, "acme", *saves("a"))).decisions
            clock.instant = last = parse(offer["at"]) + ATTRIBUTION
            clock.instant -= 1  # a batch gets an instant of its own, a microsecond after what was told
            await post(service, "acme", fact("goal_reached", "d", goal_id=GOAL))
            assert await _goals(service, offer) == [last]

    run(scenario())


@pytest.mark.parametrize(
    ("offered_to", "reached_by", "session", "counts"),
    [
        (None, None, "a", True),
        (None, None, "b", False),
        ("u_1", None, "a", True),  # who reached it is not said, but where
        (None, "u_1", "a", True),
        ("u_1", "u_2", "a", False),
        ("u_1", "u_1", None, True),  # in the user's own stream
    ],
)
def test_where_the_user_is_unknown_a_goal_counts_in_its_session(
    ledger: Ledger, run: Run, offered_to: str | None, reached_by: str | None, session: str, counts: bool
) -> None:
    async def scenario() -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme", triggers=[trigger(goal=GOAL)]))
            (offer,) = (await post(service, "acme", *saves("a", user=offered_to))).decisions
            goal = fact("goal_reached", session, user=reached_by, goal_id=GOAL)
            await post(service, "acme", {k: v for k, v in goal.items() if v is not None})
            (reached,) = await _goals(service, offer)
            assert (reached is not None) == counts

    run(scenario())


def test_an_offer_by_the_batch_that_brought_the_goal_came_after_it(ledger: Ledger, run: Run) -> None:
    """They share their instant; the order of the ledger decides. By way of either writer."""

    async def scenario() -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme", triggers=[trigger(goal=GOAL)]))
            batch = [*saves("a"), fact("goal_reached", "a", goal_id=GOAL)]
            (offer,) = (await post(service, "acme", *batch)).decisions
            assert await _goals(service, offer) == [None]
            await post(service, "acme", fact("goal_reached", "a", user="u_1", goal_id=GOAL))
            assert (await _goals(service, offer))[0] is not None

    run(scenario())


# --- figures ------------------------------------------------------------------------------------------


def test_figures_count_what_happened_in_the_bucket_of_the_offer(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        clock = FakeClock(START - START % HOUR)
        async with serving(ledger, clock) as service:
            rules = [titled("idle"), titled("first", goal=GOAL), titled("second"), titled("gone")]
            await service.put_config("acme", config("acme", triggers=rules, **SHORT))
            start = clock.instant
            offers = [
                (await post(service, "acme", action(f"a{n}", "first", user=f"u{n}"))).decisions[0]
                for n in range(3)
            ]
            await post(service, "acme", action("a0", "second", user="u0"))  # withheld: state
            clock.instant += 5 * MINUTE
            for kind in ("nudge_shown", "nudge_dismissed"):
                await post(service, "acme", fact(kind, "a1", user="u1", nudge_id=offers[1]["nudge_id"]))
            clock.instant += 55 * MINUTE
            await post(service, "acme", fact("goal_reached", "a1", user="u1", goal_id=GOAL))
            await post(service, "acme", action("b", "gone", user="u9"))
            await post(service, "acme", fact("option_clicked", "b", user="u9", option_id="yes"))
            await post(service, "acme", action("b1", "first", user="u8"))
            clock.instant += 20 * SECOND
            await post(service, "acme", action("b2", "second", user="u8"))  # supersedes: no answer
            await service.put_config("acme", config("acme", triggers=rules[:3], **SHORT))
            clock.instant += MINUTE
            found = await overview.triggers(service, "acme", start, clock.instant, HOUR)
            await _agrees(service, found)
            assert (found["from"], found["to"]) == (text(start), text(clock.instant))
            assert found["bucket_s"] == 3600
            idle, first, second, gone = found["triggers"]
            assert [t["trigger_id"] for t in found["triggers"]] == ["idle", "first", "second", "gone"]
            assert [t["in_force"] for t in found["triggers"]] == [True, True, True, False]
            assert gone["name"] == "The gone"
            assert (idle["name"], idle["withheld"], idle["series"]) == ("The idle", {}, [])
            assert not any(idle[what] for what in ("offered", "shown", "answered", "dismissed", "goal"))
            bucket, later = first["series"]
            assert [(row["at"], row["offered"]) for row in (bucket, later)] == [
                (text(start), 3),
                (text(start + HOUR), 1),
            ]
            assert [bucket[what] for what in ("shown", "answered", "dismissed", "goal")] == [1, 0, 1, 1]
            assert second["withheld"] == {"state_proactive_assistance": 1}
            assert [row["withheld"] for row in second["series"] if row["withheld"]] == [1]
            assert (first["offered"], first["answered"], first["dismissed"]) == (4, 0, 1)
            assert (gone["offered"], gone["answered"], gone["dismissed"]) == (1, 1, 0)
            assert gone["series"][0]["at"] == text(start + HOUR)
            nothing = await overview.triggers(service, "acme", start - DAY, start, None)
            assert {t["trigger_id"] for t in nothing["triggers"]} == {"idle", "first", "second"}
            assert not any(t["offered"] or t["withheld"] or t["series"] for t in nothing["triggers"])

    run(scenario())


async def _agrees(service: Service, found: dict[str, Any]) -> None:
    """The figures are what the list of decisions says, and each series adds up to its totals."""
    query = lookups.DecisionQuery(start=parse(found["from"]), end=parse(found["to"]), limit=1000)
    listed = (await service.decisions("acme", query))["decisions"]
    for row in found["triggers"]:
        mine = [d for d in listed if d["trigger_id"] == row["trigger_id"]]
        assert row["offered"] == sum(d["outcome"] == "offered" for d in mine)
        assert row["withheld"] == Counter(d["reason"] for d in mine if d["outcome"] == "withheld")
        for what in ("offered", "shown", "answered", "dismissed", "goal"):
            assert row[what] == sum(bucket[what] for bucket in row["series"])
        assert sum(row["withheld"].values()) == sum(bucket["withheld"] for bucket in row["series"])
        assert all(any(v for k, v in bucket.items() if k != "at") for bucket in row["series"])


def test_a_window_holds_its_begin_and_not_its_end(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme"))
            (offer,) = (await post(service, "acme", *saves("a"))).decisions
            at = parse(offer["at"])
            for start, end, count in ((at, at + 1, 1), (at - 1, at, 0), (at + 1, at + 2, 0)):
                found = await overview.triggers(service, "acme", start, end, SECOND)
                assert found["triggers"][0]["offered"] == count
            with pytest.raises(InvalidInput, match="before"):
                await overview.triggers(service, "acme", at, at, None)
            with pytest.raises(InvalidInput, match="at least 87 s"):
                await overview.triggers(service, "acme", at - DAY, at, 86 * SECOND)
            await overview.triggers(service, "acme", at - DAY, at, 87 * SECOND)

    run(scenario())


@given(st.integers(SECOND, 400 * 365 * DAY))
def test_a_bucket_is_whole_seconds_and_cuts_any_window_into_sixty_or_fewer(span: int) -> None:
    bucket = figures.bucket_of(0, span)
    assert bucket % SECOND == 0
    assert span / bucket <= figures.MOST


def test_common_windows_have_two_to_five_dozen_round_buckets() -> None:
    spans = (HOUR, 12 * HOUR, DAY, 3 * DAY, 7 * DAY, 30 * DAY, 90 * DAY)
    lengths = [figures.bucket_of(0, span) for span in spans]
    assert lengths == [MINUTE, 30 * MINUTE, 30 * MINUTE, 2 * HOUR, 4 * HOUR, 12 * HOUR, 2 * DAY]
    assert all(24 <= span / length <= 60 for span, length in zip(spans, lengths, strict=True))


# --- over HTTP ----------------------------------------------------------------------------------------


def test_the_last_week_is_the_default(server: Server, product: str) -> None:
    server.post(product, *saves("s"))
    found = server.get(f"/v1/products/{product}/triggers")
    assert parse(found["to"]) - parse(found["from"]) == 7 * DAY
    assert found["bucket_s"] == 4 * 3600
    (row,) = found["triggers"]
    assert (row["trigger_id"], row["name"], row["offered"]) == ("saves", "Saves one by one", 1)
    assert parse(row["series"][0]["at"]) % (4 * HOUR) == 0


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-05-19"}, "to"),
        ({"from": "1800000000", "to": "1800000000"}, "from"),
        ({"bucket_s": "0"}, "bucket_s"),
        ({"bucket_s": "1"}, "bucket_s"),
        ({"bucket_s": "x"}, "bucket_s"),
    ],
)
def test_bad_windows_are_refused_with_their_path(
    server: Server, product: str, query: dict[str, str], where: str
) -> None:
    answer = server.http.get(f"/v1/products/{product}/triggers", params=query)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [fault["path"] for fault in answer.json()["errors"]] == [where]
