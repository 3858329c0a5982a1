"""Every leaf type: true, false, on the boundary; the next change; and laws against plain brute force."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.finding import Finding, as_json, wake
from domain.history import ActionFact, History
from domain.instants import SECOND
from domain.view import Predicates, View, no_predicates
from tests.domain.builders import ruleset

SAVE = {"title_contains": "save"}
LOOKBACK, MOST = 10, 4  # of every context window here
CONTEXT = {"lookback_s": LOOKBACK, "max_actions": MOST}
SECTIONS: dict[str, Any] = {
    "sections": {
        "rules": [{"prefix": "/bill", "section_id": "billing"}, {"prefix": "/rep", "section_id": "reports"}]
    },
    "section_playbook": {"billing": "Bills", "reports": "Reports"},
}


def action(
    seconds: float, title: str = "Save", url: str | None = "/p", kind: str = "click", n: int = 0, **props: Any
) -> ActionFact:
    when = round(seconds * SECOND)
    return ActionFact(when, f"e{when:012d}-{n}", n or when // SECOND + 1, kind, title, url, props or None)


class Leaf:
    """A criteria node made ready; called with actions and an instant in seconds it gives the finding."""

    def __init__(self, node: dict[str, Any], predicates: Predicates = no_predicates) -> None:
        sections = SECTIONS if "section_playbook_match" in repr(node) else {}
        self.rules = ruleset([{"id": "t", "criteria": node}], predicates, context=CONTEXT, **sections)

    def micro(self, actions: list[ActionFact], at: int, used: int = 0) -> Finding:
        view = View(
            History().extended(actions), at, self.rules.config, self.rules.matcher, self.rules.predicates
        )
        return self.rules.criteria[0][1](view, used)

    def __call__(self, actions: list[ActionFact], at: float, used: int = 0) -> Finding:
        return self.micro(actions, round(at * SECOND), used)


MICRO = 0.000_001


def test_count_takes_both_ends_of_its_window() -> None:
    leaf = Leaf({"type": "count", "where": SAVE, "at_least": 2, "within_s": 20})
    two = [action(0), action(5), action(6, "Other")]
    found = leaf(two, 20)
    assert (found.verdict, found.observed, found.required) == (True, 2, ">= 2")
    assert found.evidence == (two[0].event_id, two[1].event_id)
    assert found.next_change == 20 * SECOND + 1
    gone = leaf(two, 20 + MICRO)
    assert (gone.verdict, gone.observed, gone.next_change) == (False, 1, None)
    assert leaf([], 20).verdict is False


def test_count_with_an_upper_bound_becomes_true_when_actions_leave() -> None:
    leaf = Leaf({"type": "count", "where": SAVE, "at_least": 1, "at_most": 1, "within_s": 20})
    found = leaf([action(0), action(5)], 10)
    assert (found.verdict, found.required, found.next_change) == (False, "1 to 1", 20 * SECOND + 1)
    assert leaf([action(0), action(5)], 20 + MICRO).next_change == 25 * SECOND + 1
    assert leaf([action(0), action(5)], 25 + MICRO).verdict is False


def test_an_explicit_window_ignores_the_maximum_of_actions_and_the_default_does_not() -> None:
    five = [action(n) for n in range(5)]
    explicit = Leaf({"type": "count", "where": SAVE, "at_least": 5, "within_s": 10})
    default = Leaf({"type": "count", "where": SAVE, "at_least": 5})
    assert explicit(five, 10).verdict is True
    assert (default(five, 10).verdict, default(five, 10).observed) == (False, MOST)


def test_absent_in_a_window_and_since_the_session_began() -> None:
    window = Leaf({"type": "absent", "where": SAVE, "within_s": 20})
    whole = Leaf({"type": "absent", "where": SAVE, "within": "session"})
    one = [action(0)]
    assert (window(one, 20).verdict, window(one, 20).next_change) == (False, 20 * SECOND + 1)
    assert window(one, 20 + MICRO).verdict is True
    assert (whole(one, 10_000).verdict, whole(one, 10_000).next_change) == (False, None)
    assert whole([action(0, "Other")], 1).verdict is True
    assert whole([], 1).verdict is True


def sequence(**more: Any) -> Leaf:
    steps = [{"title_equals": "a"}, {"title_equals": "b"}]
    return Leaf({"type": "sequence", "steps": steps, "within_s": 5, **more})


def titled(text: str, start: float = 0) -> list[ActionFact]:
    """One action a second, each titled with one letter."""
    return [action(start + n, letter) for n, letter in enumerate(text)]


@pytest.mark.parametrize(
    ("happened", "verdict"),
    [
        ("ab", True),
        ("ba", False),
        ("axb", True),
        ("axxxxb", True),
        ("axxxxxb", False),
        ("aab", True),
        ("b", False),
    ],
)
def test_a_sequence_happens_in_order_within_its_span(happened: str, verdict: bool) -> None:
    assert sequence()(titled(happened), len(happened)).verdict is verdict


def test_the_last_step_of_a_sequence_is_in_the_window() -> None:
    found = sequence()(titled("ab"), 6)
    assert (found.verdict, found.next_change, len(found.evidence)) == (True, 6 * SECOND + 1, 2)
    assert sequence()(titled("ab"), 6 + MICRO).verdict is False


def test_between_the_steps_none_of_without_and_strictly_nothing() -> None:
    assert sequence(without={"title_equals": "x"})(titled("axb"), 3).verdict is False
    assert sequence(without={"title_equals": "x"})(titled("xabx"), 4).verdict is True
    assert sequence(contiguity="strict")(titled("axb"), 3).verdict is False
    assert sequence(contiguity="strict")(titled("xabx"), 4).verdict is True


def test_a_step_between_the_first_and_the_last_is_not_exempt_from_without() -> None:
    steps = [{"title_contains": letter} for letter in "abc"]
    leaf = Leaf({"type": "sequence", "steps": steps, "within_s": 5, "without": {"title_equals": "bx"}})
    assert leaf([action(0, "a"), action(1, "by"), action(2, "c")], 3).verdict is True
    assert leaf([action(0, "a"), action(1, "bx"), action(2, "c")], 3).verdict is False


def test_a_sequence_is_true_once_for_each_last_step() -> None:
    happened = titled("ab")
    assert sequence()(happened, 3, used=1).verdict is True
    spent = sequence()(happened, 3, used=2)
    assert (spent.verdict, spent.observed) == (False, 2)
    assert spent.detail == "the last step was used by the trigger's last offer"
    assert sequence()(titled("abb"), 3, used=2).verdict is True
    # An earlier last step that arrived after the offer was not used by it.
    late = [happened[0], action(0.5, "b", n=9), happened[1]]
    assert sequence()(late, 3, used=2).verdict is True


def test_current_page_is_the_newest_with_a_url_until_its_pageleave() -> None:
    leaf = Leaf({"type": "current_page", "url_contains": "/Projects"})
    on = [action(0, url="/x"), action(1, url="https://app/projects"), action(2, url=None)]
    assert leaf(on, 10_000).verdict is True  # not bound to any window
    assert leaf([*on, action(3, url="/x")], 3).verdict is False
    left = leaf([*on, action(3, url="https://app/projects", kind="pageleave")], 3)
    assert (left.verdict, left.observed) == (False, None)
    assert leaf([], 3).verdict is False
    prefix = Leaf({"type": "current_page", "url_prefix": ["https://app", "/y"]})
    assert prefix(on, 3).verdict is True
    assert prefix(on[:1], 3).verdict is False


def test_action_count_counts_the_context_window() -> None:
    leaf = Leaf({"type": "action_count", "at_least": 2})
    two = [action(0), action(5)]
    assert (leaf(two, 10).verdict, leaf(two, 10).next_change) == (True, 10 * SECOND + 1)
    assert (leaf(two, 10 + MICRO).verdict, leaf(two, 10 + MICRO).observed) == (False, 1)
    assert Leaf({"type": "action_count", "at_least": 0})([], 1).verdict is True


@pytest.mark.parametrize(
    ("pages", "more", "verdict"),
    [
        ("aba", {}, True),
        ("abc", {}, False),
        ("aab", {}, False),
        ("a-ba", {}, True),  # an action without a URL is no page
        ("a-a-a", {}, False),
        ("aba", {"min_cycles": 2}, False),
        ("abab", {"min_cycles": 2}, True),
        ("abca", {"min_cycles": 9}, True),  # three pages, one visited again
        ("abca", {"min_cycles": 9, "hesitation_min_distinct": 4}, False),
    ],
)
def test_going_back_and_forth(pages: str, more: dict[str, int], verdict: bool) -> None:
    leaf = Leaf({"type": "canonical_url_ping_pong", **more})
    leaf.rules = ruleset([{"id": "t", "criteria": {"type": "canonical_url_ping_pong", **more}}])
    visits = [action(n, url=None if page == "-" else f"/{page}") for n, page in enumerate(pages)]
    assert leaf(visits, 8).verdict is verdict


def dwell(**more: Any) -> Leaf:
    return Leaf(
        {"type": "user_page_dwell", "dwell_threshold_seconds": 6, "user_page_dwell_max_actions": 2, **more}
    )


def test_dwell_is_reached_at_its_threshold_and_ends_with_the_window() -> None:
    visit = [action(0, url="/x"), action(1), action(3, url=None), action(3.5)]
    early = dwell()(visit, 7 - MICRO)
    assert (early.verdict, early.next_change) == (False, 7 * SECOND)
    reached = dwell()(visit, 7)
    assert (reached.verdict, reached.next_change) == (True, 13_500_000 + 1)
    assert reached.observed == {"seconds": 6.0, "actions": 2}
    assert dwell()(visit, 13.5).verdict is True
    assert dwell()(visit, 13.5 + MICRO).verdict is False


def test_dwell_wants_few_actions_and_a_page_not_left() -> None:
    assert dwell()([action(0), action(1), action(2)], 8).verdict is False
    assert dwell()([action(0), action(1, kind="pageleave")], 8).verdict is False
    assert dwell()([action(0, url=None)], 8).verdict is False
    assert dwell()([action(0), action(2, url="/y")], 7).verdict is False  # the newest visit began at 2
    assert dwell()([action(0)], 2).next_change == 6 * SECOND
    assert dwell(dwell_threshold_seconds=11)([action(0)], 2).next_change is None  # out of the window before


def section(actions: list[ActionFact], at: float = 9) -> tuple[Any, str | None]:
    found = Leaf({"type": "section_playbook_match"})(actions, at)
    return found.observed, found.detail


def test_a_section_is_the_hosts_word_else_most_dwell_else_where_the_user_is() -> None:
    billing, reports, other = action(0, url="/bill"), action(3, url="/rep"), action(4, url="/x")
    assert section([billing, reports, other]) == ("billing", "most dwell")
    hosts = action(5, url="/bill", current_section_id="reports")
    assert section([billing, reports, other, hosts]) == ("reports", "the host's current_section_id")
    assert section([reports]) == ("reports", "the current section")
    assert section([action(1, url="/bill", n=1), action(1, url="/rep", n=2)]) == (
        "reports",
        "the current section",
    )
    assert section([other]) == (None, None)
    assert section([]) == (None, None)


@pytest.mark.parametrize("sent", [["reports"], {"a": 1}, 7, True, "nowhere"])
def test_a_host_that_sends_no_known_section_is_passed_over(sent: Any) -> None:
    odd = action(0, url="/bill", current_section_id=sent)
    assert section([odd])[0] == "billing"


# --- unknown ------------------------------------------------------------------------------------------


def predicate(verdicts: dict[str, Any]) -> Predicates:
    def serve(name: str, window: Any, at: int) -> Finding:
        return Finding("predicate", verdicts[name], len(window), name)

    return serve


def named(name: str) -> dict[str, Any]:
    return {"type": "predicate", "predicate": name}


VALUES = {"yes": True, "no": False, "unknown": None}


@pytest.mark.parametrize(("left", "right"), list(product(VALUES, VALUES)))
def test_groups_follow_kleenes_tables(left: str, right: str) -> None:
    """With unknown as a half, AND is the least, OR the greatest, NOT what is missing to the greatest."""
    weight = {True: 2, False: 0, None: 1}
    back = {2: True, 0: False, 1: None}
    a, b = weight[VALUES[left]], weight[VALUES[right]]
    wanted = {"AND": back[min(a, b)], "OR": back[max(a, b)], "NOT": back[2 - max(a, b)]}
    for operator, verdict in wanted.items():
        group = {"operator": operator, "conditions": [named(left), named(right)], "id": "g", "name": "G"}
        found = Leaf(group, predicate(VALUES))([action(0)], 1)
        assert found.verdict is verdict
        assert (found.type, found.id, found.name, len(found.conditions)) == (operator, "g", "G", 2)


def test_a_predicate_that_is_not_there_is_unknown_and_says_so() -> None:
    found = Leaf({**named("gone"), "id": "p"})([action(0)], 1)
    assert as_json(found) == {
        "type": "predicate",
        "verdict": None,
        "id": "p",
        "observed": None,
        "required": "gone",
        "evidence": [],
        "detail": "predicate 'gone' is not installed",
    }


def test_an_unknown_leaf_may_wake_a_group_from_either_side() -> None:
    unknown = Finding("predicate", None, next_change=7)
    assert wake(unknown) == wake(unknown, False) == 7
    assert wake(Finding("count", True, next_change=7)) is None
    assert wake(Finding("NOT", False, conditions=(Finding("count", True, next_change=7),))) == 7
    assert wake(Finding("NOT", False, conditions=(Finding("count", False, next_change=7),))) is None


# --- which actions a leaf is about --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "verdict"),
    [
        ({"type": "CLICK"}, True),
        ({"type": ["submit", "click"]}, True),
        ({"type": "submit"}, False),
        ({"title_contains": ["nothing", "SAVE ch"]}, True),
        ({"title_equals": "save changes"}, True),
        ({"title_equals": "save"}, False),
        ({"url_contains": "/PROJECTS"}, True),
        ({"url_prefix": "https://app/"}, True),
        ({"url_prefix": "app"}, False),
        ({"title_contains": "save", "url_contains": "/nowhere"}, False),
        ({"properties": {"plan": "PRO"}}, True),
        ({"properties": {"plan": ["free", "pro"], "seats": 3}}, True),
        ({"properties": {"seats": 3.0}}, True),
        ({"properties": {"seats": True}}, False),
        ({"properties": {"on": 1}}, False),
        ({"properties": {"on": True}}, True),
        ({"properties": {"gone": "x"}}, False),
    ],
)
def test_all_given_fields_must_match_and_case_does_not_matter(where: dict[str, Any], verdict: bool) -> None:
    leaf = Leaf({"type": "count", "where": where, "at_least": 1})
    one = action(0, "Save changes", "https://app/projects", plan="Pro", seats=3, on=True)
    assert leaf([one], 1).verdict is verdict
    without = one._replace(properties=None, url=None)
    assert leaf([without], 1).verdict is (
        verdict and not {"properties", "url_contains", "url_prefix"} & set(where)
    )


# --- laws ---------------------------------------------------------------------------------------------

WITHIN = 5
WHERES = {letter: {"title_equals": letter} for letter in "abc"}
LEAVES: list[dict[str, Any]] = [
    {"type": "count", "where": WHERES["a"], "at_least": 2, "within_s": WITHIN},
    {"type": "count", "where": WHERES["a"], "at_least": 1, "at_most": 2},
    {"type": "count", "where": WHERES["b"], "at_most": 1, "within_s": WITHIN},
    {"type": "absent", "where": WHERES["a"], "within_s": WITHIN},
    {"type": "absent", "where": WHERES["a"]},
    {"type": "absent", "where": WHERES["c"], "within": "session"},
    {"type": "sequence", "steps": [WHERES["a"], WHERES["b"]], "within_s": WITHIN},
    {"type": "sequence", "steps": [WHERES["a"], WHERES["b"]], "without": [WHERES["c"]]},
    {"type": "current_page", "url_contains": "/a"},
    {"type": "action_count", "at_least": 3},
    {"type": "canonical_url_ping_pong"},
    {"type": "user_page_dwell", "dwell_threshold_seconds": 6, "user_page_dwell_max_actions": 2},
    {"type": "section_playbook_match"},
]
READY = [Leaf(node) for node in LEAVES]


@st.composite
def histories(draw: st.DrawFn, most: int = 9) -> list[ActionFact]:
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 12),
                st.sampled_from("abc"),
                st.sampled_from([None, "/a", "/bill", "/rep"]),
                st.sampled_from(["click", "click", "pageleave"]),
            ),
            max_size=most,
        )
    )
    return sorted(action(when, title, url, kind, n + 1) for n, (when, title, url, kind) in enumerate(rows))


def instants(actions: list[ActionFact], after: int) -> list[int]:
    """Every instant after `after` at which some verdict could turn, and its neighbours."""
    spans = (WITHIN, LOOKBACK, 6)
    found = {
        a.occurred_at + span * SECOND + near for a in actions for span in spans for near in (-1, 0, 1, 2)
    }
    return sorted(instant for instant in found if instant > after)


@pytest.mark.parametrize(
    "leaf", READY, ids=lambda leaf: leaf.rules.config.triggers[0].criteria.__class__.__name__
)
@settings(max_examples=120, deadline=None)
@given(actions=histories(), wait=st.integers(0, 12))
def test_no_verdict_changes_before_its_next_change(leaf: Leaf, actions: list[ActionFact], wait: int) -> None:
    now = (actions[-1].occurred_at if actions else 0) + wait * SECOND
    found = leaf.micro(actions, now)
    assert found.next_change is None or found.next_change > now
    for instant in instants(actions, now):
        if found.next_change is not None and instant >= found.next_change:
            break
        assert leaf.micro(actions, instant).verdict is found.verdict


TREES = st.recursive(
    st.sampled_from(LEAVES),
    lambda children: st.builds(
        lambda operator, conditions: {"operator": operator, "conditions": conditions},
        st.sampled_from(["AND", "OR", "NOT"]),
        st.lists(children, min_size=1, max_size=3),
    ),
    max_leaves=5,
)


@settings(max_examples=250, deadline=None)
@given(TREES, histories(), st.integers(0, 12))
def test_no_trigger_turns_true_before_it_is_woken(tree: Any, actions: list[ActionFact], wait: int) -> None:
    """Looked at only when woken, a trigger misses nothing that a look at every instant would see."""
    leaf = Leaf(tree)
    now = (actions[-1].occurred_at if actions else 0) + wait * SECOND
    found = leaf.micro(actions, now)
    woken = wake(found)
    if found.verdict is True:
        return
    for instant in instants(actions, now):
        if woken is not None and instant >= woken:
            break
        assert leaf.micro(actions, instant).verdict is not True


def in_window(actions: list[ActionFact], at: int, within: int | None) -> list[ActionFact]:
    """The contract's sentence, read aloud."""
    span = (LOOKBACK if within is None else within) * SECOND
    recent = [a for a in sorted(actions) if at - span <= a.occurred_at <= at]
    return recent[-MOST:] if within is None else recent


