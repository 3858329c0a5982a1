"""Findings, gates and changes as sentences that can be forwarded."""

from __future__ import annotations

from typing import Any

import pytest

from domain import events, sentences
from domain.config import Where
from domain.finding import Finding
from domain.instants import HOUR, SECOND
from domain.near.near import Change, changes
from domain.run import situation
from domain.sentences import leaf, summary, where
from domain.triggers import Gate, Verdict, evaluate
from domain.words import after, before, clock, later
from tests.domain.builders import at, click, trigger
from tests.domain.given import Given

Json = dict[str, Any]
TIMES: Json = {"session": {"interaction_timeout_s": 20, "cooldown_period_s": 60}}
CHAT = events.ChatMessage("user", "hello")
DAILY: Json = {"per_user": {"times": 1, "per": "day"}}
EVER: Json = {"per_user": {"times": 1, "per": "ever"}}
SAVES: Json = {
    "type": "count",
    "where": {"title_contains": "save changes", "url_contains": "/projects"},
    "at_least": 3,
    "within_s": 120,
}
PAGE: Json = {"type": "current_page", "url_contains": "/projects"}
NEVER: Json = {"type": "absent", "where": {"title_contains": ["bulk edit", "apply to"]}, "within": "session"}


def group(operator: str, *conditions: Json) -> Json:
    return {"operator": operator, "conditions": list(conditions)}


def judged(
    case: Given, seconds: float, trigger_id: str, whole: bool = True
) -> tuple[Verdict, Verdict | None]:
    evaluation = evaluate(
        situation("acme", case.world, "s", at(seconds), at(seconds)), case.rules, whole=whole
    )
    verdict = next(v for v in evaluation.verdicts if v.trigger.id == trigger_id)
    return verdict, evaluation.winner


def said(case: Given, seconds: float, trigger_id: str = "t", near: bool = False, whole: bool = True) -> str:
    verdict, winner = judged(case, seconds, trigger_id, whole)
    there = situation("acme", case.world, "s", at(seconds), at(seconds))
    found = changes(there, case.rules, trigger_id) if near else ()
    return summary(verdict, at(seconds), found, winner, case.rules.config.lookback)


def of(criteria: Json, *batches: tuple[Any, ...], **config: Any) -> Given:
    case = Given({"id": "t", "name": "Bulk edit", "criteria": criteria}, **config)
    for seconds, *facts in batches:
        case.when(seconds, *facts)
    return case


# --- what is asked for --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Where(title_contains=("save changes",), url_contains=("/projects",)), "“save changes” on /projects"),
        (Where(title_contains=("a", "b", "c")), "“a”, “b” or “c”"),
        (Where(title_equals=("save",)), "titled “save”"),
        (
            Where(type=("click", "submit"), url_prefix=("https://app/p",)),
            "of type click or submit under https://app/p",
        ),
        (Where(properties=(("paid", (True,)), ("plan", ("pro", 1)))), "with paid true with plan “pro” or 1"),
    ],
)
def test_a_where_in_words(asked: Where, words: str) -> None:
    assert where(asked) == words


# --- one leaf -----------------------------------------------------------------------------------------

TWICE: Json = {"type": "count", "where": {"title_contains": "save"}, "at_least": 2}
STEPS: Json = {"type": "sequence", "steps": [{"title_equals": "a"}, {"title_equals": "b"}], "within_s": 30}
SECTIONS: Json = {
    "sections": {"rules": [{"prefix": "/bill", "section_id": "billing"}]},
    "section_playbook": {"billing": "Bills"},
}
RETURNS = "where it takes 1 return (A to B to A), or 3 pages, one of them twice"
SPENT = "the last step was used by the trigger's last offer"
BILLING = click(url="https://app/billing")

