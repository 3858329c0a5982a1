"""A config is read whole: every default resolved, or every fault named with its path."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from domain import config, config_parse
from domain.config import (
    Absent,
    Budget,
    Count,
    CurrentPage,
    Dwell,
    Group,
    Option,
    PingPong,
    QuietHours,
    Where,
)
from domain.errors import InvalidConfig
from domain.instants import DAY, SECOND

EXAMPLES = Path(__file__).parents[2] / "api" / "examples"

# A config that uses every key once.
CONTRACT: dict[str, Any] = {
    "schema": 1,
    "product_id": "acme",
    "session": {"interaction_timeout_s": 60, "cooldown_period_s": 120},
    "context": {"lookback_s": 120, "max_actions": 50},
    "triggers": [
        {
            "id": "bulk_edit_opportunity",
            "name": "Bulk edit opportunity",
            "body": "Updating projects one by one? …",
            "how_to": "1. …",
            "tours": ["projects-bulk-edit"],
            "options": [
                {"id": "chip_1", "label": "Yes please", "user_tour_exists": True, "user_tour_id": "flow_1"}
            ],
            "target": "[data-guide='connect-data-source']",
            "channels": ["toast"],
            "interaction_timeout_s": 10,
            "cooldown_s": 30,
            "expires_s": 600,
            "limits": {"per_session": 1, "per_user": {"times": 3, "per": "day"}},
            "holdout": 0.1,
            "goal": "bulk_edit_used",
            "criteria": {
                "operator": "AND",
                "conditions": [
                    {"type": "current_page", "url_contains": "/projects"},
                    {
                        "type": "absent",
                        "where": {"title_contains": ["bulk edit", "apply to"]},
                        "within": "session",
                    },
                    {
                        "type": "count",
                        "where": {"title_contains": "save changes", "url_contains": "/projects"},
                        "at_least": 3,
                        "within_s": 120,
                    },
                ],
            },
        },
        {"builtin": "canonical_url_ping_pong"},
    ],
    "tours": [
        {
            "id": "projects-bulk-edit",
            "user_tour_id": "flow_1",
            "user_tour_name": "…",
            "page_contains": "/projects",
            "interaction_timeout_s": 60,
            "cooldown_period_s": 120,
        }
    ],
    "limits": {
        "min_gap_s": 0,
        "per_user": {"times": 10, "per": "day"},
        "quiet_hours": {"from": "22:00", "to": "07:00"},
    },
    "timezone": "Europe/Berlin",
    "sections": {
        "rules": [{"prefix": "https://app/billing", "section_id": "billing"}],
        "fallback_id": "other",
    },
    "section_playbook": {"billing": "…", "reports": {"body": "…", "reply_option_labels": ["…"]}},
}


def faults(raw: object) -> dict[str, str]:
    """Path and detail of everything wrong with `raw`; fails where nothing is, or one path comes twice."""
    with pytest.raises(InvalidConfig) as caught:
        config_parse.parse(raw)
    found = {fault.path: fault.detail for fault in caught.value.faults}
    assert len(found) == len(caught.value.faults), caught.value.faults
    return found


def with_criteria(criteria: object, **more: object) -> dict[str, Any]:
    return {"product_id": "acme", "triggers": [{"id": "t", "criteria": criteria}], **more}


def leaf(criteria: object, **more: object) -> config.Node:
    return config_parse.parse(with_criteria(criteria, **more)).triggers[0].criteria


SAVE = {"title_contains": "Save"}
SAVED = Where(title_contains=("save",))
LEAF = {"type": "action_count", "at_least": 1}


# --- the whole --------------------------------------------------------------------------------------


def test_the_contracts_config_is_read_whole() -> None:
    criteria = Group(
        "AND",
        (
            CurrentPage(("/projects",)),
            Absent(Where(title_contains=("bulk edit", "apply to")), within=None, session=True),
            Count(
                Where(title_contains=("save changes",), url_contains=("/projects",)),
                at_least=3,
                at_most=None,
                within=120 * SECOND,
            ),
        ),
    )
    parsed = config_parse.parse(CONTRACT)
    ping_pong = parsed.triggers[1]
    assert parsed == config.Config(
        product_id="acme",
        triggers=(
            config.Trigger(
                id="bulk_edit_opportunity",
                name="Bulk edit opportunity",
                criteria=criteria,
                body="Updating projects one by one? …",
                how_to="1. …",
                tours=("projects-bulk-edit",),
                options=(Option("chip_1", "Yes please", True, "flow_1"),),
                target="[data-guide='connect-data-source']",
                channels=("toast",),
                interaction_timeout=10 * SECOND,
                cooldown=30 * SECOND,
                expires=600 * SECOND,
                limits=config.Limits(1, Budget(3, "day")),
                holdout=0.1,
                goal="bulk_edit_used",
            ),
            ping_pong,
        ),
        tours=(config.Tour("projects-bulk-edit", "flow_1", "…", "/projects", 60 * SECOND, 120 * SECOND),),
        interaction_timeout=60 * SECOND,
        cooldown_period=120 * SECOND,
        lookback=120 * SECOND,
        max_actions=50,
        min_gap=0,
        per_user=Budget(10, "day"),
        quiet_hours=QuietHours(22 * 60, 7 * 60),
        timezone="Europe/Berlin",
        section_rules=(config.SectionRule("https://app/billing", "billing"),),
        section_fallback="other",
        playbook=(config.PlaybookRow("billing", "…"), config.PlaybookRow("reports", "…", ("…",))),
    )
    assert (ping_pong.id, ping_pong.builtin) == ("canonical_url_ping_pong",) * 2
    assert ping_pong.criteria == PingPong(1, 3)
    assert (ping_pong.interaction_timeout, ping_pong.cooldown) == (10 * SECOND, 30 * SECOND)
    assert 0 < len(ping_pong.body) <= 150


def test_all_defaults() -> None:
    parsed = config_parse.parse(
        {"product_id": "acme", "triggers": [{"id": "t", "criteria": LEAF}], "tours": [{"id": "Tour"}]}
    )
    assert (parsed.interaction_timeout, parsed.cooldown_period) == (20 * SECOND, 60 * SECOND)
    assert (parsed.lookback, parsed.max_actions, parsed.min_gap) == (120 * SECOND, 50, 0)
    assert (parsed.timezone, parsed.quiet_hours, parsed.per_user) == ("UTC", None, None)
    assert (parsed.reserved, parsed.origins, parsed.playbook) == (None, (), ())
    trigger = parsed.triggers[0]
    assert (trigger.name, trigger.body, trigger.channels) == ("t", "Need my expert help?", ("toast",))
    assert (trigger.interaction_timeout, trigger.cooldown) == (None, 30 * SECOND)
    assert (trigger.expires, trigger.holdout, trigger.limits) == (600 * SECOND, 0.0, config.Limits())
    tour = parsed.tours[0]
    assert (tour.user_tour_id, tour.user_tour_name, tour.page_contains) == ("Tour", "Tour", None)
    assert (tour.interaction_timeout, tour.cooldown_period) == (20 * SECOND, 120 * SECOND)


def test_ten_mistakes_are_all_reported() -> None:
    raw = copy.deepcopy(CONTRACT)
    trigger = raw["triggers"][0]
    trigger["body"] = "x" * 151
    trigger["tours"] = ["projects-bulk-edit", "projects-bulk-edits"]
    trigger["options"] = [{"id": f"o{i}", "label": "Yes"} for i in range(4)]
    trigger["cooldown_s"] = -1
    trigger["criteria"]["conditions"][1]["where"] = {"title_contain": "bulk edit"}
    trigger["criteria"]["conditions"][2]["type"] = "counts"
    trigger["criteria"]["conditions"].append({"operator": "OR", "conditions": []})
    raw["triggers"][1] = {"builtin": "canonical_url_pingpong"}
    raw["timezone"] = "Europe/Munich"
    raw["trigers"] = []
    found = faults(raw)
    assert set(found) == {
        "triggers[0].body",
        "triggers[0].tours[1]",
        "triggers[0].options",
        "triggers[0].cooldown_s",
        "triggers[0].criteria.conditions[1].where.title_contain",
        "triggers[0].criteria.conditions[2].type",
        "triggers[0].criteria.conditions[3].conditions",
        "triggers[1].builtin",
        "timezone",
        "trigers",
    }
    assert "did you mean triggers?" in found["trigers"]
    assert "did you mean title_contains?" in found["triggers[0].criteria.conditions[1].where.title_contain"]
    assert "did you mean count?" in found["triggers[0].criteria.conditions[2].type"]
    assert "did you mean canonical_url_ping_pong?" in found["triggers[1].builtin"]
    assert "did you mean projects-bulk-edit?" in found["triggers[0].tours[1]"]
    assert "has 151" in found["triggers[0].body"]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                st.text(max_size=3),
                st.sampled_from(
                    ["product_id", "triggers", "tours", "criteria", "conditions", "operator", "type", "where",
                     "limits", "per_user", "options", "sections", "section_playbook", "origins", "session",
                     "context", "quiet_hours", "builtin", "id", "channels", "holdout", "schema", "timezone"]
                ),
            ),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=25,
)  # fmt: skip


@given(JSON)
def test_anything_is_either_read_or_refused(raw: object) -> None:
    """No other exception, and every fault has a detail."""
    try:
        parsed = config_parse.parse(raw)
    except InvalidConfig as error:
        assert error.faults
        assert all(fault.detail for fault in error.faults)
        str(error).encode()  # can be shown: no lone surrogate of the input comes back
    else:
        assert isinstance(raw, dict)
        assert parsed.product_id == raw["product_id"]


@given(st.data())
def test_no_part_of_a_config_may_be_replaced_by_a_null(data: st.DataObject) -> None:
    """A key without a value is a mistake that would otherwise lift a limit silently."""
    raw = copy.deepcopy(CONTRACT)
    node: Any = raw
    while True:
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        if not isinstance(node[key], (dict, list)) or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = None
    with pytest.raises(InvalidConfig):
        config_parse.parse(raw)


def test_the_order_of_keys_does_not_matter() -> None:
    """The revision is a hash over sorted keys: two texts with one revision must mean the same."""

    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return [reversed_keys(item) for item in value] if isinstance(value, list) else value

    raw = copy.deepcopy(CONTRACT)
    raw["triggers"][0]["criteria"]["conditions"][2]["where"]["properties"] = {"b": 1, "a": ["X", True]}
    assert config_parse.parse(reversed_keys(raw)) == config_parse.parse(raw)


@pytest.mark.parametrize("name", ["bulk-edit.yaml", "onboarding-stuck.yaml"])
def test_the_shipped_examples_are_valid(name: str) -> None:
    parsed = config_parse.parse(yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8")))
    assert parsed.product_id == name.removesuffix(".yaml") + "-example"


def test_the_bulk_edit_example_says_what_it_promises() -> None:
    parsed = config_parse.parse(yaml.safe_load((EXAMPLES / "bulk-edit.yaml").read_text(encoding="utf-8")))
    assert parsed.triggers[0].criteria == config_parse.parse(CONTRACT).triggers[0].criteria


def test_the_onboarding_example_says_what_it_promises() -> None:
    text = (EXAMPLES / "onboarding-stuck.yaml").read_text(encoding="utf-8")
    trigger = config_parse.parse(yaml.safe_load(text)).triggers[0]
    assert trigger.limits.per_session == 1
    assert trigger.criteria == Group(
        "AND",
        (
            Count(Where(type=("data_source_open",)), 3, None, 120 * SECOND),
            Absent(Where(type=("data_source_connected",)), None, session=True),
        ),
    )


# --- criteria ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "node"),
    [
        ({"type": "count", "where": SAVE, "at_most": 0}, Count(SAVED, None, 0, None)),
        (
            {"type": "count", "where": SAVE, "at_least": 1, "at_most": 2, "within_s": 0.5, "id": "c"},
            Count(SAVED, 1, 2, SECOND // 2, "c"),
        ),
        ({"type": "count", "where": SAVE, "at_least": 1, "within_s": 86400}, Count(SAVED, 1, None, DAY)),
        ({"type": "absent", "where": SAVE}, Absent(SAVED, None)),
        ({"type": "absent", "where": SAVE, "within_s": 60}, Absent(SAVED, 60 * SECOND)),
        ({"type": "absent", "where": SAVE, "within": "session"}, Absent(SAVED, None, True)),
        (
            {"type": "sequence", "steps": [SAVE, {"type": "Click"}]},
            config.Sequence((SAVED, Where(type=("click",))), None),
        ),
        (
            {"type": "sequence", "steps": [SAVE] * 20, "within_s": 9, "without": SAVE,
             "contiguity": "strict"},
            config.Sequence((SAVED,) * 20, 9 * SECOND, (SAVED,), True),
        ),
        (
            {"type": "sequence", "steps": [SAVE] * 2, "without": [SAVE, SAVE], "contiguity": "relaxed"},
            config.Sequence((SAVED,) * 2, None, (SAVED, SAVED)),
        ),
        ({"type": "current_page", "url_prefix": ["/A", "/b"]}, CurrentPage((), ("/a", "/b"))),
        ({"type": "action_count", "at_least": 5}, config.ActionCount(5)),
        ({"type": "canonical_url_ping_pong"}, PingPong(1, 3)),
        (
            {"type": "canonical_url_ping_pong", "min_cycles": 2, "hesitation_min_distinct": 4},
            PingPong(2, 4),
        ),
        ({"type": "user_page_dwell"}, Dwell(60 * SECOND, 5)),
        (
            {"type": "user_page_dwell", "dwell_threshold_seconds": 1.5, "user_page_dwell_max_actions": 2},
            Dwell(1_500_000, 2),
        ),
        ({"type": "predicate", "predicate": "acme.rage"}, config.Predicate("acme.rage")),
        ({"operator": "NOT", "conditions": [LEAF]}, Group("NOT", (config.ActionCount(1),))),
        (
            {"operator": "OR", "conditions": [LEAF, LEAF], "id": "g", "name": "G"},
            Group("OR", (config.ActionCount(1),) * 2, "g", "G"),
        ),
    ],
)  # fmt: skip
def test_every_kind_of_node_is_read(raw: dict[str, Any], node: config.Node) -> None:
    assert leaf(raw) == node


def test_a_section_leaf_needs_sections_and_a_playbook() -> None:
    raw = {"type": "section_playbook_match"}
    sections = {"sections": {"fallback_id": "other"}, "section_playbook": {"other": "Hello"}}
    assert leaf(raw, **sections) == config.SectionMatch()
    with pytest.raises(InvalidConfig) as caught:
        leaf({"operator": "AND", "conditions": [LEAF, raw]})
    assert [fault.path for fault in caught.value.faults] == ["triggers[0].criteria.conditions[1].type"] * 2
    builtin = {"product_id": "acme", "triggers": [{"builtin": "section_playbook_match"}]}
    assert config_parse.parse({**builtin, **sections}).triggers[0].criteria == config.SectionMatch()
    assert set(faults({**builtin, "sections": sections["sections"]})) == {"triggers[0].builtin"}


@pytest.mark.parametrize("kind", ["first_time", "returned_after", "stopped", "workflow"])
def test_leaves_over_the_users_history_are_refused_with_the_reason(kind: str) -> None:
    found = faults(with_criteria({"type": kind, "where": SAVE}))
    assert list(found) == ["triggers[0].criteria.type"]
    assert "user's history, which this version does not have" in found["triggers[0].criteria.type"]


def test_every_field_of_where_is_read_and_case_folded() -> None:
    raw = {
        "type": ["Click", "SUBMIT"],
        "title_contains": "Straße",
        "title_equals": "Save",
        "url_contains": "/Projects",
        "url_prefix": ["HTTPS://app/"],
        "properties": {"Plan": ["Pro", 2, True], "a": 1.5},
    }
    assert leaf({"type": "absent", "where": raw}) == Absent(
        Where(
            ("click", "submit"), ("strasse",), ("save",), ("/projects",), ("https://app/",),
            (("Plan", ("pro", 2, True)), ("a", (1.5,))),
        ),
        None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (None, ""),
        ([], ""),
        ({}, ""),
        ({"id": "x"}, ""),
        ({"operator": "AND", "type": "count"}, ""),
        ({"operator": "AND"}, ".conditions"),
        ({"conditions": [LEAF]}, ".operator"),
        ({"operator": "and", "conditions": [LEAF]}, ".operator"),
        ({"operator": "AND", "conditions": {}}, ".conditions"),
        ({"operator": "AND", "conditions": [LEAF, 1]}, ".conditions[1]"),
        ({"type": 1}, ".type"),
        ({"type": "constructor"}, ".type"),
        ({**LEAF, "where": SAVE}, ".where"),
        ({**LEAF, "id": ""}, ".id"),
        ({**LEAF, "id": "a\nb"}, ".id"),
        ({**LEAF, "id": "x" * 101}, ".id"),
        ({"operator": "OR", "conditions": [{**LEAF, "id": "a"}, {**LEAF, "id": "a"}]}, ".conditions[1].id"),
        ({"type": "count", "at_least": 1}, ".where"),
        ({"type": "count", "where": {}, "at_least": 1}, ".where"),
        ({"type": "count", "where": SAVE}, ""),
        ({"type": "count", "where": SAVE, "at_least": -1}, ".at_least"),
        ({"type": "count", "where": SAVE, "at_least": True}, ".at_least"),
        ({"type": "count", "where": SAVE, "at_least": 1.5}, ".at_least"),
        ({"type": "count", "where": SAVE, "at_least": 3, "at_most": 2}, ".at_most"),
        ({"type": "count", "where": SAVE, "at_least": 1, "within_s": 86401}, ".within_s"),
        ({"type": "count", "where": SAVE, "at_least": 1, "within_s": 0}, ".within_s"),
        ({"type": "count", "where": SAVE, "at_least": 1, "within": "session"}, ".within"),
        ({"type": "absent", "where": SAVE, "within": "day"}, ".within"),
        ({"type": "absent", "where": SAVE, "within": "session", "within_s": 1}, ".within"),
        ({"type": "absent", "where": {"title_contains": []}}, ".where.title_contains"),
        ({"type": "absent", "where": {"title_contains": " "}}, ".where.title_contains"),
        ({"type": "absent", "where": {"title_contains": ["a", 1]}}, ".where.title_contains[1]"),
        ({"type": "absent", "where": {"properties": {}}}, ".where.properties"),
        ({"type": "absent", "where": {"properties": {"a b": None}}}, '.where.properties["a b"]'),
        ({"type": "absent", "where": {"properties": {"a": []}}}, ".where.properties.a"),
        ({"type": "absent", "where": {"properties": {"a": [{}]}}}, ".where.properties.a"),
        ({"type": "sequence"}, ".steps"),
        ({"type": "sequence", "steps": [SAVE]}, ".steps"),
        ({"type": "sequence", "steps": [SAVE] * 21}, ".steps"),
        ({"type": "sequence", "steps": [SAVE, {"titel": "x"}]}, ".steps[1].titel"),
        ({"type": "sequence", "steps": [SAVE] * 2, "without": []}, ".without"),
        ({"type": "sequence", "steps": [SAVE] * 2, "without": [{}]}, ".without[0]"),
        ({"type": "sequence", "steps": [SAVE] * 2, "contiguity": "loose"}, ".contiguity"),
        ({"type": "current_page"}, ""),
        ({"type": "current_page", "url_contains": 1}, ".url_contains"),
        ({"type": "action_count"}, ".at_least"),
        ({"type": "canonical_url_ping_pong", "min_cycles": 0}, ".min_cycles"),
        ({"type": "user_page_dwell", "dwell_threshold_seconds": 0}, ".dwell_threshold_seconds"),
        ({"type": "user_page_dwell", "user_page_dwell_max_actions": 0}, ".user_page_dwell_max_actions"),
        ({"type": "predicate"}, ".predicate"),
    ],
)
def test_wrong_criteria_are_refused_where_they_are_wrong(raw: object, path: str) -> None:
    assert list(faults(with_criteria(raw))) == ["triggers[0].criteria" + path]


def nested(levels: int) -> dict[str, Any]:
    node: dict[str, Any] = {"type": "absent", "where": {"title_contains": ["save"]}}
    for _ in range(levels - 1):
        node = {"operator": "NOT", "conditions": [node]}
    return node


def test_criteria_are_at_most_16_levels_deep() -> None:
    assert isinstance(leaf(nested(16)), Group)
    assert list(faults(with_criteria(nested(17)))) == ["triggers[0].criteria" + ".conditions[0]" * 16]


# --- the rest, one mistake at a time ------------------------------------------------------------------


def changed(path: str, value: object) -> dict[str, Any]:
    """The contract's config with one value put at `path` (keys and indices, separated by blanks)."""
    raw = copy.deepcopy(CONTRACT)
    *way, last = (int(key) if key.isdigit() else key for key in path.split())
    node: Any = raw
    for key in way:
        node = node[key]
    node[last] = value
    return raw