@settings(max_examples=250, deadline=None)
@given(histories(), st.integers(0, 12), st.sampled_from([None, 3, 5]), st.integers(0, 3), st.integers(0, 3))
def test_count_and_absent_agree_with_counting(
    actions: list[ActionFact], wait: int, within: int | None, least: int, more: int
) -> None:
    now = (actions[-1].occurred_at if actions else 0) + wait * SECOND
    matches = [a.event_id for a in in_window(actions, now, within) if a.title == "a"]
    span = {} if within is None else {"within_s": within}
    node = {"type": "count", "where": WHERES["a"], "at_least": least, "at_most": least + more, **span}
    count = Leaf(node).micro(actions, now)
    assert count.verdict is (least <= len(matches) <= least + more)
    assert (count.observed, list(count.evidence)) == (len(matches), matches)
    absent = Leaf({"type": "absent", "where": WHERES["a"], **span}).micro(actions, now)
    assert absent.verdict is (not matches)


@settings(max_examples=500, deadline=None)
@given(
    histories(7),
    st.integers(0, 6),
    st.sampled_from([None, 3, 5]),
    st.lists(st.sampled_from("abc"), min_size=2, max_size=3),
    st.sampled_from([(), ("c",), ("a", "c")]),
    st.booleans(),
    st.integers(0, 7),
)
def test_sequence_agrees_with_trying_every_choice_of_steps(
    actions: list[ActionFact],
    wait: int,
    within: int | None,
    steps: list[str],
    without: tuple[str, ...],
    strict: bool,
    used: int,
) -> None:
    now = (actions[-1].occurred_at if actions else 0) + wait * SECOND
    span = (LOOKBACK if within is None else within) * SECOND
    window = in_window(actions, now, within)

    def holds(chosen: tuple[int, ...]) -> bool:
        first, last = chosen[0], chosen[-1]
        between = actions[first + 1 : last]
        return (
            [actions[i].title for i in chosen] == steps
            and actions[last] in window
            and actions[last].occurred_at - actions[first].occurred_at <= span
            and not any(a.title in without for a in between)
            and (not strict or last - first == len(steps) - 1)
            and actions[last].version > used
        )

    wanted = any(holds(chosen) for chosen in combinations(range(len(actions)), len(steps)))
    node: dict[str, Any] = {"type": "sequence", "steps": [WHERES[s] for s in steps]}
    node |= {"within_s": within} if within is not None else {}
    node |= {"without": [WHERES[w] for w in without]} if without else {}
    node |= {"contiguity": "strict"} if strict else {}
    found = Leaf(node).micro(actions, now, used)
    assert found.verdict is wanted
    if wanted:
        ids = [a.event_id for a in actions]
        assert holds(tuple(ids.index(event_id) for event_id in found.evidence))