LEAVES: list[tuple[str, Given, float]] = [
    ("2 of 3 actions “save changes” on /projects in the last 120 s", of(SAVES, (0, click(), click())), 1),
    ("3 actions “save changes” on /projects in the last 120 s", of(SAVES, (0, click(), click(), click())), 1),
    ("0 of 2 actions “save” in the last 60 s", of(TWICE, (0, BILLING), context={"lookback_s": 60}), 61),
    (
        "3 actions “save” in the last 120 s, at most 2 wanted",
        of({**TWICE, "at_most": 2}, (0, click(), click(), click())),
        1,
    ),
    (
        "2 actions “save” in the last 120 s, at most 2 wanted",
        of({**TWICE, "at_most": 2}, (0, click(), click())),
        1,
    ),
    ("no action “bulk edit” or “apply to” since the session began", of(NEVER, (0, click())), 1),
    (
        "1 action “bulk edit” or “apply to” since the session began, none wanted",
        of(NEVER, (0, click("Bulk edit"))),
        1,
    ),
    (
        "2 actions “save” in the last 30 s, none wanted",
        of(
            {"type": "absent", "where": {"title_contains": "save"}, "within_s": 30},
            (0, click(), click()),
        ),
        1,
    ),
    ("1 of 2 steps in order: titled “a”, then titled “b” within 30 s", of(STEPS, (0, click("a"))), 1),
    ("titled “a”, then titled “b” within 30 s", of(STEPS, (0, CHAT), (1, click("a"), click("b"))), 1),
    (
        f"2 of 2 steps in order: titled “a”, then titled “b” within 30 s ({SPENT})",
        of(STEPS, (0, click("a"), click("b"))),
        1,
    ),
    ("on https://app/projects", of(PAGE, (0, click())), 1),
    ("on https://app/billing instead of a page that contains /projects", of(PAGE, (0, BILLING)), 1),
    ("on no page instead of a page that contains /projects", of(PAGE, (0, click(type="pageleave"))), 1),
    ("1 of 2 actions in the last 120 s", of({"type": "action_count", "at_least": 2}, (0, click())), 1),
    ("2 actions in the last 120 s", of({"type": "action_count", "at_least": 2}, (0, click(), click())), 1),
    (f"0 returns over 1 page, {RETURNS}", of({"type": "canonical_url_ping_pong"}, (0, click())), 1),
    (
        "1 return over 2 pages",
        of({"type": "canonical_url_ping_pong"}, (0, click(url="/a"), click(url="/b"), click(url="/a"))),
        1,
    ),
    ("59 of 60 s on the page", of({"type": "user_page_dwell"}, (0, click())), 59.9),
    ("60 s on the page with 1 action", of({"type": "user_page_dwell"}, (0, click())), 60),
    ("on no page", of({"type": "user_page_dwell"}, (0, click(url=None))), 60),
    (
        "more than 5 actions on the page",
        of({"type": "user_page_dwell"}, (0, *[click() for _ in range(6)])),
        60,
    ),
    (
        "60 s on the page, but the user left it or did nothing more",
        of({"type": "user_page_dwell"}, (0, click(), click(type="pageleave"))),
        60,
    ),
    (
        "in no section that has a playbook row",
        of({"type": "section_playbook_match"}, (0, click(url="/x")), **SECTIONS),
        1,
    ),
    (
        "in section “billing”",
        of({"type": "section_playbook_match"}, (0, click(url="/billing")), **SECTIONS),
        1,
    ),
    (
        "predicate unknown (predicate 'stuck' is not installed)",
        of({"type": "predicate", "predicate": "stuck"}, (0, click())),
        1,
    ),
]


@pytest.mark.parametrize(("words", "case", "seconds"), LEAVES, ids=[words for words, _, _ in LEAVES])
def test_what_a_leaf_saw(words: str, case: Given, seconds: float) -> None:
    verdict, _ = judged(case, seconds, "t")
    assert leaf(verdict.finding, verdict.trigger.criteria, case.rules.config.lookback) == words
    assert leaf(verdict.finding)  # without its config it says less, but something


def test_without_the_configs_lookback_a_leaf_looks_into_the_context_window() -> None:
    verdict, _ = judged(of(TWICE, (0, click())), 0, "t")
    assert leaf(verdict.finding, verdict.trigger.criteria) == "1 of 2 actions “save” in the context window"


def test_a_leaf_without_its_config_and_one_with_a_name() -> None:
    assert leaf(Finding("count", False, 2, ">= 3")) == "2 matching actions (>= 3 wanted)"
    assert leaf(Finding("absent", True, 0, "0", name="No edit")) == "No edit: no matching action"
    assert leaf(Finding("stopped", None)) == "stopped unknown (no reason given)"


# --- the sentence -------------------------------------------------------------------------------------

ALL = group("AND", PAGE, NEVER, SAVES)


def test_not_offered_says_what_lacked_and_what_would_have_fired_it() -> None:
    case = of(ALL, (0, click()), (5, click()))
    lacked = "2 of 3 actions “save changes” on /projects in the last 120 s"
    assert said(case, 5) == f"Not offered: {lacked}."
    assert said(case, 5, near=True) == f"Not offered: {lacked}; 1 more before 12:02:00Z would have fired it."


def test_offered_says_what_was_met() -> None:
    case = of(ALL, (0, click(), click(), click()))
    offered = next(s.event for s in case.stored if isinstance(s.event, events.NudgeOffered))
    assert offered.explanation["summary"] == (
        "Offered “Bulk edit”: on https://app/projects; no action “bulk edit” or “apply to” since the session "
        "began; 3 actions “save changes” on /projects in the last 120 s."
    )


def test_a_brief_finding_tells_of_the_conditions_that_were_asked() -> None:
    case = of(ALL, (0, BILLING))
    page = "on https://app/billing instead of a page that contains /projects"
    assert said(case, 0, whole=False) == f"Not offered: {page}."
    lacked = "0 of 3 actions “save changes” on /projects in the last 120 s"
    assert said(case, 0) == f"Not offered: {page}; {lacked}."


