"""PostHog's webhooks: the flat destination's bodies, worked out from recordings, and the stock webhook's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.ingest import labelling, posthog
from api.ingest.acts import Act, Seen
from api.ingest.arrivals import Arrived
from domain import events, instants
from domain.config_labels import Labels
from domain.errors import InvalidInput

RECORDED = Path(__file__).parent.parent / "data" / "posthog" / "flat.jsonl"
BODIES: list[dict[str, str]] = [json.loads(line) for line in RECORDED.read_text().splitlines()]
NOW = instants.parse("2026-11-20T09:26:00Z")


def body(**changes: Any) -> dict[str, Any]:
    empty = dict.fromkeys(BODIES[0], "")
    stamp = {"event": "$autocapture", "event_type": "click", "timestamp": "2026-11-20T09:25:20.810Z"}
    return {**empty, **stamp, "distinct_id": "user_42", "session_id": "s_1", **changes}


def one(value: dict[str, Any], received_at: int = NOW) -> Seen:
    (seen,) = seen_in(value, received_at)
    return seen


def seen_in(value: dict[str, Any], received_at: int = NOW) -> list[Seen]:
    return [arrival.seen for arrival in posthog.translate(value, received_at).events]


def act(value: dict[str, Any]) -> Act:
    what = one(value).what
    assert isinstance(what, Act)
    return what


def test_the_recorded_bodies_become_what_the_user_did() -> None:
    told = []
    for recorded in BODIES:
        translated = posthog.translate(recorded, NOW)
        for seen in (arrival.seen for arrival in translated.events):
            what = seen.what
            told.append(f"{what.name or what.kind}: {what.text}" if isinstance(what, Act) else what.TYPE)
        if translated.ignored:
            assert translated.events == []
            told.append(f"ignored: {recorded['event']}")
    assert told == [
        "pageview: None",
        "user_identified",
        "ignored: $groupidentify",
        "click: Edit",
        "change: None",
        "click: None",
        "change: None",
        "change: None",
        "click: Save changes",
        "click: Save changes",
        "click: Cancel",
        "click: None",
        "click: ⬇",
        "change: None",
        "change: None",
        "click: Search",
        "submit: None",
        "click: Dead button",
        "ignored: $rageclick",
        "report exported: None",
        "click: Billing & plan",
        "ignored: $exception_free_custom",
        "pageleave: None",
    ]


def test_a_recorded_click_is_read_field_by_field() -> None:
    recorded = next(b for b in BODIES if b["button_or_link_text"] == "Save changes")
    seen = one(recorded)
    assert (seen.user_id, seen.session_id) == ("user_42", "01a1f846-4852-7ac7-bcf5-d1d04e87aa09")
    assert (seen.occurred_at, seen.occurred_raw) == (
        instants.parse("2026-11-20T09:25:20.810Z"),
        "2026-11-20T09:25:20.810Z",
    )
    assert (seen.source, seen.received_at, seen.clock_suspect) == ("posthog-webhook", NOW, False)
    assert isinstance(seen.what, Act)
    assert seen.what.url == "http://localhost:9202/projects/102/edit"
    assert [e.tag for e in seen.what.chain][:3] == ["button", "form", "main"]


def test_identify_carries_the_address_and_the_new_id() -> None:
    recorded = next(b for b in BODIES if b["event"] == "$identify")
    seen = one(recorded)
    assert (seen.user_id, seen.what) == ("user_42", events.UserIdentified(email="ana@example.com"))


def test_the_same_bytes_have_the_same_id_whenever_they_come_and_no_two_acts_share_one() -> None:
    first = [e.event_id for b in BODIES for e in seen_in(b)]
    again = [e.event_id for b in BODIES for e in seen_in(dict(b), NOW + 5)]
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
    assert act(body(event_type="")).kind == "click"


def test_an_instant_later_than_the_recording_is_clamped() -> None:
    assert one(body(timestamp="2026-12-24T00:00:00Z")).occurred_at == NOW


@pytest.mark.parametrize(
    "name", ["$groupidentify", "$set", "$web_vitals", "$$heatmap", "$snapshot", "$rageclick", "$dead_click"]
)
def test_noise_is_ignored_by_name(name: str) -> None:
    assert posthog.translate(body(event=name), NOW) == Arrived(ignored=1)


def test_a_custom_event_is_an_act_of_that_name() -> None:
    assert (act(body(event="data_source_open")).kind, act(body(event="data_source_open")).name) == (
        "custom",
        "data_source_open",
    )


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


@pytest.mark.parametrize(
    "wrong", [[body()], {"batch": []}, {"event": "$pageview", "uuid": "u", "properties": {}}, {"event": {}}]
)
def test_a_body_of_another_generation_is_refused_and_told_apart(wrong: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        posthog.translate(wrong, NOW)
    assert caught.value.faults[0].detail


def test_the_flat_text_loses_the_backslash_that_the_cut_left() -> None:
    assert act(body(button_or_link_text="Edit \\")).text == "Edit "


def test_values_of_inputs_are_never_kept_even_where_a_chain_holds_one() -> None:
    chain = 'input:attr__name="card"attr__value="4111 \\"x\\" 1111"nth-child="1"'
    made = act(body(elements_chain=chain, event_type="change"))
    assert "4111" not in repr(made)
    assert made.properties == {"elements_chain": 'input:attr__name="card"nth-child="1"'}
    typed = act(body(elements_chain='textarea:text="my secret"', button_or_link_text="my secret"))
    assert "secret" not in repr(typed)


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_the_act_of_a_stored_action_is_the_act_it_was_made_of(number: int) -> None:
    for seen in seen_in(BODIES[number]):
        if isinstance(seen.what, Act):
            stored = labelling.action(seen.what, Labels(), posthog.SOURCE)
            assert posthog.act_again(stored) == seen.what
    assert posthog.act_again(events.Action(type="click", title="x")) is None


# --- the stock webhook ---------------------------------------------------------------------------


def stock(**changes: Any) -> dict[str, Any]:
    """Composed by the destination's published default body."""
    event = {
        "uuid": "01a1f846-532a-7c22-88c5-0d2204f8c04b",
        "event": "$autocapture",
        "elements_chain": 'button:attr__id="save"attr_id="save"nth-child="1"text="Save changes"',
        "distinct_id": "user_42",
        "properties": {
            "$event_type": "click",
            "$session_id": "ps_1",
            "$current_url": "https://app.example/projects/102",
        },
        "timestamp": "2026-11-20T09:25:20.810Z",
        "captured_at": "2026-11-20T09:25:21Z",
        "url": "https://posthog.example/event/1",
    }
    person = {"id": "p", "properties": {"email": "ana@example.com", "plan": "pro"}, "name": "Ana", "url": ""}
    return {"event": {**event, **changes}, "person": person}


def test_the_stock_body_has_the_uuid_the_chain_and_the_session() -> None:
    seen = one(stock())
    assert seen.event_id == "01a1f846-532a-7c22-88c5-0d2204f8c04b"
    assert (seen.session_id, seen.user_id) == ("ps_1", "user_42")
    assert isinstance(seen.what, Act)
    assert (seen.what.kind, seen.what.chain[0].text) == ("click", "Save changes")


def test_a_stock_identify_carries_what_is_known_of_the_person() -> None:
    seen = one(stock(event="$identify", properties={"$anon_distinct_id": "anon"}))
    assert seen.what == events.UserIdentified("anon", "ana@example.com", {"plan": "pro"})


@pytest.mark.parametrize("person", [None, 5, {}, {"properties": []}])
def test_a_stock_body_may_lack_the_person(person: Any) -> None:
    assert one({**stock(event="$identify"), "person": person}).what == events.UserIdentified()


def test_faults_of_a_stock_body_have_their_path() -> None:
    with pytest.raises(InvalidInput) as caught:
        posthog.translate(stock(distinct_id=[], properties={"$session_id": "a\tb"}), NOW)
    assert [f.path for f in caught.value.faults] == ["event.distinct_id", "event.properties.$session_id"]
