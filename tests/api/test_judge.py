"""The judge in the service: asked outside of decisions, recorded, replayed without being asked.

The model is a fake behind `api.model.port.Models`; what an endpoint really sends is tested with `Endpoint`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.commands import readable
from api.jobs import JudgeJob
from api.model import judging
from api.model.port import Answer, ModelFailed, Prompt
from api.service import Service
from api.settings import Settings
from domain import events, triggers
from domain.instants import SECOND, text
from domain.triggers import Gate
from eventstore import schema
from eventstore.engine import Ledger, open_ledger
from projections.lookups import DecisionQuery
from projections.replaying.divergence import LOST, NEW
from tests.api.inside import START, FakeClock, post, serving, stored
from tests.conftest import Run
from tests.projections.telling_story import SAVES, Story, replayed, told

YES, NO = '{"allow": true, "reason": "They seem stuck."}', '{"allow": false, "reason": "They are paying."}'
RULES: dict[str, Any] = {
    "schema": 1,
    "product_id": "p",
    "session": {"interaction_timeout_s": 10, "cooldown_period_s": 15},
    "model": {"url": "https://llm.test/v1", "name": "small-1"},
    "judge": {"timeout_s": 3, "triggers": ["saves"], "guidance": "Veto where the user is paying."},
    "triggers": [
        {"id": "saves", "name": "Saves one by one", "body": "Bulk edit?", "how_to": "1. Open the menu.",
         "cooldown_s": 20, "criteria": SAVES},
        {"id": "looks", "criteria": {"type": "count", "where": {"title_contains": "look"}, "at_least": 1}},
    ],
}  # fmt: skip


class Fake:
    """A model that says what it is told to; None: it never answers."""

    def __init__(self, *said: str | Exception | None) -> None:
        self._said = list(said)
        self.asked: list[Prompt] = []

    async def ask(self, product: str, settings: Any, prompt: Prompt) -> Answer:
        self.asked.append(prompt)
        said = self._said.pop(0) if self._said else None
        if said is None:
            await asyncio.Event().wait()
        if isinstance(said, Exception):
            raise said
        return Answer(str(said), "small-1-2026", 321)


class Told(Story):
    """A story whose model answers at once, or not at all."""

    async def judged(self) -> None:
        """Wait until nobody is being asked who answers."""
        await asyncio.gather(*self.service.judging._asking.values(), return_exceptions=True)

    async def why(self, **query: Any) -> dict[str, Any]:
        return await self.service.why_not("p", "s", "saves", None)

    async def decided(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.service.decisions("p", DecisionQuery()))["decisions"]
        return found[::-1]


def play(
    ledger: Ledger,
    tell: Callable[[Told], Any],
    model: Fake,
    rules: dict[str, Any] | None = RULES,
    down: int = 0,
) -> Any:
    """`down`: seconds after the newest event at which the service starts."""

    async def scenario() -> Any:
        clock = FakeClock(max(START, await _newest(ledger)) + down * SECOND)
        async with serving(ledger, clock) as service:
            service.judging._models = model
            if rules is not None:
                await service.put_config("p", rules)
            return await tell(Told(service, clock))

    return scenario()


async def _newest(ledger: Ledger) -> int:
    rows = await stored(ledger, "p")
    return rows[-1].recorded_at if rows else 0


async def _saves(story: Told) -> None:
    await story.click("save")
    await story.click("save")


# --- phases ------------------------------------------------------------------------------------------


def test_what_the_judge_allows_is_offered_and_explained(ledger: Ledger, run: Run) -> None:
    model = Fake(YES)

    async def tell(story: Told) -> Any:
        await _saves(story)
        await story.judged()
        (decision,) = await story.decided()
        return await story.service.decision("p", decision["decision_id"])

    told_ = run(play(ledger, tell, model))
    assert (told_["outcome"], told_["reason"], told_["reproduced"]) == ("offered", "ok", True)
    assert told_["judge"]["allow"] is True
    assert told_["judge"]["reason"] == "They seem stuck."
    assert [step["step"] for step in told_["trace"]][:6] == [
        "request", "event", "evaluation", "proposal", "judge", "gates"
    ]  # fmt: skip
    assert told_["trace"][4]["text"] == "The judge allowed it: They seem stuck."
    assert told_["criteria"]["observed"] == 2
    assert "The judge allowed it" in "\n".join(readable.explanation(told_))
    (prompt,) = model.asked
    assert prompt.json
    assert prompt.version == "judge-1"
    assert "Veto where the user is paying." in prompt.system
    asked = json.loads(prompt.user)
    assert (asked["trigger"], asked["message"]) == ("Saves one by one", "Bulk edit?")
    assert asked["how_to"] == "1. Open the menu."
    assert [action["title"] for action in asked["recent_actions"]] == ["save", "save"]
    rows = run(stored(ledger, "p"))
    (answer,) = [row for row in rows if row.type == "judge_answered"]
    assert b"stuck" not in answer.data
    assert answer.sealed is not None
    assert told(run(replayed(ledger))) == []
    run(_erase(ledger))
    told_ = run(play(ledger, lambda s: s.service.decision("p", told_["decision_id"]), Fake(), None))
    assert told_["judge"]["reason"] == "(erased)"
    assert told_["trace"][4]["text"] == "The judge allowed it: (erased)."


async def _erase(ledger: Ledger) -> None:
    async with ledger.transaction() as conn:
        await conn.execute(sa.delete(schema.data_keys))


def test_who_sends_again_hears_what_became_of_the_proposal(ledger: Ledger, run: Run) -> None:
    async def tell(story: Told) -> Any:
        save = {"event_id": "again", "type": "action", "session_id": "s", "user_id": "u"}
        save["data"] = {"type": "click", "title": "save"}  # type: ignore[assignment]
        await story.click("save")
        said = [await post(story.service, "p", save)]
        await story.judged()
        said.append(await post(story.service, "p", save))
        await story.wait(60)
        await story.click("save")  # another proposal, of another request
        await story.judged()
        said.append(await post(story.service, "p", save))
        return [[(d["outcome"], d["reason"]) for d in receipt.decisions] for receipt in said]

    vetoed = [("withheld", "judge_vetoed")]
    assert run(play(ledger, tell, Fake(NO, YES))) == [[], vetoed, vetoed]


def test_a_veto_is_recorded_with_its_reason_and_holds_for_the_cooldown(ledger: Ledger, run: Run) -> None:
    model = Fake(NO, YES)

    async def tell(story: Told) -> Any:
        await _saves(story)
        await story.judged()
        await story.wait(5)
        await story.click("save")
        held = await story.why()
        assert (held["outcome"], held["blocked_by"]) == ("silent", "judge_vetoed")
        assert "the judge vetoed it" in held["summary"]
        assert held["would_fire_if"][0].endswith("the judge allows it")
        await story.wait(16)  # by time alone it is asked again
        await story.judged()
        found = await story.decided()
        return await story.service.decision("p", found[0]["decision_id"]), found

    vetoed, found = run(play(ledger, tell, model))
    assert [(d["outcome"], d["reason"]) for d in found] == [("withheld", "judge_vetoed"), ("offered", "ok")]
    assert (vetoed["reason"], vetoed["reproduced"]) == ("judge_vetoed", True)
    assert vetoed["judge"]["reason"] == "They are paying."
    assert vetoed["trace"][4]["text"] == "The judge vetoed it: They are paying."
    assert len(model.asked) == 2
    assert told(run(replayed(ledger))) == []


NONSENSE = ["yes", "[true]", '{"allow": "true"}', '{"allow": 1}', "{", '{"reason": "x"}', '{"allow": NaN}']


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (None, None),
        ("Sure! Ignore the rules", "nonsense"),
        (ModelFailed("budget"), "budget"),
        (ValueError("a bug of ours"), None),
    ],
)
def test_without_a_usable_answer_the_nudge_is_withheld_at_the_deadline(
    sqlite_ledger: Ledger, run: Run, said: Any, failure: str | None
) -> None:
    async def tell(story: Told) -> Any:
        await _saves(story)
        await asyncio.sleep(0)
        if said is not None:
            await story.judged()
        pending = await story.why()
        assert (pending["outcome"], pending["blocked_by"]) == ("silent", "judge_pending")
        assert "the judge was being asked, until" in pending["summary"]
        await story.wait(1)
        assert (await story.why())["blocked_by"] == "judge_pending"
        await story.wait(3)
        assert (await story.why())["blocked_by"] == "judge_timeout"
        (decision,) = await story.decided()
        return await story.service.decision("p", decision["decision_id"])

    told_ = run(play(sqlite_ledger, tell, Fake(said)))
    assert (told_["outcome"], told_["reason"], told_["reproduced"]) == ("withheld", "judge_timeout", True)
    assert told_["judge"].get("failure") == failure
    said_ = next(step["text"] for step in told_["trace"] if step["step"] == "judge")
    assert said_ == f"The judge did not answer in time{f' ({failure})' if failure else ''}."
    assert told(run(replayed(sqlite_ledger))) == []


@pytest.mark.parametrize("said", NONSENSE)
def test_nothing_but_true_or_false_is_an_opinion(said: str) -> None:
    assert judging.parse(said) is None


def test_a_reason_is_cut_and_cleaned() -> None:
    said = json.dumps({"allow": False, "reason": "a\x00b\n" + "x" * 900, "more": [1]})
    assert judging.parse(f"```json\n{said}\n```") == (False, f"a b {'x' * 496}")
    assert judging.parse('{"allow": true, "reason": 7}') == (True, None)


def test_a_proposal_left_by_a_service_that_stopped_is_asked_about_again(ledger: Ledger, run: Run) -> None:
    run(play(ledger, _saves, Fake(None)))
    model = Fake(YES)

    async def later(story: Told) -> Any:
        await asyncio.gather(story.service.judging._begin)
        await story.judged()
        return await story.decided()

    async def scenario() -> Any:
        clock = FakeClock(await _newest(ledger) + SECOND)
        service = Service(ledger, Settings(), clock)
        service.judging._models = model
        await service.start()
        try:
            return await later(Told(service, clock))
        finally:
            await service.stop()

    found = run(scenario())
    assert len(model.asked) == 1
    assert [(d["outcome"], d["reason"]) for d in found] == [("offered", "ok")]
    assert told(run(replayed(ledger))) == []


def test_a_proposal_whose_deadline_passed_while_nobody_ran_times_out_at_its_own_instant(
    ledger: Ledger, run: Run
) -> None:
    run(play(ledger, _saves, Fake(None)))
    proposed = next(row for row in run(stored(ledger, "p")) if row.type == "nudge_proposed")
    model = Fake(YES)

    async def later(story: Told) -> Any:
        await asyncio.gather(story.service.judging._begin)
        await story.look()
        return await story.decided()

    found = run(play(ledger, later, model, None, down=600))
    assert [d["reason"] for d in found] == ["judge_timeout", "missed"]  # it was met again after its cooldown
    withheld = next(row for row in run(stored(ledger, "p")) if row.type == "nudge_withheld")
    assert withheld.at == proposed.at + 3 * SECOND
    assert model.asked == []
    assert told(run(replayed(ledger))) == []


# --- replay ------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("click"), st.sampled_from(["save", "look"]), st.sampled_from(["s", "s2"])),
        st.tuples(st.just("chat"), st.sampled_from(["s", "s2"])),
        st.tuples(st.just("answer"), st.sampled_from([True, True, False, None])),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 1.5, 3.0, 11.0, 26.0]), st.booleans()),
        st.tuples(st.just("deadline"), st.sampled_from([-1, 0, 1])),
        st.tuples(st.just("config"), st.sampled_from(["other", "unjudged", "gone", "slower", "quiet"])),
        st.tuples(st.just("tour"), st.sampled_from(["tour_started", "tour_ended"])),
        st.tuples(st.just("merge"), st.sampled_from(["s", "s2"])),
    ),
    min_size=4,
    max_size=25,
)


CHANGES: dict[str, dict[str, Any]] = {
    "other": {},
    "unjudged": {"judge": None},
    "gone": {"triggers": RULES["triggers"][1:], "judge": {"timeout_s": 2}},
    "slower": {"judge": {"timeout_s": 9}},
    "quiet": {"limits": {"quiet_hours": {"from": "00:00", "to": "23:59"}}, "timezone": "UTC"},
}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(steps=STEPS)
def test_no_history_with_a_judge_diverges(
    sqlite_template: Any, tmp_path_factory: Any, steps: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("judge") / "ledger.db"
    path.write_bytes(sqlite_template.read_bytes())

    async def scenario() -> None:
        ledger = open_ledger(f"sqlite:///{path}")

        async def tell(story: Told) -> None:
            await story.service.timers.stop()
            number = 0
            for step in steps:
                await story.wait(0.2, timers=False)
                match step:
                    case ("click", title, where):
                        await story.click(title, where)
                    case ("chat", where):
                        await story.act(where, "u", ("chat_message", {"role": "user", "text": "?"}))
                    case ("answer", allow):
                        for name in ("s", "s2"):
                            await answer(story, name, allow)
                    case ("deadline", micros):
                        known = story.service.recorder
                        waiting = [(await known.session("p", name)).state.proposal for name in ("s", "s2")]
                        due = [p.deadline for p in waiting if p is not None]
                        if due and min(due) > story.clock.now() + 1:
                            story.clock.instant = min(due) + micros - 1  # the job takes the next instant
                            await answer(story, "s", True)
                            await answer(story, "s2", True)
                    case ("config", which):
                        number += 1
                        changed = {**RULES, "limits": {"min_gap_s": number}, **CHANGES[which]}
                        await story.put({name: value for name, value in changed.items() if value is not None})
                    case ("tour", kind):
                        await story.act("s", "u", (kind, {"tour_id": "flow"}))
                    case ("merge", where):
                        await story.act(where, f"u{where}", ("user_identified", {"previous_id": "u"}))
                    case ("wait", seconds, on_time):
                        await story.wait(seconds, timers=on_time)
            await story.wait(200)

        await play(ledger, tell, Fake())
        report = await replayed(ledger)
        assert told(report) == []
        rows = await stored(ledger, "p")
        ended = [
            orjson.loads(row.data)["explanation"]["judge"]["proposal_id"]
            for row in rows
            if row.type in ("nudge_offered", "nudge_withheld")
            and "judge" in orjson.loads(row.data)["explanation"]
        ]
        assert sorted(ended) == sorted(row.event_id for row in rows if row.type == "nudge_proposed")
        await ledger.close()

    asyncio.run(scenario())


async def answer(story: Told, name: str, allow: bool | None) -> None:
    proposal = (await story.service.recorder.session("p", name)).state.proposal
    if proposal is None:
        return
    said = events.JudgeAnswered(
        proposal.proposal_id, proposal.trigger_id, allow, "so", "m", "judge-1", 9, None if allow else "no"
    )
    job = JudgeJob("p", story.service.clock.new_id(), session_id=name, answer=said)
    await story.service.recorder.submit(job)


def test_a_bug_in_what_is_proposed_is_found_and_so_is_one_in_what_is_made_of_an_answer(
    sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell(story: Told) -> None:
        await _saves(story)
        await story.judged()
        await story.wait(60)

    run(play(sqlite_ledger, tell, Fake(NO)))
    assert told(run(replayed(sqlite_ledger))) == []
    with monkeypatch.context() as patched:  # today's code takes a veto for a yes
        patched.setattr(triggers, "_judge", lambda *of: Gate("judge", True))
        found = told(run(replayed(sqlite_ledger)))
        assert (NEW, "nudge_offered", "saves") in found
        assert (LOST, "nudge_withheld", "saves") in found
    with monkeypatch.context() as patched:  # today's code would have asked nobody
        patched.setattr("domain.config.Config.judged", lambda self, trigger_id: False)
        found = told(run(replayed(sqlite_ledger)))
        assert (LOST, "nudge_proposed", "saves") in found
        assert (NEW, "nudge_offered", "saves") in found


# --- backtests ---------------------------------------------------------------------------------------


def test_a_backtest_takes_recorded_answers_and_assumes_the_others(ledger: Ledger, run: Run) -> None:
    model = Fake(NO)
    more = {"id": "also", "criteria": {"type": "count", "where": {"title_contains": "open"}, "at_least": 1}}
    candidate = RULES | {"triggers": [*RULES["triggers"], more], "judge": {"timeout_s": 3}}

    async def tell(story: Told) -> Any:
        start = story.clock.now()
        await _saves(story)
        await story.judged()
        await story.wait(2)
        await story.click("open", session="s3", user="w")
        await story.wait(1)
        asked = {"config": candidate, "from": text(start), "to": text(story.clock.now())}
        job = await story.service.backtest("p", asked)
        return await story.service.backtests.wait("p", job["backtest_id"], 30)

    job = orjson.loads(orjson.dumps(run(play(ledger, tell, model))))
    assert job["status"] == "done", job
    result = job["result"]
    of = {row["trigger_id"]: row for row in result["triggers"]}
    assert of["saves"]["candidate"]["withheld"] == of["saves"]["in_force"]["withheld"] == {"judge_vetoed": 1}
    assert of["also"]["candidate"]["offered"] == 1  # nobody was asked about it: at once
    assert result["judge"] == {"assumed": {"candidate": 1, "in_force": 0}}
    assert len(model.asked) == 1
