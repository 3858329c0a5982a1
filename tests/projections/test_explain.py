"""Decisions and silence explained, on a clock that the tests set."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from api.jobs import EngineJob, TimerJob
from api.service import Service
from domain import events, instants
from domain import run as domain_run
from domain.errors import NotFound
from domain.finding import Finding
from domain.instants import DAY, HOUR, MINUTE, SECOND, text
from domain.triggers import LATE
from eventstore import schema
from eventstore.engine import Ledger
from projections.lookups import DecisionQuery
from tests.api.inside import FakeClock, post, serving
from tests.api.serving import action, config, fact, saves, trigger
from tests.conftest import Run

Told = dict[str, Any]


class Product:
    """The product `acme` on a clock of its own, asked why."""

    def __init__(self, service: Service, clock: FakeClock) -> None:
        self.service, self.clock = service, clock

    async def put(self, *triggers: dict[str, Any], **more: Any) -> None:
        await self.service.put_config("acme", config("acme", triggers=list(triggers) or [trigger()], **more))

    async def post(self, *sent: dict[str, Any], after: float = 1) -> list[dict[str, Any]]:
        """The decisions of a batch recorded `after` seconds later."""
        self.clock.instant += round(after * SECOND)
        return (await post(self.service, "acme", *sent)).decisions

    async def why_not(self, name: str = "saves", session: str = "s", at: int | None = None) -> Told:
        return await self.service.why_not("acme", session, name, at)

    async def why(self, decision: dict[str, Any]) -> Told:
        return await self.service.decision("acme", decision["decision_id"])


@asynccontextmanager
async def acme(ledger: Ledger, **more: Any) -> AsyncIterator[Product]:
    clock = FakeClock()
    async with serving(ledger, clock, **more) as service:
        await service.timers.stop()  # nothing happens but what the test does
        yield Product(service, clock)


def ask(ledger: Ledger, run: Run, scenario: Callable[[Product], Awaitable[None]], **more: Any) -> None:
    async def whole() -> None:
        async with acme(ledger, **more) as product:
            await scenario(product)

    run(whole())


def codes(told: Told) -> list[str]:
    return [cause["cause"] for cause in told["causes"]]


def cause(told: Told, code: str) -> dict[str, Any]:
    (found,) = [c for c in told["causes"] if c["cause"] == code]
    return found


def closed(told: Told) -> list[str]:
    return [gate["reason"] for gate in told["gates"] if not gate["open"]]


def test_every_closed_gate_is_listed_and_the_first_named(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put(trigger(limits={"per_session": 1}, cooldown_s=600))
        (offered,) = await p.post(*saves("s"))
        (held,) = await p.post(action("s"))
        told = await p.why(held)
        assert (told["outcome"], told["reason"], told["blocked_by"]) == (
            "withheld",
            *["state_proactive_assistance"] * 2,
        )
        assert closed(told) == ["state_proactive_assistance", "trigger_cooldown", "limit_reached"]
        assert told["reproduced"] is True
        # It is recorded once an episode; what is asked of a later instant says the same.
        assert await p.post(action("s")) == []
        silent = await p.why_not()
        assert (silent["outcome"], silent["blocked_by"]) == ("silent", "state_proactive_assistance")
        assert cause(silent, "decision_nearby")["event_ids"] == [held["decision_id"]]
        p.clock.instant += 61 * SECOND  # the timeout: nobody has noticed it yet, and yet it counts
        cooling = await p.why_not()
        assert cooling["blocked_by"] == "cooldown_active"
        assert cooling["state"]["current_state"] == "thinking"
        assert cooling["state"]["cooldown_active"] is True
        assert offered["outcome"] == "offered"

    ask(ledger, run, scenario)


def test_an_outranked_trigger_names_its_winner(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put(trigger("first") | {"name": "The first"}, trigger("second"), trigger("third"))
        decisions = {d["trigger_id"]: d for d in await p.post(*saves("s"))}
        told = await p.why(decisions["second"])
        assert told["blocked_by"] == "outranked"
        found = cause(told, "outranked")
        assert "The first" in found["text"]
        assert found["event_ids"] == [decisions["first"]["decision_id"]]
        assert "The first" in (await p.service.evaluation("acme", "s", upto=3))["triggers"][2]["summary"]

    ask(ledger, run, scenario)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"limits": {"per_user": {"times": 1, "per": "day"}}}, "limit_reached"),
        ({"limits": {"min_gap_s": 3600}}, "min_gap"),
        ({"limits": {"quiet_hours": {"from": "00:00", "to": "23:59"}}}, "quiet_hours"),
    ],
)
def test_limits_of_the_product_are_named(
    ledger: Ledger, run: Run, changes: dict[str, Any], reason: str
) -> None:
    async def scenario(p: Product) -> None:
        await p.put(**changes)
        await p.post(*saves("s"))
        p.clock.instant += 10 * MINUTE
        (held,) = await p.post(*saves("later", "u_1" if reason != "quiet_hours" else "u_2"))
        told = await p.why(held)
        assert (told["blocked_by"], told["reproduced"]) == (reason, True)
        assert reason in closed(told)

    ask(ledger, run, scenario)


def test_a_held_out_user_is_said_to_be(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put(trigger(holdout=1.0))
        (held,) = await p.post(*saves("s"))
        told = await p.why(held)
        assert (told["blocked_by"], told["reproduced"]) == ("holdout", True)

    ask(ledger, run, scenario)


def test_what_was_noticed_too_late_says_when_it_was(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        dwell = {"type": "user_page_dwell", "dwell_threshold_seconds": 30}
        await p.put(trigger("dwell", criteria=dwell))
        await p.post(action("s", data={"type": "pageview", "title": "P", "raw_url": "https://a.b/p"}))
        p.clock.instant += 30 * SECOND + LATE + 2 * SECOND
        await p.service.recorder.submit(TimerJob("acme", "batch", session_id="s"))
        (missed,) = (await p.service.decisions("acme", DecisionQuery()))["decisions"]
        told = await p.why(missed)
        assert (told["outcome"], told["blocked_by"], told["reproduced"]) == ("withheld", "missed", True)
        assert "7 s" in cause(told, "missed")["text"]
        assert told["trace"][0]["step"] == "timer"
        # Every trigger of that instant is judged by what that evaluation stood on.
        as_of = await p.service.evaluation("acme", "s", at=instants.parse(told["at"]))
        assert (as_of["triggers"][0]["outcome"], as_of["triggers"][0]["blocked_by"]) == ("withheld", "missed")

    ask(ledger, run, scenario)


def test_late_events_and_a_clock_that_is_off_are_causes(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put()
        late = action("s", occurred_at=text(p.clock.instant - 40 * SECOND))
        await p.post(action("s"), late)
        off = action(
            "s", occurred_at=text(p.clock.instant - 3 * DAY), sent_at=text(p.clock.instant - 2 * DAY)
        )
        await p.post(off)
        told = await p.why_not()
        assert cause(told, "late_events")["event_ids"] == [late["event_id"]]
        assert "41 s" in cause(told, "late_events")["text"]
        assert cause(told, "clock_suspect")["event_ids"] == [off["event_id"]]
        p.clock.instant += 10 * MINUTE
        told = await p.why_not()
        assert codes(told) == ["no_events_since"]
        assert "10 min" in cause(told, "no_events_since")["text"]

    ask(ledger, run, scenario)


def test_several_users_in_one_session_are_a_cause_unless_they_are_one(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put()
        await p.post(action("s", user="anonymous"), action("s", user="u_1"))
        assert "anonymous" in cause(await p.why_not(), "user_mismatch")["text"]
        await p.post(fact("user_identified", "s", "u_1", previous_id="anonymous"))
        assert "user_mismatch" not in codes(await p.why_not())
        await p.post(action("nobody", user=None))
        assert "no_user" in codes(await p.why_not(session="nobody"))

    ask(ledger, run, scenario)


def test_what_could_not_be_stored_or_judged_is_a_cause(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(p: Product) -> None:
        await p.put()
        await p.post(action("s"))
        await post(p.service, "acme", action("s"), action("s", type="nonsense"), atomic=False)
        with monkeypatch.context() as patched:
            patched.setattr(domain_run, "evaluate", _broken)
            await p.post(action("s"))
        told = await p.why_not()
        assert "type" in cause(told, "rejected_input")["text"]
        assert "ZeroDivisionError" in cause(told, "evaluation_failed")["text"]
        # All was met by then, but nobody could tell: silence, and no wrong reason.
        assert (told["outcome"], told["blocked_by"], told["reason"]) == ("silent", None, "ok")
        assert told["summary"].startswith("Not offered")
        assert "not_evaluated" in codes(told)
        with monkeypatch.context() as patched:
            patched.setattr("projections.why.asof.triggers.evaluate", _broken)
            told = await p.why_not()
        assert (told["blocked_by"], told["criteria"]) == ("criteria_unknown", None)
        assert "evaluation_failed" in codes(told)

    ask(ledger, run, scenario)


def _broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError


def test_the_config_in_force_then_decides_and_what_it_lacked_is_said(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put(trigger("old"))
        await p.post(*saves("s", count=2))
        first = p.clock.instant + 5
        p.clock.instant += 10 * SECOND
        await p.put(trigger("old", criteria=trigger()["criteria"] | {"at_least": 2}), trigger("new"))
        told = await p.why_not("old")
        assert told["config_revision"].startswith("r2-")
        assert (told["blocked_by"], codes(told)) == (None, ["not_evaluated"])  # a put evaluates nothing
        assert "r2-" in told["causes"][0]["text"]
        then = await p.why_not("old", at=first)
        assert then["config_revision"].startswith("r1-")
        assert then["blocked_by"] == "criteria_unmet"
        assert "reads otherwise" in cause(then, "config_changed")["text"]
        lacking = await p.why_not("new", at=first)
        assert (lacking["blocked_by"], lacking["criteria"], lacking["gates"]) == (
            "trigger_not_in_revision",
            None,
            [],
        )
        assert " has it, from " in cause(lacking, "trigger_not_in_revision")["text"]
        assert "r2-" in cause(lacking, "trigger_not_in_revision")["text"]
        assert [t["trigger_id"] for t in lacking["other_triggers"]] == ["old"]
        assert (await p.why_not("never", at=first))["blocked_by"] == "unknown_trigger"
        before = await p.why_not("old", at=first - DAY)
        assert before["blocked_by"] == "no_config"
        assert "no_config" in codes(before)
        p.clock.instant += SECOND
        await p.put(trigger("old"))
        dropped = await p.why_not("new")
        assert dropped["blocked_by"] == "trigger_not_in_revision"
        assert "r2-" in cause(dropped, "trigger_not_in_revision")["text"]
        assert " had it, until " in cause(dropped, "trigger_not_in_revision")["text"]

    ask(ledger, run, scenario)


def test_a_window_that_its_number_of_actions_cuts_is_not_told_in_seconds(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        criteria = {"type": "count", "where": {"title_contains": "save"}, "at_least": 3}
        await p.put(trigger(criteria=criteria), context={"lookback_s": 120, "max_actions": 4})
        other = {"type": "click", "title": "Other"}
        await p.post(*saves("s", count=2), *[action("s", data=other) for _ in range(2)])
        assert "2 of 3 actions “save” in the last 120 s" in (await p.why_not())["summary"]
        await p.post(action("s", data=other))
        told = await p.why_not()
        assert "1 of 3 actions “save” in the context window" in told["summary"]
        assert told["criteria"]["text"] == "1 of 3 actions “save” in the context window"
        (decided,) = await p.post(*saves("s", count=3))
        assert "3 actions “save” in the context window" in decided["summary"]

    ask(ledger, run, scenario)


def test_a_session_without_actions_says_so(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put(trigger(tours=["bulk-tour"]))
        began = p.clock.instant
        await p.post(fact("chat_message", "s", role="user", text="hello"), after=30)
        told = await p.why_not()
        assert (told["blocked_by"], told["reason"]) == ("no_actions", "no_actions")
        assert told["criteria"]["observed"] == 0
        early = await p.why_not(at=began + SECOND)
        assert early["blocked_by"] == "no_actions"
        assert "first event" in cause(early, "no_actions")["text"]
        assert codes(early) == ["no_actions"]  # of pages and users nothing could be known yet
        with pytest.raises(NotFound):
            await p.why_not(session="never seen")

    ask(ledger, run, scenario)


def test_an_erased_person_leaves_verdicts_but_nothing_is_claimed_of_them(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        where = {"title_contains": "save", "properties": {"plan": "pro"}}
        free = {"type": "absent", "where": {"properties": {"plan": "pro"}}, "within": "session"}
        left = {"type": "current_page", "url_contains": "/home"}
        await p.put(
            trigger(criteria={"type": "count", "where": where, "at_least": 3, "within_s": 120}),
            trigger("free", criteria=free),
            trigger("left", criteria={"operator": "AND", "conditions": [free, left]}),
        )
        pro = {
            "type": "click",
            "title": "Save",
            "raw_url": "https://a.b/projects",
            "properties": {"plan": "pro"},
        }
        (decision,) = await p.post(*[action("s", data=pro) for _ in range(3)])
        told = await p.why(decision)
        assert (told["reproduced"], told["outcome"]) == (True, "offered")
        p.clock.instant += SECOND
        assert (await p.why_not())["blocked_by"] == "state_proactive_assistance"
        async with ledger.transaction() as conn:
            await conn.execute(sa.delete(schema.data_keys))
        told = await p.why(decision)
        assert (told["reproduced"], told["criteria"]["verdict"], told["criteria"]["observed"]) == (
            None,
            True,
            3,
        )
        silent = await p.why_not()
        assert (silent["blocked_by"], silent["reason"]) == ("erased", "erased")
        assert "erased" in silent["summary"]
        free_now = await p.why_not("free")
        assert (free_now["blocked_by"], free_now["would_fire_if"]) == ("erased", [])
        assert (free_now["criteria"]["verdict"], free_now["criteria"]["observed"]) == (None, None)
        assert free_now["criteria"]["text"] == "absent unknown (erased)"
        # what stays readable settles it all the same
        assert (await p.why_not("left"))["blocked_by"] == "criteria_unmet"

    ask(ledger, run, scenario)


def test_a_predicate_that_is_gone_leaves_it_open_whether_a_decision_comes_out_again(
    ledger: Ledger, run: Run
) -> None:
    calls: list[bool] = [True]

    def often(window: Any, at: int) -> Finding:
        return Finding("predicate", calls[0], len(window))

    rules = [
        trigger("theirs", criteria={"type": "predicate", "predicate": "often"}),
        trigger("quiet", criteria={"type": "predicate", "predicate": "gone"}),
    ]

    async def scenario(p: Product) -> None:
        await p.put(*rules)
        (decision,) = await p.post(action("s"))
        told = await p.why(decision)
        assert (told["outcome"], told["criteria"]["verdict"]) == ("offered", True)
        assert told["reproduced"] is not False
        calls[0] = False
        p.clock.instant += SECOND
        assert (await p.why_not("theirs"))["criteria"]["verdict"] is False
        assert (await p.why_not("quiet"))["blocked_by"] == "criteria_unknown"

    ask(ledger, run, scenario, predicates={"often": often})


def test_a_label_corrected_later_is_known_now_and_was_not_known_then(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put()
        wrong = action("s", data={"type": "click", "title": "Cancel", "raw_url": "https://a.b/projects"})
        await p.post(*saves("s", count=2), wrong)
        then = p.clock.instant + 5
        p.clock.instant += HOUR
        correction = events.ActionRelabelled(wrong["event_id"], "labels-2", title="Save changes")
        job = EngineJob("acme", "batch", facts=(("session-s", correction, "correction"),))
        await p.service.recorder.submit(job)
        told = await p.why_not(at=then)
        assert (told["criteria"]["observed"], told["blocked_by"]) == (2, "criteria_unmet")
        assert len(told["known_now"]["late_events"]) == 1
        assert (told["known_now"]["outcome"], told["known_now"]["criteria"]["observed"]) == ("offered", 3)

    ask(ledger, run, scenario)


def test_a_newer_engine_is_said_to_be_one(ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(p: Product) -> None:
        await p.put()
        (decision,) = await p.post(*saves("s"))
        monkeypatch.setattr("projections.version.engine_version", lambda: "2-0123456789ab")
        told = await p.why(decision)
        assert told["engine_version_now"] == "2-0123456789ab"
        assert told["engine_version_then"] != told["engine_version_now"]
        assert "otherwise" in cause(told, "engine_changed")["text"]

    ask(ledger, run, scenario)


def test_each_leaf_and_change_is_told_in_words_and_all_of_it_is_json(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        both = {
            "operator": "AND",
            "conditions": [{"type": "current_page", "url_contains": "/x"}, trigger()["criteria"]],
        }
        await p.put(trigger(criteria=both))
        await p.post(*saves("s", count=1))
        told = await p.why_not()
        leaves = told["criteria"]["conditions"]
        assert [leaf["verdict"] for leaf in leaves] == [False, False]
        assert all(leaf["text"] for leaf in leaves)
        assert "text" not in told["criteria"]
        assert 1 <= len(told["would_fire_if"]) <= 3
        assert json.loads(json.dumps(told)) == told

    ask(ledger, run, scenario)


def test_only_what_is_about_the_offer_is_told_with_it(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put(
            trigger(goal="edited", limits={}), session={"interaction_timeout_s": 5, "cooldown_period_s": 1}
        )
        (offer,) = await p.post(*saves("s"))
        nudge = offer["nudge_id"]
        await p.post(fact("chat_message", "s", role="assistant", text="How can I help?"))
        await p.post(fact("goal_reached", "s", goal_id="another"))
        await p.post(fact("nudge_shown", "tablet", nudge_id=nudge))  # the user's other session
        await p.post(fact("goal_reached", "tablet", goal_id="edited"))
        told = await p.why(offer)
        assert [r["type"] for r in told["responses"]] == ["nudge_shown", "goal_reached"]
        assert [step["step"] for step in told["trace"]][-2:] == ["shown", "goal"]
        p.clock.instant += 20 * SECOND
        (second,) = await p.post(*saves("s"))
        assert second["outcome"] == "offered"
        await p.post(fact("chat_message", "s", role="user", text="thanks"))
        p.clock.instant += 2 * DAY
        await p.post(fact("goal_reached", "s", goal_id="edited"))
        assert [r["type"] for r in (await p.why(offer))["responses"]] == ["nudge_shown", "goal_reached"]
        assert [r["type"] for r in (await p.why(second))["responses"]] == ["chat_message"]
        ended = cause(await p.why(offer), "superseded")["text"]
        assert ended.endswith(f"a newer nudge took its place at {second['at']}.")

    ask(ledger, run, scenario)


def test_an_offer_that_a_newer_one_replaced_is_not_called_open(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put(session={"interaction_timeout_s": 5, "cooldown_period_s": 1})
        (offer,) = await p.post(*saves("s"))
        assert "yet" in cause(await p.why(offer), "no_subscriber")["text"]
        p.clock.instant += 40 * SECOND
        (second,) = await p.post(action("s"))
        assert "while it was open" in cause(await p.why(offer), "no_subscriber")["text"]
        assert "yet" in cause(await p.why(second), "no_subscriber")["text"]

    ask(ledger, run, scenario)


def test_an_offer_that_nobody_could_see_stays_one_after_it_has_expired(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put(trigger(expires_s=60))
        (offer,) = await p.post(*saves("s"))
        assert "yet" in cause(await p.why(offer), "no_subscriber")["text"]
        p.clock.instant += 2 * MINUTE
        assert "while it was open" in cause(await p.why(offer), "no_subscriber")["text"]
        (other,) = await p.post(*saves("t", user="u_2"))
        await p.post(fact("nudge_shown", "t", nudge_id=other["nudge_id"]))
        assert codes(await p.why(other)) == []
        p.clock.instant += 2 * MINUTE
        assert codes(await p.why(other)) == ["offer_expired"]

    ask(ledger, run, scenario)


def test_a_decision_that_cannot_be_derived_any_more_is_told_as_it_was_recorded(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def underivable(*_: Any) -> None:
        return None

    async def scenario(p: Product) -> None:
        await p.put()
        (offer,) = await p.post(*saves("s"))
        before = await p.why(offer)
        monkeypatch.setattr("projections.rederive.derive", underivable)
        told = await p.why(offer)
        assert told["reproduced"] is None
        for same in ("summary", "criteria", "gates", "state", "trace"):
            assert told[same] == before[same]

    ask(ledger, run, scenario)


def test_a_timer_stands_in_the_trace_where_no_event_caused_the_decision(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put(trigger(cooldown_s=1), session={"interaction_timeout_s": 10, "cooldown_period_s": 0.5})
        await p.post(*saves("s"))
        p.clock.instant += 10 * SECOND + 5
        await p.service.recorder.submit(TimerJob("acme", "batch", session_id="s"))
        held = (await p.service.decisions("acme", DecisionQuery()))["decisions"][0]
        told = await p.why(held)
        assert told["reason"] == "cooldown_active"
        assert told["trace"][0]["text"] == "Nobody interacted for 10 s: the session timed out."
        assert [step["step"] for step in told["trace"]] == ["timer", "evaluation", "gates"]
        assert "cooldown_active" in told["trace"][-1]["text"]

    ask(ledger, run, scenario)


def test_what_was_noticed_under_a_newer_config_is_explained_under_it(ledger: Ledger, run: Run) -> None:
    async def scenario(p: Product) -> None:
        await p.put(session={"interaction_timeout_s": 10, "cooldown_period_s": 30})
        (offer,) = await p.post(*saves("s"))
        p.clock.instant += 40 * SECOND
        await p.put(trigger(criteria=trigger()["criteria"] | {"at_least": 9}))
        await p.service.recorder.submit(TimerJob("acme", "batch", session_id="s"))
        due = instants.parse(offer["at"]) + 10 * SECOND
        told = await p.why_not(at=due)
        assert told["config_revision"].startswith("r2-")
        assert (told["criteria"]["required"], told["criteria"]["verdict"]) == (">= 9", False)
        assert (await p.why_not(at=due - 1))["config_revision"].startswith("r1-")

    ask(ledger, run, scenario)


def test_a_predicate_of_another_version_judges_no_past_instant(ledger: Ledger, run: Run) -> None:
    def often(window: Any, at: int) -> bool:
        return len(window) > 9

    async def scenario(p: Product) -> None:
        await p.put(trigger("theirs", criteria={"type": "predicate", "predicate": "often"}))
        await p.post(action("s"))
        then = p.clock.instant + 5
        p.clock.instant += SECOND
        assert (await p.why_not("theirs", at=then))["criteria"]["verdict"] is False
        often.version = "2"  # type: ignore[attr-defined]
        told = await p.why_not("theirs", at=then)
        assert (told["criteria"]["verdict"], told["blocked_by"]) == (None, "criteria_unknown")
        assert "version" in told["criteria"]["text"]
        newer = events.EngineActivated(p.service.engine.engine_version, {"often": "2"}, "tz")
        await p.service.recorder.submit(EngineJob("acme", "batch", facts=(("product", newer, "newer"),)))
        assert (await p.why_not("theirs", at=then))["blocked_by"] == "criteria_unknown"
        p.clock.instant += SECOND
        assert (await p.why_not("theirs"))["criteria"]["verdict"] is False

    ask(ledger, run, scenario, predicates={"often": often})
