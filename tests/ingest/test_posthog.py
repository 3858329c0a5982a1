"""PostHog's flat destination bodies, recorded and composed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.ingest import posthog
from api.ingest.native import OutsideEvent
from domain import events, instants
from domain.errors import InvalidInput

RECORDED = Path(__file__).parent.parent / "data" / "posthog" / "flat.jsonl"
BODIES: list[dict[str, str]] = [json.loads(line) for line in RECORDED.read_text().splitlines()]
NOW = instants.parse("2026-11-20T09:26:00Z")


def body(**changes: Any) -> dict[str, Any]:
    empty = dict.fromkeys(BODIES[0], "")
    stamp = {"event": "$autocapture", "event_type": "click", "timestamp": "2026-11-20T09:25:20.810Z"}
    return {**empty, **stamp, "distinct_id": "user_42", "session_id": "s_1", **changes}


def one(value: dict[str, Any], received_at: int = NOW) -> OutsideEvent:
    translated = posthog.translate(value, received_at)
    assert translated.ignored is None
    (event,) = translated.events
    return event


def act(value: dict[str, Any]) -> events.Action:
    event = one(value).event
    assert isinstance(event, events.Action)
    return event


def test_the_recorded_bodies_become_what_the_user_did() -> None:
    told = []
    for recorded in BODIES:
        translated = posthog.translate(recorded, NOW)
        for event in translated.events:
            value = event.event
            told.append(f"{value.type}: {value.title}" if isinstance(value, events.Action) else value.TYPE)
        if translated.ignored:
            assert translated.events == []
            told.append(f"ignored: {translated.ignored}")
    assert told == [
        "pageview: Visited Projects",
        "user_identified",
        "ignored: $groupidentify",
        "click: Edit",
        "change: name",
        "click: archived",
        "change: archived",
        "change: api secret",
        "click: Save changes",
        "click: Save changes",
        "click: Cancel",
        "click: Delete Café; São;Paulo",
        "click: ⬇ Export CSV",
        "change: status",
        "change: q",
        "click: Search",
        "submit: search form",
        "click: Dead button",
        "ignored: $rageclick",
        "report exported: report exported",
        "click: Billing & plan",
        "ignored: $exception_free_custom",
        "pageleave: Left Projects",
    ]


def test_a_recorded_click_is_read_field_by_field() -> None:
    recorded = next(b for b in BODIES if b["button_or_link_text"] == "Save changes")
    event = one(recorded)
    assert (event.user_id, event.session_id) == ("user_42", "01a1f846-4852-7ac7-bcf5-d1d04e87aa09")
    assert (event.occurred_at, event.occurred_raw) == (
        instants.parse("2026-11-20T09:25:20.810Z"),
        "2026-11-20T09:25:20.810Z",
    )
    assert (event.source, event.received_at, event.clock_suspect) == ("posthog", NOW, False)
    assert isinstance(event.event, events.Action)
    assert event.event.raw_url == "http://localhost:9202/projects/102/edit"
    assert event.event.canonical_url == "http://localhost:9202/projects/:id/edit"


def test_identify_carries_the_address_and_the_new_id() -> None:
    recorded = next(b for b in BODIES if b["event"] == "$identify")
    event = one(recorded)
    assert (event.user_id, event.event) == ("user_42", events.UserIdentified(email="ana@example.com"))


def test_the_same_bytes_have_the_same_id_whenever_they_come_and_no_two_acts_share_one() -> None:
    first = [e.event_id for b in BODIES for e in posthog.translate(b, NOW).events]
    again = [e.event_id for b in BODIES for e in posthog.translate(dict(b), NOW + 5).events]
    assert first == again and len(set(first)) == len(first)
    assert one(body(timestamp=""), NOW).event_id == one(body(timestamp=""), NOW + 1).event_id


def test_an_id_begins_with_the_event_s_own_time() -> None:
    event_id = one(body()).event_id
    assert event_id is not None
    assert int(event_id.replace("-", "")[:12], 16) == instants.parse("2026-11-20T09:25:20.810Z") // 1000


@pytest.mark.parametrize(
    "key", ["distinct_id", "timestamp", "event_type", "session_id", "current_url", "elements_chain"]
)
def test_what_tells_two_acts_apart_is_in_the_id(key: str) -> None:
    other = "2026-11-20T09:25:20.811Z" if key == "timestamp" else "other"
    assert one(body(**{key: other})).event_id != one(body()).event_id


def test_missing_values_are_empty_texts_or_missing_keys() -> None:
    assert one(body(session_id="")).session_id is None
    assert one({"event": "signed up", "distinct_id": "u"}).occurred_at == NOW
    assert act(body(event_type="", event="$autocapture")).type == "click"


def test_an_instant_later_than_the_recording_is_clamped() -> None:
    assert one(body(timestamp="2026-12-24T00:00:00Z")).occurred_at == NOW


@pytest.mark.parametrize(
    "name", ["$groupidentify", "$set", "$web_vitals", "$$heatmap", "$snapshot", "$rageclick", "$dead_click"]
)
def test_noise_is_ignored_by_name(name: str) -> None:
    assert posthog.translate(body(event=name), NOW) == ([], name)


def test_a_custom_event_is_an_action_of_that_name() -> None:
    assert (act(body(event="data_source_open")).type, act(body(event="data_source_open")).title) == (
        "data_source_open",
    ) * 2


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"event": ""}, ["event"]),
        ({"event": " "}, ["event"]),
        ({"event": 5}, ["event"]),
        ({"distinct_id": "", "session_id": ""}, ["distinct_id"]),
        ({"distinct_id": 42}, ["distinct_id"]),
        ({"distinct_id": "a\nb", "session_id": "x" * 201}, ["distinct_id", "session_id"]),
        ({"timestamp": "yesterday", "elements_chain": []}, ["timestamp", "elements_chain"]),
        ({"current_url": {}, "email": 1}, ["current_url", "email"]),
    ],
)
def test_every_fault_is_named(changes: dict[str, Any], paths: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        posthog.translate(body(**changes), NOW)
    assert [fault.path for fault in caught.value.faults] == paths


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidInput):
        posthog.translate([body()], NOW)


@pytest.mark.parametrize(
    ("chain", "flat", "title"),
    [
        ("", "Save changes", "Save changes"),
        ('button:text="Edit";td:text="Other"', "Edit", "Edit"),
        # The flat text is cut at an escaped quote, the chain's is whole.
        ('button:text="Edit \\"B2\\""', "Edit \\", 'Edit "B2"'),
        ("", "Edit \\", "Edit"),
        # A click on an icon is a click on its button; an ancestor's text is not the button's.
        ('svg:nth-child="1";button:attr__aria-label="Delete";div:text="All"', "All", "Delete"),
        ('button:attr__title="Archive";li:text="Row 1"', "Row 1", "Archive"),
        ('span:text="now";div:attr__role="button"text="Buy now"', "now", "Buy now"),
        ('div:nth-child="1"', "Text of somebody", "Text of somebody"),
        ('button:attr__data-attr="save-changes"', "", "save changes"),
        ('input:attr__name="api_secret"', "", "api secret"),
        ('button:nth-child="1";section:attr__aria-label="Filters"', "", "Filters"),
        ('button:nth-child="1"', "", "a button"),
        ("", "", "an element"),
        ("garbage;;;", "  Save \n changes ", "Save changes"),
        ('a:text="Mail ana@example.com"', "", "Mail :email"),
        ('a:text="' + "x" * 900 + '"', "", "x" * 500),
    ],
)
def test_a_click_is_labelled_as_the_user_would_call_it(chain: str, flat: str, title: str) -> None:
    assert act(body(elements_chain=chain, button_or_link_text=flat)).title == title


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://localhost:9202/projects/102/edit", "Projects / Edit"),
        ("https://app.example/", "Home"),
        ("https://app.example?utm=1", "Home"),
        ("https://app.example/settings/api-keys_list#x", "Settings / Api keys list"),
        ("https://app.example/caf%C3%A9", "Café"),
        ("http://[bad", "a page"),
        (None, "a page"),
    ],
)
def test_a_page_is_named_by_the_words_of_its_path(url: str | None, name: str) -> None:
    assert posthog.page_name(url) == name


def test_values_of_inputs_are_never_kept_even_where_a_chain_holds_one() -> None:
    chain = 'input:attr__name="card"attr__value="4111 \\"x\\" 1111"nth-child="1"'
    action = act(body(elements_chain=chain, event_type="change"))
    assert "4111" not in repr(action) and action.title == "card"
    assert action.properties == {"elements_chain": 'input:attr__name="card"nth-child="1"'}