T = "triggers 0 "
LABELS = "section_playbook reports reply_option_labels"


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("schema", 2, "schema"),
        ("schema", True, "schema"),
        ("schema", "1", "schema"),
        ("product_id", "", "product_id"),
        ("product_id", "a/b", "product_id"),
        ("product_id", "a\n", "product_id"),
        ("product_id", "x" * 101, "product_id"),
        ("product_id", 7, "product_id"),
        ("session", [], "session"),
        ("session interaction_timeout_s", 0, "session.interaction_timeout_s"),
        ("session interaction_timeout_s", True, "session.interaction_timeout_s"),
        ("session interaction_timeout_s", "20", "session.interaction_timeout_s"),
        ("session interaction_timeout_s", float("nan"), "session.interaction_timeout_s"),
        ("session interaction_timeout_s", float("inf"), "session.interaction_timeout_s"),
        ("session interaction_timeout_s", 1e300, "session.interaction_timeout_s"),
        ("session interaction_timeout_s", 10**1000, "session.interaction_timeout_s"),
        ("session interaction_timeout_s", 1e-9, "session.interaction_timeout_s"),
        ("session interaction_timeout", 1, "session.interaction_timeout"),
        ("context max_actions", 0, "context.max_actions"),
        ("context lookback_s", -1, "context.lookback_s"),
        ("triggers", {}, "triggers"),
        ("triggers 1", "canonical_url_ping_pong", "triggers[1]"),
        ("triggers 1", {"builtin": "user_page_dwell", "min_cycles": 2}, "triggers[1].min_cycles"),
        ("triggers 1", {"builtin": "user_page_dwell", "criteria": LEAF}, "triggers[1].criteria"),
        ("triggers 1", {"builtin": "count"}, "triggers[1].builtin"),
        ("triggers 1", {"id": "x"}, "triggers[1].criteria"),
        ("triggers 1", {"criteria": LEAF}, "triggers[1].id"),
        ("triggers 1 id", "bulk_edit_opportunity", "triggers[1].id"),
        (T + "id", "a\x7fb", "triggers[0].id"),
        (T + "body", " ", "triggers[0].body"),
        (T + "body", "a\x00", "triggers[0].body"),
        (T + "body", "\ud800", "triggers[0].body"),
        (T + "tours", "projects-bulk-edit", "triggers[0].tours"),
        (T + "tours", ["projects-bulk-edit"] * 2, "triggers[0].tours[1]"),
        (T + "options 0 label", "", "triggers[0].options[0].label"),
        (T + "options 0 user_tour_exists", "yes", "triggers[0].options[0].user_tour_exists"),
        (
            T + "options 0",
            {"id": "a", "label": "b", "user_tour_exists": True},
            "triggers[0].options[0].user_tour_id",
        ),
        (T + "options", [{"id": "a", "label": "b"}] * 2, "triggers[0].options[1].id"),
        (T + "channels", [], "triggers[0].channels"),
        (T + "channels", ["toast", "toasts"], "triggers[0].channels[1]"),
        (T + "channels", ["toast", "toast"], "triggers[0].channels[1]"),
        (T + "interaction_timeout_s", 0, "triggers[0].interaction_timeout_s"),
        (T + "cooldown_s", 0, "triggers[0].cooldown_s"),
        (T + "expires_s", None, "triggers[0].expires_s"),
        (T + "limits per_session", 0, "triggers[0].limits.per_session"),
        (T + "limits per_user", {"times": 1}, "triggers[0].limits.per_user.per"),
        (T + "limits per_user", {"per": "day"}, "triggers[0].limits.per_user.times"),
        (T + "limits per_user per", "year", "triggers[0].limits.per_user.per"),
        (T + "limits min_gap_s", 1, "triggers[0].limits.min_gap_s"),
        (T + "holdout", 1.1, "triggers[0].holdout"),
        (T + "holdout", -0.1, "triggers[0].holdout"),
        (T + "holdout", True, "triggers[0].holdout"),
        (T + "holdout", 10**1000, "triggers[0].holdout"),
        (T + "holdout", float("nan"), "triggers[0].holdout"),
        (T + "goal", 1, "triggers[0].goal"),
        ("tours 0 id", "other", "triggers[0].tours[0]"),
        ("tours 0 cooldown_period_s", 0, "tours[0].cooldown_period_s"),
        ("tours 0 user_tour_id", "", "tours[0].user_tour_id"),
        ("tours", [{"id": "projects-bulk-edit"}] * 2, "tours[1].id"),
        ("limits min_gap_s", -1, "limits.min_gap_s"),
        ("limits per_session", 1, "limits.per_session"),
        ("limits quiet_hours", {"from": "22:00"}, "limits.quiet_hours.to"),
        ("limits quiet_hours to", "22:00", "limits.quiet_hours.to"),
        ("limits quiet_hours to", "24:00", "limits.quiet_hours.to"),
        ("limits quiet_hours to", "7:00", "limits.quiet_hours.to"),
        ("limits quiet_hours from", 1320, "limits.quiet_hours.from"),
        ("timezone", "../../etc/passwd", "timezone"),
        ("timezone", "europe/berlin", "timezone"),
        ("sections rules 0", {"prefix": "x"}, "sections.rules[0].section_id"),
        (LABELS, list("abcd"), "section_playbook.reports.reply_option_labels"),
        (LABELS, [""], "section_playbook.reports.reply_option_labels[0]"),
        ("section_playbook billing", 1, "section_playbook.billing"),
        ("section_playbook reports", {}, "section_playbook.reports.body"),
        ("origins", ["https://app.example.com/"], "origins[0]"),
        ("origins", ["app.example.com"], "origins[0]"),
        ("origins", ["*"], "origins[0]"),
        ("origins", ["https://a", "HTTPS://A:443"], "origins[1]"),
        ("workflows", "x", "workflows"),
        ("workflows", {"a": ["\x00"]}, "workflows.a[0]"),
        ("workflows", {"a": 2**53 + 1}, "workflows.a"),
        ("workflows", {"a": {1, 2}}, "workflows.a"),
        ("workflows", {1: 2}, "workflows[1]"),
        ("workflows", {16**5000: 2}, "workflows[int]"),
    ],
)  # fmt: skip
def test_one_mistake_gives_one_fault_at_its_path(path: str, value: object, fault: str) -> None:
    assert list(faults(changed(path, value))) == [fault]