def test_or_and_not_are_readable() -> None:
    either = of(group("OR", PAGE, SAVES), (0, BILLING))
    assert said(either, 0) == (
        "Not offered: none of these sufficed: on https://app/billing instead of a page that contains "
        "/projects / 0 of 3 actions “save changes” on /projects in the last 120 s."
    )
    neither = of(group("NOT", TWICE), (0, click(), click()))
    assert said(neither, 0) == "Not offered: 2 actions “save” in the last 120 s, which rules it out."
    met = of(
        group("AND", PAGE, group("OR", SAVES, TWICE), group("NOT", NEVER)),
        (0, click("Bulk edit"), click(), click()),
    )
    assert said(met, 0).startswith(
        "Not offered although met: another nudge was already on (on https://app/projects; 2 actions “save”"
    )


@pytest.mark.parametrize(
    ("case", "seconds", "trigger_id", "words"),
    [
        (
            Given(trigger(), **TIMES).when(0, CHAT).when(68, click("t")),
            68,
            "t",
            "the session was cooling down until 12:01:20Z after a timeout",
        ),
        (Given(trigger(), **TIMES).when(0, CHAT).when(5, click("t")), 5, "t", "the user was in the chat"),
        (
            Given(trigger(), **TIMES).when(0, events.TourStarted("tour")).when(5, click("t")),
            5,
            "t",
            "a tour was running, until 12:00:20Z",
        ),
        (
            Given(trigger(limits={"per_session": 1}), **TIMES).when(0, click("t")).when(90, click("t")),
            90,
            "t",
            "the limit per session was reached",
        ),
        (
            Given(trigger(limits=DAILY), **TIMES).when(0, click("t")).when(90, click("t")),
            90,
            "t",
            "the limit per user and day was reached, until 2026-05-20 00:00:00Z",
        ),
        (
            Given(trigger(limits=EVER), **TIMES).when(0, click("t")).when(90, click("t")),
            90,
            "t",
            "the limit per user was reached",
        ),
        (
            Given(trigger(holdout=1.0, cooldown_s=1), **TIMES).when(0, click("t")),
            2,
            "t",
            "this user is held out for comparison",
        ),
    ],
)
def test_a_gate_is_named_with_its_end(case: Given, seconds: float, trigger_id: str, words: str) -> None:
    assert said(case, seconds, trigger_id).startswith(f"Not offered although met: {words} (")


def test_an_outranked_trigger_names_its_winner() -> None:
    case = Given(trigger("a", name="First"), trigger("t", "a"), **TIMES).when(0, click("a"))
    outranked = next(s.event for s in case.stored if isinstance(s.event, events.NudgeWithheld))
    assert outranked.explanation["summary"] == (
        "Not offered although met: “First” took the slot (1 action titled “a” in the last 120 s)."
    )


def test_an_outranked_trigger_names_its_winner_by_id_where_nobody_says_more() -> None:
    closed = Gate("outranked", False, "outranked", "a@b@2026-05-19T12:00:00.000000Z")
    assert sentences.gate(closed, at(0)) == "“a@b” took the slot"
    held = Gate("outranked", False, "outranked", "a:r1 2026-05-19T00:00:00.000000Z")
    assert sentences.gate(held, at(0)) == "another trigger took the slot"
    assert sentences.gate(Gate("x", False, "no_such_code"), at(0)) == "no_such_code"


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("1 more “x”", "; 1 more “x” would have fired it."),
        ("after 12:00:00Z", "; it would have fired after 12:00:00Z."),
        (
            "1 more “x”, if “a” had not taken the slot",
            "; 1 more “x” would have fired it, if “a” had not taken the slot.",
        ),
        ("if “a” had not taken the slot", "; it would have fired if “a” had not taken the slot."),
        ("without the 1 action “b”", "; it would have fired without the 1 action “b”."),
    ],
)
def test_a_change_ends_the_sentence(text: str, end: str) -> None:
    verdict, _ = judged(of(PAGE, (0, BILLING)), 0, "t")
    assert summary(verdict, at(0), [Change(text, at(0)), Change("another", at(1))]).endswith(end)


# --- instants -----------------------------------------------------------------------------------------


def test_instants_are_short_but_never_wrong() -> None:
    assert clock(at(19.9), at(0)) == "12:00:19Z"
    assert clock(at(0) + 24 * HOUR, at(0)) == "2026-05-20 12:00:00Z"
    assert (before(at(19.9), at(0)), before(at(0.25), at(0))) == (
        "before 12:00:19Z",
        "before 12:00:00.250000Z",
    )
    assert [after(at(20) + n, at(0)) for n in (0, 1, 2)] == [
        "after 12:00:20Z",
        "after 12:00:20Z",
        "after 12:00:21Z",
    ]
    assert [later(round(n * SECOND)) for n in (0.5, 12.4, 119, 600, 7300)] == [
        "less than 1 s",
        "12 s",
        "119 s",
        "10 min",
        "2 h",
    ]
