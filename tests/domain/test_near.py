"""How near a trigger was: every change that is told really makes it fire, at the instant that is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from domain import events, standin
from domain.finding import Finding
from domain.instants import SECOND
from domain.near import search, trial
from domain.near.deadline import deadline
from domain.near.near import Change, changes
from domain.near.search import Found
from domain.run import World, situation
from domain.triggers import Ruleset, Situation, evaluate
from tests.domain.builders import Sent, at, click, trigger
from tests.domain.given import Given

Json = dict[str, Any]
TIMES: Json = {"session": {"interaction_timeout_s": 20, "cooldown_period_s": 60}}
CHAT = events.ChatMessage("user", "hello")
APP = "https://app"
SAVES: Json = {
    "type": "count",
    "where": {"title_contains": "save changes", "url_contains": "/projects"},
    "at_least": 3,
    "within_s": 120,
}
PAGE: Json = {"type": "current_page", "url_contains": "/projects"}
EDITED: Json = {"title_contains": "bulk edit"}
NEVER: Json = {"type": "absent", "where": EDITED, "within": "session"}
LATELY: Json = {"type": "absent", "where": EDITED, "within_s": 30}


def group(operator: str, *conditions: Json) -> Json:
    return {"operator": operator, "conditions": list(conditions)}


def there(case: Given, seconds: float, session: str = "s") -> Situation:
    return situation("acme", case.world, session, at(seconds), at(seconds))


def told(case: Given, seconds: float, trigger_id: str = "t", most: int = 3) -> list[tuple[str, float]]:
    """What is told at that instant, each with the seconds at which it fires."""
    found = changes(there(case, seconds), case.rules, trigger_id, most)
    return [(change.text, (change.at - at(0)) / SECOND) for change in found]


def of(criteria: Json, *batches: tuple[Any, ...], **config: Any) -> Given:
    """A case of one trigger; each batch: seconds, then its facts."""
    case = Given({"id": "t", "criteria": criteria}, **config)
    for seconds, *facts in batches:
        case.when(seconds, *facts)
    return case


# --- leaves -----------------------------------------------------------------------------------------

SECTIONS: Json = {
    "sections": {"rules": [{"prefix": "/bill", "section_id": "billing"}]},
    "section_playbook": {"billing": "Bills"},
}
STEPS: Json = {
    "type": "sequence",
    "steps": [{"title_equals": "a"}, {"title_equals": "b"}, {"title_equals": "c"}],
    "within_s": 30,
}
TWICE: Json = {"type": "count", "where": {"title_contains": "save"}, "at_least": 2, "within_s": 10}
DWELL: Json = {"type": "user_page_dwell"}
PRO: Json = {"type": "submit", "properties": {"plan": ["Pro", 1]}}
PREDICATE: Json = {"type": "predicate", "predicate": "p"}
ELSEWHERE = click(url=f"{APP}/billing")
STAY = "60 s on the page (at 12:01:{}Z) without another action"
WHICH = "“save changes” on /projects"
BACK = "1 more return to the page before (A to B to A)"

LEAVES: dict[str, tuple[Given, float, list[tuple[str, float]]]] = {
    "a count too low": (
        of(SAVES, (0, click()), (5, click())),
        5,
        [("1 more “save changes” on /projects before 12:02:00Z", 5)],
    ),
    "a count of nothing": (
        of(SAVES, (0, click("x"))),
        0,
        [("3 actions “save changes” on /projects within 120 s", 0)],
    ),
    "a count too high": (
        of({**TWICE, "at_least": 1, "at_most": 1}, (3, Sent("e", click(), "u", at(0)), click())),
        4,
        [
            ("after 12:00:10Z, when 1 action “save” has left the window (6 s later)", 10.000001),
            ("without the newest 1 of the 2 actions “save” at 12:00:03Z", 4),
        ],
    ),
    "a count without the newest": (
        of({**TWICE, "at_least": 1, "at_most": 1}, (0, click(), click())),
        2,
        [("without the newest 1 of the 2 actions “save” at 12:00:00Z", 2)],
    ),
    "a count of properties": (
        of({"type": "count", "where": PRO, "at_least": 2}, (0, click())),
        0,
        [("2 actions of type submit with plan “pro” or 1 within 120 s", 0)],
    ),
    "absent, forbidden for ever": (
        of(group("AND", PAGE, NEVER), (0, click(), click("Bulk edit"))),
        2,
        [("without the 1 action “bulk edit” at 12:00:00Z", 2)],
    ),
    "absent, until it has left the window": (
        of(group("AND", PAGE, LATELY), (0, click(), click("Bulk edit"))),
        2,
        [
            ("after 12:00:30Z, when 1 action “bulk edit” has left the window (28 s later)", 30.000001),
            ("without the 1 action “bulk edit” at 12:00:00Z", 2),
        ],
    ),
    "the missing step": (
        of(STEPS, (0, click("a")), (1, click("b"))),
        1,
        [("1 more step: titled “c” before 12:00:30Z", 1)],
    ),
    "another page": (
        of(PAGE, (0, ELSEWHERE)),
        0,
        [("a visit to a page that contains /projects", 0)],
    ),
    "more actions": (
        of({"type": "action_count", "at_least": 5}, (0, click()), (1, click())),
        1,
        [("3 more actions before 12:02:00Z", 1)],
    ),
    "one return": (
        of({"type": "canonical_url_ping_pong"}, (0, click(url="/a")), (1, click(url="/b"))),
        1,
        [(f"{BACK} before 12:02:00Z", 1)],
    ),
    "one return, from no page": (
        of({"type": "canonical_url_ping_pong"}, (0, click(url=None))),
        0,
        [(BACK, 0)],
    ),
    "a stay": (of(DWELL, (0, click()), (5, click())), 5, [(STAY.format("00"), 60)]),
    "a stay on the right page": (
        of(group("AND", DWELL, PAGE), (0, click()), (5, ELSEWHERE)),
        5,
        [(f"a visit to a page that contains /projects and {STAY.format('05')}", 65)],
    ),
    "a stay after too many actions": (
        of(DWELL, *[(n, click()) for n in range(7)]),
        6,
        [("a visit to another page and 60 s on it (at 12:01:06Z) without another action", 66)],
    ),
    "a section": (
        of({"type": "section_playbook_match"}, (0, click(url="/x")), **SECTIONS),
        0,
        [("a visit to section “billing”", 0)],
    ),
    "what a predicate wants is not known": (of(PREDICATE, (0, click())), 0, []),
    "nor what it wants beside others": (of(group("AND", SAVES, PREDICATE), (0, click())), 0, []),
    "but not where others do": (
        of(group("OR", PREDICATE, PAGE), (0, ELSEWHERE)),
        0,
        [("a visit to a page that contains /projects", 0)],
    ),
    "no such action can be": (
        of(
            {"type": "count", "where": {"title_equals": "a", "title_contains": "b"}, "at_least": 1},
            (0, click()),
        ),
        0,
        [],
    ),
    # groups
    "one act for two leaves": (
        of(group("AND", PAGE, NEVER, SAVES), (0, click()), (5, ELSEWHERE)),
        5,
        [("2 more “save changes” on /projects before 12:02:00Z", 5)],
    ),
    "either will do, the smaller first": (
        of(group("OR", SAVES, PAGE, DWELL), (0, click(url="/b"))),
        0,
        [
            ("a visit to a page that contains /projects before 12:01:00Z", 0),
            (STAY.format("00"), 60),
            ("3 actions “save changes” on /projects within 120 s before 12:01:00Z", 0),
        ],
    ),
    "an act, then its forbidden one must leave": (
        of(group("AND", LATELY, SAVES), (0, click("Bulk edit")), (1, click()), (5, click())),
        5,
        [
            (
                f"1 more {WHICH} (after 12:00:30Z, when 1 action “bulk edit” has left the window)",
                30.000001,
            ),
            ("1 more “save changes” on /projects, without the 1 action “bulk edit” at 12:00:00Z", 5),
        ],
    ),
    "an act that would be over too soon comes later": (
        of(group("AND", LATELY, {**TWICE, "at_least": 1}), (0, click("Bulk edit"))),
        1,
        [
            ("after 12:00:30Z, with 1 action “save”", 30.000001),
            ("1 action “save”, without the 1 action “bulk edit” at 12:00:00Z", 1),
        ],
    ),
    "not: what is must leave the window": (
        of(group("NOT", TWICE), (0, click(), click())),
        1,
        [
            ("after 12:00:10Z, when 1 action “save” has left the window (9 s later)", 10.000001),
            ("without the newest 1 of the 2 actions “save” at 12:00:00Z", 1),
        ],
    ),
    "not on this page": (of(group("NOT", PAGE), (0, click())), 0, [("the user leaving the page", 0)]),
}


@pytest.mark.parametrize("name", LEAVES)
def test_what_a_leaf_lacked(name: str) -> None:
    case, seconds, expected = LEAVES[name]
    found = told(case, seconds)
    assert found == expected


# --- gates ------------------------------------------------------------------------------------------

ONCE: Json = {"per_session": 1}
DAILY: Json = {"per_user": {"times": 1, "per": "day"}}
EVER: Json = {"per_user": {"times": 1, "per": "ever"}}
DONE = click("t")
COOLED = "after 12:01:20Z, when the session's cooldown ends"

GATES: dict[str, tuple[Given, float, str, list[tuple[str, float]]]] = {
    "met while the chat is open: its timeout, then the cooldown": (
        Given(trigger(), **TIMES).when(0, CHAT).when(5, DONE),
        5,
        "t",
        [(f"{COOLED} (75 s later)", 80)],
    ),
    "in the cooldown": (
        Given(trigger(), **TIMES).when(0, CHAT).when(68, DONE).on_time(69),
        68,
        "t",
        [(f"{COOLED} (12 s later)", 80)],
    ),
    "met no more when the cooldown is over": (
        Given({"id": "t", "criteria": TWICE}, **TIMES).when(0, CHAT).when(30, click(), click()),
        30,
        "t",
        [(f"{COOLED}, with 2 actions “save” within 10 s", 80)],
    ),
    "a tour runs": (
        Given(trigger(), **TIMES).when(0, events.TourStarted("tour")).when(5, DONE),
        5,
        "t",
        [("after 12:00:20Z, when the tour has ended (15 s later)", 20.000001)],
    ),
    "another session of the user is busy": (
        Given(trigger("a"), trigger(), **TIMES).when(0, click("a"), session="other").when(5, DONE),
        5,
        "t",
        [
            (
                "after 12:00:20Z, when the nudge in the user's other session has timed out (15 s later)",
                20.000001,
            )
        ],
    ),
    "too soon after the last nudge": (
        Given(trigger("a"), trigger(), limits={"min_gap_s": 300}, **TIMES)
        .when(0, click("a"))
        .when(290, DONE),
        290,
        "t",
        [("after 12:05:00Z, when the gap after the last nudge has passed (10 s later)", 300)],
    ),
    "the product's limit of the day": (
        Given(trigger("a"), trigger(), limits=DAILY, **TIMES).when(0, click("a")).when(200, DONE),
        200,
        "t",
        [("after 2026-05-20 00:00:00Z, when the next day begins, with 1 action titled “t”", 43_200)],
    ),
    "the product's limit for ever": (
        Given(trigger("a"), trigger(), limits=EVER, **TIMES).when(0, click("a")).when(200, DONE),
        200,
        "t",
        [("a limit of 2 per user instead of 1", 200)],
    ),
    "quiet hours": (
        Given(trigger(), limits={"quiet_hours": {"from": "11:00", "to": "12:01"}}).when(0, DONE),
        0,
        "t",
        [("after 12:01:00Z, when the quiet hours end (60 s later)", 60)],
    ),
    "the trigger's own cooldown": (
        Given(trigger(cooldown_s=200), **TIMES).when(0, DONE).when(190, DONE),
        190,
        "t",
        [("after 12:03:20Z, when the trigger's cooldown ends (10 s later)", 200)],
    ),
    "the limit per session": (
        Given(trigger(limits=ONCE), **TIMES).when(0, DONE).when(200, DONE),
        200,
        "t",
        [("a limit of 2 per session instead of 1", 200)],
    ),
    "the limit per session, and actions": (
        Given(trigger(least=2, limits=ONCE), **TIMES).when(0, DONE, DONE).when(200, DONE),
        200,
        "t",
        [("1 more action titled “t” and a limit of 2 per session instead of 1", 200)],
    ),
    "the trigger's limit for ever": (
        Given(trigger(limits=EVER), **TIMES).when(0, DONE).when(200, DONE),
        200,
        "t",
        [("a limit of 2 per user instead of 1", 200)],
    ),
    "held out": (
        Given(trigger(holdout=1.0, cooldown_s=5)).when(0, DONE).when(6, DONE),
        6,
        "t",
        [("if this user were not held out (holdout 1)", 6)],
    ),
    "outranked": (
        Given(trigger("a", name="Other trigger"), trigger("t", "a"), **TIMES).when(0, click("a")),
        80,
        "t",
        [("if “Other trigger” had not taken the slot", 80)],
    ),
    "outranked at the cooldown's end": (
        Given(trigger("a"), trigger(), **TIMES).when(0, CHAT).when(70, click("a"), DONE),
        70,
        "t",
        [(f"{COOLED}, if “a” had not taken the slot", 80)],
    ),
}


@pytest.mark.parametrize("name", GATES)
def test_what_a_gate_asked_for(name: str) -> None:
    case, seconds, trigger_id, expected = GATES[name]
    assert told(case, seconds, trigger_id) == expected


def test_an_offer_that_nobody_could_have_seen_any_more_was_missed() -> None:
    case = of(group("AND", PAGE, DWELL), (0, click()))
    late = there(case, 60)._replace(noticed_at=at(90))
    assert changes(late, case.rules, "t") == (Change("if it had been noticed by 12:01:05Z", at(60)),)
    assert changes(late._replace(noticed_at=at(65)), case.rules, "t") == ()


def test_nothing_is_told_of_a_trigger_that_the_rules_do_not_have() -> None:
    assert told(of(SAVES, (0, click())), 0, "unknown") == []


def test_no_more_is_told_than_was_asked_for() -> None:
    case = of(group("OR", SAVES, PAGE, DWELL), (0, click(url="/b")))
    assert [len(told(case, 0, most=n)) for n in range(5)] == [0, 1, 2, 3, 3]


def test_the_state_that_was_asked_about_is_left_alone() -> None:
    case = of(group("AND", LATELY, SAVES), (0, click("Bulk edit")), (1, click()), (5, click()))
    before = there(case, 5)
    actions = list(before.session.actions)
    assert changes(before, case.rules, "t")
    assert list(before.session.actions) == actions
    assert before.session.actions.slots() == (actions, 3)  # nothing hangs on to the shared list either


def test_a_stand_in_matches_stays_on_the_page_and_disturbs_as_little_as_can_be() -> None:
    counted = {"type": "count", "where": {"title_contains": ["bulk edit", "save"]}, "at_least": 1}
    paged = {
        "type": "count",
        "where": {"url_contains": ["/red", "/blue"], "type": ["pageleave", "open"]},
        "at_least": 1,
    }
    rules = of(group("AND", NEVER, counted, paged)).rules
    never, titled, at_page = rules.config.triggers[0].criteria.conditions  # type: ignore[union-attr]
    saved = standin.matching(titled.where, f"{APP}/c", rules.matcher)
    assert saved == click("save", f"{APP}/c")  # not “bulk edit”, which another leaf forbids
    opened = standin.matching(at_page.where, f"{APP}/blue/c", rules.matcher)
    assert opened == events.Action(
        "open", "", canonical_url=f"{APP}/blue/c"
    )  # where the user is, not leaving
    away = standin.matching(at_page.where, f"{APP}/c", rules.matcher)
    assert away == events.Action("open", "", canonical_url=f"{APP}/red")
    assert standin.matching(never.where, None, rules.matcher) == click("bulk edit", None)


def test_large_criteria_are_searched_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        return evaluate(*args, **options)

    monkeypatch.setattr(trial, "evaluate", counted)
    leaves = [
        {"type": "count", "where": {"title_equals": f"{n}"}, "at_least": 2, "at_most": 4} for n in range(40)
    ]
    deep = group("AND", *[group("OR", *leaves[n : n + 4]) for n in range(0, 40, 4)])
    assert told(of(deep, (0, click("x"))), 0)
    assert asked <= 32 * 64


@pytest.mark.parametrize(
    "leaf",
    [
        {**SAVES, "at_least": 1_000_000},
        {"type": "action_count", "at_least": 1_000_000},
        {"type": "canonical_url_ping_pong", "min_cycles": 10**9, "hesitation_min_distinct": 10**9},
    ],
)
def test_what_nobody_will_do_is_not_suggested(leaf: Json) -> None:
    assert told(of(leaf, (0, click())), 0) == []


# --- laws -------------------------------------------------------------------------------------------

TITLES = ("Save", "Edit", "Bulk edit")
PAGES = (f"{APP}/projects", f"{APP}/billing", None)
WHERES = st.sampled_from(
    [
        {"title_contains": "save"},
        {"title_contains": "edit"},
        {"title_equals": "bulk edit", "url_contains": "/projects"},
        {"type": "submit"},
        {"url_prefix": f"{APP}/b"},
    ]
)
SPANS = st.sampled_from([5, 30, 90])


@st.composite
def counts(draw: st.DrawFn) -> Json:
    low = draw(st.integers(0, 3))
    high = draw(st.one_of(st.none(), st.integers(low, 3)))
    bounds = {"at_least": low} if high is None else {"at_least": low, "at_most": high}
    span = draw(st.one_of(st.none(), SPANS))
    return {"type": "count", "where": draw(WHERES), **bounds, **({"within_s": span} if span else {})}


def sequences() -> st.SearchStrategy[Json]:
    steps = st.lists(WHERES, min_size=2, max_size=3)
    contiguity = st.sampled_from(["relaxed", "strict"])
    return st.builds(
        lambda steps, span, how: {"type": "sequence", "steps": steps, "within_s": span, "contiguity": how},
        *(steps, SPANS, contiguity),
    )


LEAF = st.one_of(
    counts(),
    counts(),
    sequences(),
    st.builds(lambda where, span: {"type": "absent", "where": where, "within_s": span}, WHERES, SPANS),
    st.builds(lambda where: {"type": "absent", "where": where, "within": "session"}, WHERES),
    st.sampled_from([PAGE, {"type": "current_page", "url_prefix": f"{APP}/b"}]),
    st.builds(lambda n: {"type": "action_count", "at_least": n}, st.integers(1, 4)),
    st.just({"type": "canonical_url_ping_pong"}),
    st.just({"type": "user_page_dwell", "dwell_threshold_seconds": 20, "user_page_dwell_max_actions": 2}),
    st.just(PREDICATE),
)
CRITERIA = st.recursive(
    LEAF,
    lambda inner: st.builds(
        lambda operator, conditions: group(operator, *conditions),
        *(st.sampled_from(["AND", "OR", "NOT"]), st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)
FACTS = st.one_of(
    *[
        st.builds(
            lambda title, page, kind: click(title, page, type=kind),
            *(
                st.sampled_from(TITLES),
                st.sampled_from(PAGES),
                st.sampled_from(["click", "submit", "pageleave"]),
            ),
        )
    ]
    * 4,
    st.just(CHAT),
    st.just(events.TourStarted("tour")),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Given, float, str]:
    """A product with some rules and some history; an instant; a trigger."""
    ids = ("t", "u")[: draw(st.integers(1, 2))]
    triggers = [
        {
            "id": name,
            "criteria": draw(CRITERIA),
            "cooldown_s": draw(st.sampled_from([5, 30])),
            "holdout": draw(st.sampled_from([0.0, 0.0, 0.5])),
            **draw(st.sampled_from([{}, {}, {"limits": ONCE}, {"limits": EVER}])),
        }
        for name in ids
    ]
    limits = draw(
        st.sampled_from([{}, {}, {"min_gap_s": 40}, DAILY, {"quiet_hours": {"from": "12:01", "to": "13:00"}}])
    )
    case = Given(*triggers, context={"lookback_s": 60, "max_actions": 6}, limits=limits, **TIMES)
    seconds = 0.0
    for facts in draw(st.lists(st.lists(FACTS, min_size=1, max_size=2), min_size=1, max_size=6)):
        case.on_time(seconds)
        case.when(seconds, *facts)
        seconds += draw(st.sampled_from([0.5, 3, 10, 31, 95]))
    case.on_time(seconds)
    return case, seconds, draw(st.sampled_from(ids))


def carried_out(case: Given, found: Found, begins: int) -> list[tuple[int, str]]:
    """What is offered when the session really goes on so, up to the instant at which the plan fires."""
    again = Given.__new__(Given)
    again.__dict__.update(case.__dict__)
    again.world = World(dict(case.world.changed_sessions), dict(case.world.changed_users), complete=True)
    again.world.changed_sessions.update(case.world.changed_sessions)
    again.world.changed_users.update(case.world.changed_users)
    again.stored, again.turns = [], []
    if found.actions:
        again.on_time((begins - at(0)) / SECOND)
        acts = [Sent(f"\U0010ffff{n:09d}", act, "u", begins) for n, act in enumerate(found.actions, 1)]
        again.when((begins - at(0)) / SECOND, *acts)
    again.on_time((max(begins, found.at) + 1 - at(0)) / SECOND)
    offered = [stored for stored in again.stored if isinstance(stored.event, events.NudgeOffered)]
    return [(stored.at, stored.event.trigger_id) for stored in offered]  # type: ignore[attr-defined]


def natural(found: Found) -> bool:
    """Whether the plan consists of actions and waiting only."""
    return not found.changed and not search.removed(found)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_every_plan_really_makes_the_trigger_fire_at_its_instant(drawn: tuple[Given, float, str]) -> None:
    case, seconds, trigger_id = drawn
    start = trial.begun(there(case, seconds))
    winner = evaluate(start, case.rules).winner
    if winner is not None and winner.trigger.id == trigger_id and winner.blocked is None:
        assert changes(there(case, seconds), case.rules, trigger_id) == ()
        return
    for found in search.plans(start, case.rules, trigger_id):
        if natural(found):
            assert carried_out(case, found, found.begins) == [(found.at, trigger_id)]
            continue
        done = trial.without(start, search.removed(found))
        if found.actions:
            reached = trial.reached(done, found.rules, found.begins)
            assert isinstance(reached, Situation)
            done = trial.acted(reached, found.actions)
        settled = trial.settled(done, found.rules)
        assert settled is not None
        assert (settled[0], settled[1].trigger.id, settled[1].blocked) == (found.at, trigger_id, None)


@st.composite
def nearly(draw: st.DrawFn) -> tuple[Given, float]:
    """A trigger that lacks some saves, and other things perhaps; a history of plain actions."""
    span = draw(st.sampled_from([5, 30, 90]))
    some = {"type": "count", "where": {"title_contains": "save"}, "at_least": 5, "within_s": span}
    criteria = group("AND", some, draw(CRITERIA)) if draw(st.booleans()) else some
    case = Given({"id": "t", "criteria": criteria}, context={"lookback_s": 60, "max_actions": 9})
    seconds = 0.0
    for pause in draw(st.lists(st.sampled_from([0.5, 1.25, 3, 20]), min_size=1, max_size=4)):
        seconds += pause
        case.on_time(seconds)
        case.when(seconds, click("Save", draw(st.sampled_from(PAGES))))
    seconds += draw(st.sampled_from([0, 0.5, 1.5]))
    case.on_time(seconds)
    return case, seconds


@settings(max_examples=80, deadline=None)
@given(nearly())
def test_a_microsecond_before_its_end_a_plan_still_suffices_and_then_no_more(
    drawn: tuple[Given, float],
) -> None:
    case, seconds = drawn
    start = trial.begun(there(case, seconds))
    for found in search.plans(start, case.rules, "t"):
        if not natural(found) or not found.actions or found.at != start.at:
            continue
        done = trial.acted(start, found.actions)
        assert changes(done, case.rules, "t") == ()  # it fires as it is
        end = deadline(start, case.rules, "t", found.actions)
        if end is not None:
            event(f"an end after {(end - start.at) // SECOND} s")
            assert carried_out(case, found, end - 1)[-1:] == [(end - 1, "t")]
            assert (end, "t") not in carried_out(case, found, end)


@settings(max_examples=80, deadline=None)
@given(cases(), st.integers(0, 4))
def test_changes_are_few_distinct_and_the_same_each_time(drawn: tuple[Given, float, str], most: int) -> None:
    case, seconds, trigger_id = drawn
    told = changes(there(case, seconds), case.rules, trigger_id, most)
    assert len(told) <= most
    assert len({change.text for change in told}) == len(told)
    assert all(change.at >= at(seconds) and change.text for change in told)
    rules = Ruleset(case.rules.config, case.rules.revision)
    assert changes(there(case, seconds), rules, trigger_id, most) == told


def test_a_predicate_is_asked_at_the_instants_that_are_tried() -> None:
    def serve(name: str, window: Any, when: int) -> Finding:
        return Finding("predicate", when > at(100), required=name)

    case = Given({"id": "t", "criteria": group("AND", PREDICATE, {**SAVES, "at_least": 1})}, predicates=serve)
    case.when(0, click("x")).when(101, click("x"))
    assert told(case, 0) == []
    assert told(case, 101) == [("1 action “save changes” on /projects", 101)]
