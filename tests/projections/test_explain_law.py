"""Whatever happened: what an explanation says of an instant is what the evaluator said at that instant."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.jobs import JudgeJob, TimerJob
from api.service import Service
from domain import run as domain_run
from domain.decide import decide
from domain.events import JudgeAnswered
from domain.instants import SECOND, text
from domain.triggers import Evaluation
from eventstore.engine import Ledger
from projections import version
from projections.lookups import DecisionQuery
from projections.rederive import Inputs
from projections.why import asof
from projections.why.asof import Asking
from tests.api.inside import FakeClock, post, serving
from tests.api.serving import action, fact
from tests.conftest import Run

Seen = dict[tuple[str, int], Evaluation]  # by session and instant

TITLES = ("Save changes", "Open", "Bulk edit")
MODEL = {"url": "http://127.0.0.1:9/v1", "name": "never-asked"}
PAGES = ("https://app.example/projects/1", "https://app.example/reports", "https://app.example/billing")
_products = itertools.count(1)


def count(title: str, least: int, **more: Any) -> dict[str, Any]:
    return {"type": "count", "where": {"title_contains": title}, "at_least": least, "within_s": 60, **more}


CRITERIA: tuple[dict[str, Any], ...] = (
    count("save", 2),
    {
        "operator": "AND",
        "conditions": [count("save", 1), {"type": "current_page", "url_contains": "/projects"}],
    },
    {"operator": "NOT", "conditions": [count("open", 1), {"type": "action_count", "at_least": 6}]},
    {"type": "sequence", "steps": [{"title_contains": "open"}, {"title_contains": "save"}], "within_s": 90},
    {"type": "user_page_dwell", "dwell_threshold_seconds": 15},
    {"type": "canonical_url_ping_pong"},
    count("save", 1, where={"title_contains": "save", "properties": {"plan": "pro"}}),
)
triggers = st.lists(
    st.fixed_dictionaries(
        {
            "criteria": st.sampled_from(CRITERIA),
            "cooldown_s": st.sampled_from([1, 40]),
            "holdout": st.sampled_from([0, 0, 0.5]),
            "expires_s": st.sampled_from([5, 600]),
        },
        optional={"limits": st.sampled_from([{"per_session": 1}, {"per_user": {"times": 1, "per": "day"}}])},
    ),
    min_size=1,
    max_size=3,
).map(lambda found: [{"id": f"t{n}", **trigger} for n, trigger in enumerate(found)])
configs = st.fixed_dictionaries(
    {
        "triggers": triggers,
        "session": st.just({"interaction_timeout_s": 10, "cooldown_period_s": 20}),
        "tours": st.just([{"id": "tour", "page_contains": "/projects"}]),
    },
    optional={
        "limits": st.sampled_from([{"min_gap_s": 25}, {"per_user": {"times": 2, "per": "hour"}}]),
        "judge": st.sampled_from([{"timeout_s": 5}, {"timeout_s": 5, "triggers": ["t0"]}]),
    },
).map(lambda found: found | ({"model": MODEL} if "judge" in found else {}))
steps = st.lists(
    st.tuples(
        st.sampled_from([0.4, 3, 8, 21, 70]),  # seconds that pass before it
        st.sampled_from(["s1", "s2"]),
        st.sampled_from(["u1", "u1", "u2", None]),
        st.sampled_from(
            ["action"] * 6 + ["chat", "tour", "tour end", "identify", "option", "look", "config", "yes", "no"]
        ),
        st.sampled_from(TITLES),
        st.sampled_from(PAGES),
        st.sampled_from([0, 0, 0, 9, 40]),  # seconds between happening and arrival
    ),
    min_size=1,
    max_size=14,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(config=configs, history=steps)
def test_the_verdicts_of_an_explanation_are_those_of_the_runtime(
    sqlite_ledger: Ledger, run: Run, config: dict[str, Any], history: list[tuple[Any, ...]]
) -> None:
    seen: Seen = {}
    product = f"law{next(_products)}"  # the ledger holds those of other examples too

    def listening(evaluation: Evaluation, situation: Any, *more: Any) -> Any:
        # What was noticed late may have read what other sessions did meanwhile: that was not so then.
        others = (situation.user, *situation.aliases, *situation.others)
        current = all(state.at <= situation.at for state in others if state is not None)
        if current and situation.product == product:
            seen[situation.session.session_id, situation.at] = evaluation
        return decide(evaluation, situation, *more)

    async def scenario() -> None:
        raw = {"schema": 1, "product_id": product, **config}
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(domain_run, "decide", listening)
            async with serving(sqlite_ledger, FakeClock()) as service:
                await service.judging.stop()  # answers come from the history itself
                await service.timers.stop()  # timers are run, or left, by the history itself
                await service.put_config(product, raw)
                for step in history:
                    await happen(service, product, raw, step)
                    while service._background:  # a put looks at every session anew
                        await asyncio.sleep(0)
                await compare(service, product, seen)

    run(scenario())


async def happen(service: Service, product: str, raw: dict[str, Any], step: tuple[Any, ...]) -> None:
    passing, session, user, kind, title, page, late = step
    clock = service.clock
    assert isinstance(clock, FakeClock)
    clock.instant += round(passing * SECOND)
    if kind == "look":
        await service.recorder.submit(TimerJob(product, clock.new_id(), session_id=session))
        return
    if kind == "config":
        await service.put_config(product, raw | {"context": {"lookback_s": 60 + passing}})
        return
    if kind in ("yes", "no"):
        proposal = (await service.recorder.session(product, session)).state.proposal
        if proposal is not None:
            answer = JudgeAnswered(proposal.proposal_id, proposal.trigger_id, kind == "yes")
            job = JudgeJob(product, clock.new_id(), session_id=session, answer=answer)
            await service.recorder.submit(job)
        return
    data: dict[str, Any] = {"type": "click", "title": title, "raw_url": page, "properties": {"plan": "pro"}}
    made = {
        "action": action(session, user=user, data=data, occurred_at=text(clock.instant - late * SECOND)),
        "chat": fact("chat_message", session, user, role="user", text="hello"),
        "tour": fact("tour_started", session, user, tour_id="tour"),
        "tour end": fact("tour_ended", session, user, tour_id="tour"),
        "identify": fact("user_identified", session, user or "u1", previous_id="u2"),
        "option": fact("option_clicked", session, user, option_id="yes"),
    }[kind]
    await post(service, product, made)


async def compare(service: Service, product: str, seen: Seen) -> None:
    decisions = {(d["session_id"], d["at"], d["trigger_id"]): d for d in await listed(service, product)}
    for (session, at), runtime in seen.items():
        async with service.ledger.reader() as conn:
            inputs = Inputs(conn, product)
            asking = Asking(conn, product, inputs, service.clock.now(), version.engine_version())
            moment = await asof.moment(asking, session, at=at)
        said = [judgement(verdict) for verdict in moment.evaluation.verdicts]
        assert said == [judgement(verdict) for verdict in runtime.verdicts]
        for verdict in runtime.verdicts:
            told = await service.why_not(product, session, verdict.trigger.id, at)
            recorded = decisions.get((session, text(at), verdict.trigger.id))
            assert told["criteria"]["verdict"] is verdict.finding.verdict
            assert told["outcome"] == (recorded["outcome"] if recorded else "silent")
            assert told["decision_id"] == (recorded["decision_id"] if recorded else None)
            assert told["reproduced"] is (True if recorded else None)
            if recorded:
                assert told["reason"] == recorded["reason"]
            elif verdict.blocked is not None:
                assert told["blocked_by"] == verdict.blocked.reason
            elif verdict.finding.verdict is True:
                assert told["blocked_by"] == "judge_pending"
            elif verdict.finding.verdict is not True:
                assert told["blocked_by"] in ("criteria_unmet", "no_actions")


def judgement(verdict: Any) -> tuple[Any, ...]:
    """What a verdict says, without how far an unmet finding was pursued."""
    blocked = verdict.blocked
    gates = [(gate.gate, gate.reason) for gate in verdict.gates]
    return verdict.trigger.id, verdict.finding.verdict, gates, blocked and (blocked.gate, blocked.reason)


async def listed(service: Service, product: str) -> list[dict[str, Any]]:
    found = await service.decisions(product, DecisionQuery(limit=1000))
    rows: list[dict[str, Any]] = found["decisions"]
    return rows