@pytest.mark.parametrize("raw", [None, [], "text", 1])
def test_a_config_is_an_object(raw: object) -> None:
    assert faults(raw) == {"": "must be an object"}


def test_an_empty_object_lacks_only_its_product() -> None:
    assert faults({}) == {"product_id": "is required"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 1),
        (T + "body", "x" * 150),
        (T + "holdout", 0),
        (T + "holdout", 1),
        (T + "limits per_user per", "ever"),
        (T + "options", []),
        ("tours 0 user_tour_id", "projects-bulk-edit"),
        ("limits quiet_hours to", "23:59"),
        ("triggers 1", {"builtin": "canonical_url_ping_pong", "id": "pp", "limits": {"per_session": 1}}),
        ("triggers", []),
    ],
)
def test_what_is_just_allowed_is_read(path: str, value: object) -> None:
    assert config_parse.parse(changed(path, value)).product_id == "acme"


def test_a_builtin_row_takes_the_fields_of_its_leaf() -> None:
    row = {"builtin": "canonical_url_ping_pong", "id": "pp", "min_cycles": 2, "cooldown_s": 5, "body": "Hm?"}
    trigger = config_parse.parse({"product_id": "acme", "triggers": [row]}).triggers[0]
    assert trigger.criteria == PingPong(2, 3)
    assert (trigger.id, trigger.cooldown, trigger.body) == ("pp", 5 * SECOND, "Hm?")
    assert trigger.builtin == "canonical_url_ping_pong"


