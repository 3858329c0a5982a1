"""FullStory's stream body, built from its documented template: nothing of FullStory can be installed."""

from __future__ import annotations

from typing import Any

import pytest

from api.ingest import fullstory, labelling
from api.ingest.acts import Seen
from domain import events, instants
from domain.config_labels import Labels
from domain.errors import InvalidInput

NOW = instants.parse("2026-11-20T12:00:00Z")


def body(**changes: Any) -> dict[str, Any]:
    return {
        "target_text": "Save changes",
        "element_name": None,
        "page_url": "https://app.acme.test/projects/102/edit?token=s",
        "timestamp": "2026-11-20T11:59:58.250Z",
        "timestamp_unix": 1795175998,
        "session_replay_url": "https://app.fullstory.test/ui/1",
        "user_id": "u_1",
        "user_email": "ana@acme.test",
        "session_id": "5f3c%3A88a1",
    } | changes


def one_of(value: dict[str, Any], received_at: int) -> Seen:
    (arrival,) = fullstory.translate(value, received_at).events
    return arrival.seen


def test_a_click_in_words() -> None:
    seen = one_of(body(), NOW)
    (found,) = labelling.outside([seen], Labels()).events
    assert isinstance(found.event, events.Action)
    assert found.event.description == "User clicked Save changes on Projects / Edit"
    assert found.event.canonical_url == "https://app.acme.test/projects/:id/edit"
    assert (found.session_id, found.user_id) == ("5f3c:88a1", "u_1")
    assert found.occurred_at == instants.parse("2026-11-20T11:59:58.250Z")
    act = fullstory.act_again(found.event)
    assert act is not None
    assert labelling.again(act, found.event, Labels(), "fullstory").title == found.event.title


def test_the_same_body_again_is_the_same_event() -> None:
    """It is sent up to thirty times, and nothing in it is an id."""
    one = one_of(body(), NOW)
    assert one_of(body(), NOW + instants.HOUR).event_id == one.event_id
    for changes in (
        {"target_text": "Cancel"},
        {"timestamp": "2026-11-20T11:59:58.251Z"},
        {"session_id": "5f3c%3A88a2"},
        {"user_id": "u_2"},
    ):
        assert one_of(body(**changes), NOW).event_id != one.event_id


def test_what_a_template_leaves_empty_is_missing() -> None:
    found = one_of(body(session_id="%3A", timestamp="", user_email=None), NOW)
    assert found.session_id is None
    assert found.occurred_at == instants.parse("2026-11-20T11:59:58Z")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"user_id": "", "session_id": ""}, "user_id"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"page_url": 7}, "page_url"),
        ({"user_id": {"a": 1}}, "user_id"),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        fullstory.translate(body(**changes), NOW)
    assert [fault.path for fault in refused.value.faults] == [path]


def test_the_body_is_known_by_its_keys() -> None:
    assert fullstory.is_body(body())
    assert not fullstory.is_body({"event": "$pageview", "page_url": "x", "timestamp": "x", "user_id": "x"})
    assert not fullstory.is_body([])
