"""The published configuration, as written for autoplay-sdk 0.13.0, and whatever else people may send."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from autoplay_sdk.proactive.triggers import list_builtin_trigger_catalog, resolve_builtin_specs
from autoplay_sdk.proactive.triggers.proactive_intercom_config import (
    parse_proactive_trigger_configs,
    parse_tour_registry,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from api.published import integration_config
from api.published.integration_config import CATALOG_NAMES
from domain import config_parse
from domain.errors import InvalidConfig
from domain.instants import SECOND

CATALOG = {row["id"]: row for row in list_builtin_trigger_catalog()}


def builtin(which: str, **more: Any) -> dict[str, Any]:
    return {"id": which, "name": f"Our {which}", "description": "why", **more}


def leaf(kind: str, **more: Any) -> dict[str, Any]:
    return {"id": f"is_{kind}", "name": kind, "type": kind, **more}


def message(n: int, **more: Any) -> dict[str, Any]:
    return {"id": f"chip_{n}", "label": f"Choice {n}", **more}


WHOLE = {
    "proactive_triggers": {
        "mode": "default_registry",
        "builtins": [
            builtin("user_page_dwell", interaction_timeout_s=15),
            builtin("canonical_url_ping_pong", cooldown_s="45"),
            builtin("section_playbook_match"),
        ],
        "dwell_threshold_seconds": 90,
        "user_page_dwell_max_actions": 3,
        "dwell_proactive_body": "Stuck here?",
    },
    "section_url_rules": [{"prefix": "https://app.test/billing", "section_id": "billing"}],
    "section_playbook": {
        "billing": "Questions about invoices?",
        "reports": {"proactive_body": "Reports can be scheduled.", "quick_reply_labels": ["How?", "Later"]},
    },
    "proactive_intercom": [
        {
            "id": "projects_hesitation",
            "name": "Projects hesitation",
            "proactive_criteria": {
                "id": "both",
                "name": "both",
                "operator": "AND",
                "conditions": [leaf("url_contains", value="/projects"), leaf("canonical_url_ping_pong")],
            },
            "messages": [message(1, user_tour_exists=True, user_tour_id="flow_1"), message(2)],
        },
        {
            "id": "dwell_messages",
            "name": "Messages of dwell",
            "proactive_criteria": leaf("user_page_dwell"),
            "messages": [message(1)],
        },
    ],
    "tour_registry": [
        {
            "id": "chip_1",
            "user_tour_id": "flow_1",
            "user_tour_name": "New project",
            "interaction_timeout_s": 30,
        },
        {"id": "bare"},
    ],
}


def imported(raw: Any) -> tuple[Any, dict[str, str]]:
    found = integration_config.read(raw, "acme")
    return config_parse.parse(found.config), {w.path: w.detail for w in found.warnings}


def refused(raw: Any) -> dict[str, str]:
    with pytest.raises(InvalidConfig) as caught:
        integration_config.read(raw, "acme")
    return {fault.path: fault.detail for fault in caught.value.faults}


def with_builtins(*rows: Any, **more: Any) -> dict[str, Any]:
    return {"proactive_triggers": {"builtins": list(rows), **more}}


def test_a_whole_config_is_taken_without_a_warning() -> None:
    config, warnings = imported(WHOLE)
    assert warnings == {}
    dwell, ping_pong, section, projects = config.triggers
    assert (dwell.id, dwell.interaction_timeout, dwell.cooldown) == (
        "user_page_dwell",
        15 * SECOND,
        30 * SECOND,
    )
    assert (dwell.criteria.threshold, dwell.criteria.max_actions) == (90 * SECOND, 3)
    assert (dwell.body, [o.label for o in dwell.options]) == ("Stuck here?", ["Choice 1"])
    assert (ping_pong.interaction_timeout, ping_pong.cooldown) == (10 * SECOND, 45 * SECOND)
    assert section.id == "section_playbook_match"
    assert [node.id for node in projects.criteria.conditions] == [
        "is_url_contains",
        "is_canonical_url_ping_pong",
    ]
    assert projects.options[0].user_tour_id == "flow_1"
    assert (config.section_fallback, len(config.playbook)) == ("other", 2)
    assert {row.section_id: row.reply_option_labels for row in config.playbook}["reports"] == (
        "How?",
        "Later",
    )
    first, bare = config.tours
    assert (first.interaction_timeout, first.cooldown_period) == (30 * SECOND, 120 * SECOND)
    assert (bare.interaction_timeout, bare.user_tour_id) == (20 * SECOND, "bare")


def test_the_catalog_is_the_published_one() -> None:
    assert {name: row["name"] for name, row in CATALOG.items()} == CATALOG_NAMES
    for name, row in CATALOG.items():
        raw = {**WHOLE, **with_builtins(builtin(name))}
        trigger = imported(raw)[0].trigger(name)
        assert trigger.interaction_timeout == row["interaction_timeout_s"] * SECOND
        assert trigger.cooldown == row["cooldown_s"] * SECOND


@pytest.mark.parametrize("raw", [{}, {"proactive_triggers": {}}, with_builtins()])
def test_without_rows_the_default_registry_stands(raw: dict[str, Any]) -> None:
    config, warnings = imported(raw)
    assert [t.id for t in config.triggers] == ["canonical_url_ping_pong"]
    assert warnings == {}


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ({"id": "canonical_url_ping_pong", "name": "n"}, "description"),
        ({"id": "canonical_url_ping_pong", "name": " ", "description": "d"}, "name"),
        ({"id": 3, "name": "n", "description": "d"}, "id"),
        (builtin("bulk_edit"), "id"),
        (builtin("user_page_dwell", cooldown_s=0), "cooldown_s"),
        (builtin("user_page_dwell", interaction_timeout_s="soon"), "interaction_timeout_s"),
        (builtin("user_page_dwell", triggering_type="sometimes"), "triggering_type"),
    ],
)
def test_a_row_that_the_published_reader_refuses_is_refused_with_its_path(row: Any, path: str) -> None:
    logging.getLogger("autoplay_sdk").setLevel(logging.CRITICAL)
    with pytest.raises(Exception, match=r"builtin"):
        resolve_builtin_specs([row])
    assert list(refused(with_builtins(builtin("canonical_url_ping_pong"), row))) == [
        f"proactive_triggers.builtins[1].{path}"
    ]


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"colour": 1}, "colour", "ignored"),
        ({"proactive_triggers": {"mode": "often"}}, "proactive_triggers.mode", "not known"),
        (
            with_builtins(
                builtin("user_page_dwell"), builtin("canonical_url_ping_pong"), mode="ping_pong_only"
            ),
            "proactive_triggers.builtins[0]",
            "ping_pong_only",
        ),
        (
            with_builtins(builtin("user_page_dwell"), builtin("user_page_dwell")),
            "proactive_triggers.builtins[1]",
            "second time",
        ),
        (
            with_builtins(builtin("section_playbook_match")),
            "proactive_triggers.builtins[0]",
            "would never fire",
        ),
        ({"section_url_rules": [{"prefix": "/x"}]}, "section_url_rules[0]", "left out"),
        ({"section_playbook": {"a": {"body": ""}}}, "section_playbook.a", "left out"),
        ({"section_playbook": {"a": "x" * 200}}, "section_playbook.a", "cut at 150"),
        ({"tour_registry": [3]}, "tour_registry[0]", "left out"),
        (
            {"tour_registry": [{"id": "a", "cooldown_period_s": -1}]},
            "tour_registry[0].cooldown_period_s",
            "120",
        ),
        ({"proactive_intercom": 3}, "proactive_intercom", "left out"),
        ({"proactive_intercom": [3]}, "proactive_intercom[0]", "left out"),
        ({"dwell_threshold_seconds": 0}, "dwell_threshold_seconds", "taken as 60"),
    ],
)
def test_what_is_skipped_is_a_warning_with_its_path(change: Any, path: str, words: str) -> None:
    raw = {**with_builtins(builtin("user_page_dwell")), **change}
    _, warnings = imported(raw)
    assert words in warnings[path], warnings


def intercom(**change: Any) -> dict[str, Any]:
    row = {
        "id": "r",
        "name": "R",
        "proactive_criteria": leaf("action_count", at_least=3),
        "messages": [message(1)],
    }
    return {"proactive_intercom": [{**row, **change}]}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"messages": []}, ".messages"),
        ({"messages": [message(n) for n in range(4)]}, ".messages"),
        ({"messages": [message(1, user_tour_exists=True)]}, ".messages[0]"),
        ({"messages": [{"id": "a"}]}, ".messages[0]"),
        ({"proactive_criteria": {"id": "a", "name": "a"}}, ".proactive_criteria.type"),
        ({"proactive_criteria": leaf("url_change")}, ".proactive_criteria.type"),
        ({"proactive_criteria": leaf("url_contains")}, ".proactive_criteria.type"),
        ({"proactive_criteria": leaf("section_playbook_match")}, ".proactive_criteria.type"),
        (
            {"proactive_criteria": {"operator": "NOT", "conditions": [leaf("action_count", at_least=1)]}},
            ".proactive_criteria.operator",
        ),
        (
            {"proactive_criteria": {"operator": "OR", "conditions": []}},
            ".proactive_criteria.conditions",
        ),
    ],
)
def test_a_bad_intercom_row_is_left_out_and_the_rest_stays(change: Any, path: str) -> None:
    config, warnings = imported(intercom(**change))
    assert [t.id for t in config.triggers] == ["canonical_url_ping_pong"]
    assert [key for key in warnings if key.startswith(f"proactive_intercom[0]{path}")], warnings


def test_a_good_intercom_row_stands_behind_the_catalog() -> None:
    config, warnings = imported(intercom())
    assert [t.id for t in config.triggers] == ["canonical_url_ping_pong", "r"]
    assert (config.triggers[1].body, warnings) == ("Need my expert help?", {})


def test_rows_that_the_published_reader_takes_are_taken_here() -> None:
    assert [row.id for row in parse_proactive_trigger_configs(WHOLE)] == [
        "projects_hesitation",
        "dwell_messages",
    ]
    registry = parse_tour_registry(WHOLE)
    config, _ = imported(WHOLE)
    assert registry is not None
    assert [
        (t.id, t.interaction_timeout_s * SECOND, t.cooldown_period_s * SECOND) for t in registry.tours
    ] == [(t.id, t.interaction_timeout, t.cooldown_period) for t in config.tours]


def test_the_form_of_messages_before_is_read_too() -> None:
    config, _ = imported(
        {"proactive_intercom": {"messages": [{"label": "Tour", "offers_tour": True, "flow_id": "f"}]}}
    )
    (option,) = config.triggers[0].options
    assert (option.id, option.user_tour_exists, option.user_tour_id) == ("msg_0", True, "f")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 200) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["id", "name", "description", "type", "operator", "conditions", "messages", "label", "prefix",
             "section_id", "body", "builtins", "mode", "proactive_criteria", "user_tour_id", "x"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip
SPOILT = st.sampled_from(sorted(WHOLE)) | st.sampled_from(sorted(WHOLE["proactive_triggers"]))


@given(key=SPOILT, value=JSON)
@settings(max_examples=300, deadline=None)
def test_anything_is_refused_with_paths_or_gives_a_config_that_stands(key: str, value: Any) -> None:
    raw = {**WHOLE, **({key: value} if key in WHOLE else {})}
    if key not in WHOLE:
        raw["proactive_triggers"] = {**WHOLE["proactive_triggers"], key: value}
    try:
        found = integration_config.read(raw, "acme")
    except InvalidConfig as refusal:
        assert refusal.faults
        return
    config_parse.parse(found.config)