def test_page_contains_is_case_folded() -> None:
    assert (
        config_parse.parse(changed("tours 0 page_contains", "/Projects")).tours[0].page_contains
        == "/projects"
    )


def test_fractions_of_seconds_become_whole_microseconds() -> None:
    assert config_parse.parse(changed("limits min_gap_s", 0.1)).min_gap == 100_000
    assert config_parse.parse(changed("limits min_gap_s", 2.0000011)).min_gap == 2_000_001


def test_origins_are_kept_as_browsers_send_them() -> None:
    raw = changed("origins", ["HTTPS://App.example.com:443", "http://localhost:8090", "http://[::1]:80"])
    assert config_parse.parse(raw).origins == (
        "https://app.example.com",
        "http://localhost:8090",
        "http://[::1]",
    )


def test_reserved_keys_are_kept_as_they_are() -> None:
    raw = changed("attribution", {"window_s": 60})
    raw["workflows"] = []
    assert config_parse.parse(raw).reserved == {"workflows": [], "attribution": {"window_s": 60}}


def test_a_config_that_unfolds_without_end_is_refused() -> None:
    """What a YAML file of a few lines with nested aliases can turn into."""
    value: list[Any] = ["x"]
    for _ in range(30):
        value = [value] * 10
    assert "too large" in faults({"product_id": "acme", "workflows": value})[""]
    cycle: list[Any] = []
    cycle.append(cycle)
    assert list(faults({"product_id": "acme", "workflows": cycle})) == ["workflows" + "[0]" * 39]
