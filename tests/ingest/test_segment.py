"""Segment's and RudderStack's bodies, read and labelled: recordings of the real SDKs (tests/data/segment)."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from api.ingest import bodies, labelling, segment, segment_signed
from api.ingest.acts import Act
from api.ingest.arrivals import Arrived
from domain import events, instants
from domain.config_labels import Labels
from domain.errors import InvalidInput, WrongSecret

DATA = Path(__file__).parents[1] / "data" / "segment"
NOW = instants.parse("2026-11-20T09:40:00Z")


def recorded(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]


def read(name: str) -> list[Arrived]:
    kinds = {"i": "identify", "p": "page", "t": "track"}
    return [
        segment.translate(request["body"], NOW, kinds.get(request["path"][-1]) if name == "browser" else None)
        for request in recorded(name)
    ]


def track(**changes: Any) -> dict[str, Any]:
    return {"type": "track", "event": "Saved", "userId": "u_1", "messageId": "m-1"} | changes


@pytest.mark.parametrize(("name", "source"), [("servers", "segment"), ("rudderstack", "rudderstack")])
def test_every_recorded_server_event_is_read(name: str, source: str) -> None:
    found = read(name)
    assert [arrived.rejected for arrived in found] == [[]] * len(found)
    assert {arrival.seen.source for arrived in found for arrival in arrived.events} == {source}
    assert all(arrival.seen.event_id for arrived in found for arrival in arrived.events)


def test_a_browser_event_says_its_page_and_its_device() -> None:
    identified, page, saved, second = [arrived.events[0] for arrived in read("browser")]
    device = "17121094-a4ba-4a77-af62-12ba26a9d152"
    assert identified.seen.what == events.UserIdentified(
        previous_id=device,
        email="ana@example.com",
        traits={"email": "ana@example.com"},
        timezone=identified.seen.what.timezone,
    )
    assert page.in_page
    assert page.device == device
    assert isinstance(saved.seen.what, Act)
    assert (saved.seen.what.kind, saved.seen.what.name) == ("custom", "Project Saved")
    assert (second.seen.what.kind, second.seen.what.page_title) == ("pageview", 'Edit Borealis "B2" - Acme')


@pytest.mark.parametrize("key", ["timestamp", "originalTimestamp"])
def test_the_sender_s_clock_is_corrected(key: str) -> None:
    """An hour slow, ten seconds before it was sent: ten seconds before it was received."""
    body = {
        "batch": [track(**{key: "2026-11-20T08:39:50Z"}, channel="server")],
        "sentAt": "2026-11-20T08:40:00Z",
    }
    (arrival,) = segment.translate(body, NOW).events
    assert arrival.seen.occurred_at == NOW - 10 * instants.SECOND
    assert arrival.seen.occurred_raw == "2026-11-20T08:39:50Z"


def test_what_a_webhook_says_was_corrected_already() -> None:
    body = track(
        timestamp="2026-11-20T09:00:00Z",
        originalTimestamp="2026-11-20T07:00:00Z",
        sentAt="2026-11-20T07:00:01Z",
    )
    (arrival,) = segment.delivered([body], NOW, "segment").events
    assert arrival.seen.occurred_at == instants.parse("2026-11-20T09:00:00Z")


def test_a_bad_event_costs_no_other_and_is_told_by_its_path() -> None:
    body = {"batch": [track(), {"type": "track"}, track(event=7), "x", {**track(), "big": "x" * 40_000}]}
    found = segment.translate(body, NOW)
    assert len(found.events) == 1
    assert found.bad == [1, 2, 3, 4]
    assert [fault.path for fault in found.rejected] == [
        "batch[1]",
        "batch[1].event",
        "batch[2].event",
        "batch[3]",
        "batch[4]",
    ]


def test_a_number_as_session_is_made_one_person_s() -> None:
    named = [track(context={"sessionId": name}) for name in (1795166718001, "1795166718001", "ps_1")]
    found = segment.translate({"batch": named}, NOW).events
    assert [each.seen.session_id for each in found] == ["1795166718001-u_1", "1795166718001-u_1", "ps_1"]


def test_nobody_is_identified_by_traits_alone() -> None:
    """It would no longer be an anonymous id, and could never become somebody."""
    found = segment.translate({"anonymousId": "a", "traits": {"plan": "pro"}}, NOW, "identify")
    assert (found.events, found.ignored) == ([], 1)


def test_an_alias_merges_the_ids() -> None:
    (found,) = segment.translate({"previousId": "old", "userId": "new"}, NOW, "alias").events
    assert found.seen.user_id == "new"
    assert found.seen.what == events.UserIdentified(previous_id="old")


def test_too_much_is_refused() -> None:
    with pytest.raises(bodies.TooLarge):
        bodies.loads(b'"' + b"x" * segment.MAX_BATCH + b'"', segment.MAX_BATCH)
    with pytest.raises(bodies.TooLarge):
        segment.translate({"batch": [track()] * 2_501}, NOW)
    with pytest.raises(InvalidInput):
        segment.translate({"batch": []}, NOW)


def test_a_stored_action_gives_the_same_label_again() -> None:
    for arrived in [*read("browser"), *read("servers"), *read("rudderstack")]:
        for event in labelling.outside([arrival.seen for arrival in arrived.events], Labels()).events:
            if isinstance(event.event, events.Action):
                act = segment.act_again(event.event)
                assert act is not None
                again = labelling.again(act, event.event, Labels(), event.source)
                assert (again.type, again.title, again.description) == (
                    event.event.type,
                    event.event.title,
                    event.event.description,
                )


def signature(signed: bytes) -> str:
    return hmac.new(b"shh", signed, hashlib.sha1).hexdigest()


@pytest.mark.parametrize(
    ("body", "signed"),
    [
        (b'{"b": 1.0, "a": "\xc3\xa9"}', b'{"b": 1.0, "a": "\xc3\xa9"}'),  # as it came
        (b'{"b": 1.0, "a": [2.5, 1]}', b'{"b":1,"a":[2.5,1]}'),  # as JavaScript writes it
        (b'[ {"b": 1.0}, {"c": 2}]', b'{"b": 1.0}'),  # the first of a list, as it came
        (b'[{"b": 1.0}, {"c": 2}]', b'{"b":1}'),  # and as JavaScript writes it
    ],
)
def test_a_signature_over_any_of_its_forms_is_believed(body: bytes, signed: bytes) -> None:
    segment_signed.check("shh", signature(signed), body)
    segment_signed.check("shh", signature(signed).upper(), body)
    for wrong in (None, "", "é", signature(signed + b" "), "sha1=" + signature(signed)):
        with pytest.raises(WrongSecret):
            segment_signed.check("shh", wrong, body)


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"[ ", b"\xff", b"null", b"[1e999]"])
def test_no_body_breaks_the_check(body: bytes) -> None:
    with pytest.raises(WrongSecret):
        segment_signed.check("shh", "00", body)
