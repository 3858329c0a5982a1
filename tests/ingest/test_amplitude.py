"""Amplitude's bodies: recordings of the real browser SDK, and what Autoplay's template makes, by its text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.ingest import amplitude, bodies, labelling
from api.ingest.acts import Act
from api.ingest.arrivals import Arrival
from domain import events, instants
from domain.config_labels import Labels
from domain.errors import InvalidInput

DATA = Path(__file__).parents[1] / "data" / "amplitude"
NOW = instants.parse("2026-11-20T09:34:20Z")


def recorded() -> list[dict[str, Any]]:
    return [json.loads(line)["body"] for line in (DATA / "browser.jsonl").read_text().splitlines()]


def said() -> list[Arrival]:
    return [arrival for body in recorded() for arrival in amplitude.translate(body, NOW).events]


def event(**changes: Any) -> dict[str, Any]:
    return {"event_type": "Report exported", "device_id": "d-1", "time": 1795167251286} | changes


def read(*listed: dict[str, Any]) -> list[Arrival]:
    found = amplitude.translate({"events": list(listed)}, NOW)
    assert found.rejected == []
    return found.events


def test_the_recorded_session_in_words() -> None:
    """A change of a search box, the click and the submit that Enter made are one act; forms begun, sessions
    begun and what came into view are none."""
    labelled = labelling.outside([arrival.seen for arrival in said()], Labels())
    told = [e.event.description for e in labelled.events if isinstance(e.event, events.Action)]
    assert told == [
        "User visited Projects",
        "User clicked Edit on Projects",
        "User visited Projects / Edit",
        "User changed pname on Projects / Edit",
        "User clicked Save changes on Projects / Edit",
        "User clicked Cancel on Projects / Edit",
        "User visited Projects",
        "User submitted Search on Projects",
        "User clicked Billing & plan on Projects",
        "User visited Settings / Billing",
    ]
    assert labelled.merged == 2


def test_a_click_that_leaves_a_page_was_on_it() -> None:
    edit = next(a.seen.what for a in said() if isinstance(a.seen.what, Act) and a.seen.what.text == "Edit")
    assert edit.url == "http://localhost:9811/projects"


def test_a_stored_action_gives_the_same_act_again() -> None:
    for stored in labelling.outside([arrival.seen for arrival in said()], Labels()).events:
        if isinstance(stored.event, events.Action):
            act = amplitude.act_again(stored.event)
            assert act is not None
            again = labelling.again(act, stored.event, Labels(), amplitude.SOURCE)
            assert (again.type, again.title) == (stored.event.type, stored.event.title)


@pytest.mark.parametrize(
    ("number", "device", "user", "session"),
    [
        (1795167251277, "d-1", "u", "1795167251277-d-1"),
        (1795167251277, None, "u", "1795167251277-u"),
        (-1, "d-1", "u", "d-1"),
        (0, "d-1", None, "d-1"),
        (None, "d-1", "u", "d-1"),
        (-1, None, "u", None),
    ],
)
def test_a_session_is_one_device_s(
    number: int | None, device: str | None, user: str | None, session: str | None
) -> None:
    (found,) = read(event(session_id=number, device_id=device, user_id=user))
    assert found.seen.session_id == session
    assert found.seen.user_id == (user or device)


def test_instants_are_milliseconds_and_the_clock_is_corrected() -> None:
    """An hour fast, two seconds before it was uploaded."""
    body = {"events": [event(time=1795170858000)], "client_upload_time": "2026-11-20T10:34:20.000Z"}
    (found,) = amplitude.translate(body, NOW).events
    assert found.seen.occurred_at == NOW - 2 * instants.SECOND


def test_an_id_is_the_device_s_own() -> None:
    """A text that a host chose may come from two devices; a UUID may not."""
    uuid = "60552f4e-7eef-4938-9911-e08976ad9a82"
    one, other, third, fourth = read(
        event(insert_id="1"),
        event(insert_id="1", device_id="d-2"),
        event(insert_id=uuid),
        event(),
    )
    assert one.seen.event_id != other.seen.event_id
    assert third.seen.event_id == uuid
    assert fourth.seen.event_id == read(event())[0].seen.event_id
    assert fourth.seen.event_id != read(event(event_properties={"a": 1}))[0].seen.event_id


def template(kind: str, happened: str, **own: Any) -> dict[str, Any]:
    """An event as the shipped template writes it: scalars, '' for what is missing."""
    return {
        "event_type": kind,
        "user_id": "u_1",
        "device_id": "d-1",
        "session_id": -1,
        "time": 1795167251286,
        "event_time": "2026-11-20 09:34:11.286",
        "user_properties": {"plan": "pro"},
        "event_properties": {
            "[Amplitude] Page URL": "https://app.acme.test/projects/102/edit",
            "[Amplitude] Page Title": "Edit project",
            "$event_type": happened,
            "$current_url": "https://app.acme.test/projects/102/edit",
            "$button_text": "",
            "$elements_chain": "",
            "$element_id": "",
            "$element_tag": "",
            **own,
        },
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (template("$pageview", "click"), "User visited Projects / Edit"),
        (
            template(
                "$autocapture",
                "click",
                **{
                    "$button_text": "Save changes",
                    "$elements_chain": "form#edit-form > button.btn\\:save",
                    "$element_tag": "button",
                },
            ),
            "User clicked Save changes on Projects / Edit",
        ),
        (
            # Without a text the template puts the page's title in its place.
            template(
                "$autocapture",
                "change",
                **{"$button_text": "Edit project", "$elements_chain": "form#edit-form > input#pname"},
            ),
            "User changed pname on Projects / Edit",
        ),
        (template("Report exported", "click", rows=3), "User did Report exported on Projects / Edit"),
    ],
)
def test_the_template_s_events_in_words(given: dict[str, Any], told: str) -> None:
    (found,) = labelling.outside([read(given)[0].seen], Labels()).events
    assert isinstance(found.event, events.Action)
    assert found.event.description == told
    assert found.session_id == "d-1"


def test_a_css_path_is_read_from_the_target_up() -> None:
    act = amplitude.act(
        "[Amplitude] Element Clicked",
        {"[Amplitude] Element Path": "main#view > tr:nth-child(2) > button.btn.btn\\:edit"},
    )
    assert act is not None
    assert [(e.tag, e.classes, dict(e.attributes)) for e in act.chain] == [
        ("button", ("btn", "btn:edit"), {}),
        ("tr", (), {}),
        ("main", (), {"id": "view"}),
    ]


def test_what_a_field_says_is_kept_nowhere() -> None:
    given = event(
        event_type="[Amplitude] Element Changed",
        event_properties={
            "[Amplitude] Element Text": "4111 secret",
            "[Amplitude] Element Hierarchy": [
                {"tag": "input", "id": "card", "attrs": {"value": "4111 secret"}}
            ],
        },
    )
    (found,) = labelling.outside([read(given)[0].seen], Labels()).events
    assert "secret" not in repr(found)


def test_what_is_wrong_is_told_and_costs_nothing_else() -> None:
    body = {"events": [event(), {}, event(time="now"), event(session_id="x"), 7, event(device_id=None)]}
    found = amplitude.translate(body, NOW)
    assert len(found.events) == 1
    assert found.bad == [1, 2, 3, 4, 5]
    with pytest.raises(InvalidInput):
        amplitude.translate({"batch": []}, NOW)
    with pytest.raises(bodies.TooLarge):
        amplitude.translate({"events": [event()] * 2_001}, NOW)


def test_the_body_is_told_from_posthog_s() -> None:
    assert amplitude.is_body({"api_key": "k", "events": []})
    assert not amplitude.is_body({"api_key": "k", "batch": []})
    assert not amplitude.is_body([{"events": []}])
