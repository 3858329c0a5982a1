"""Stored data: what is written today must be readable for ever."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from domain import codec, events, upcasters
from domain.errors import Unreadable
from domain.events import Event, Timings

APPROVED = Path(__file__).parent.parent / "approved" / "events"
TIMINGS = Timings(20_000_000, 60_000_000, 10_000_000, None, 120_000_000)
EXTRA = {"theme": "dark", "nested": {"a": [1, 2.5, None, True]}}
EXPLANATION = {"outcome": "offered", "criteria": {"type": "AND", "verdict": True, "conditions": []}}

SAMPLES: list[Event] = [
    events.Action(
        "click",
        "Save changes",
        "In the edit form",
        "https://app.example/projects/102/edit?q=1",
        "https://app.example/projects/:id/edit",
        1_779_188_839_847_000,
        {"plan": "pro", "seats": 3},
        EXTRA,
        {"event": "$autocapture", "event_type": "click"},
        "posthog-1",
    ),
    events.ChatMessage("user", "How do I edit “many”?", "conv_1", TIMINGS, EXTRA),
    events.OptionClicked("chip_1", "nudge_1", EXTRA),
    events.Reaction("👍", EXTRA),
    events.TourStarted("flow_1", 1, TIMINGS, "projects-bulk-edit", EXTRA),
    events.TourStep("flow_1", "second", "projects-bulk-edit", EXTRA),
    events.TourEnded("flow_1", 4, "completed", TIMINGS, "projects-bulk-edit", EXTRA),
    events.NudgeShown("nudge_1", "tab_1", EXTRA),
    events.NudgeDismissed("nudge_1", "tab_1", "user", EXTRA),
    events.ConversationLinked("conv_1", "new", EXTRA),
    events.UserIdentified("anon_1", "ana@example.com", {"timezone": "Europe/Berlin"}, "Europe/Berlin", EXTRA),
    events.GoalReached("bulk_edit_used", EXTRA),
    events.NudgeOffered(
        "bulk_edit",
        "u_1",
        1_000_001,
        601_000_000,
        TIMINGS,
        {"body": "Hi", "tours": ["t"]},
        EXPLANATION,
        "goal_1",
    ),
    events.NudgeWithheld("bulk_edit", "u_1", "state", "cooldown_active", "timeout:7", 1_000_001, EXPLANATION),
    events.NudgeProposed("bulk_edit", "u_1", 1_000_001, 4_000_000, {"body": "Hi", "tours": []}, EXPLANATION),
    events.JudgeAnswered(
        "proposal_1", "bulk_edit", True, "They seem stuck.", "small-1", "judge-1", 210, "too late"
    ),
    events.InteractionTimedOut("proactive_assistance", 20_000_000, 60_000_000, 1_000_001),
    events.BudgetSpent("bulk_edit", "ps_1", "nudge_1", 1_000_000, 601_000_000, True),
    events.UserLinked("ps_1", "anon_1", "u_1", "Europe/Berlin"),
    events.NudgeDelivered("intercom", 2, 1, "conv_1"),
    events.DeliveryAttempted("rasa", 1, 1_010_001),
    events.DeliveryFailed("webhook", 2, "the vendor answered 503", 503, 5_000_000),
    events.DeliveryUnknown("rasa", 1, "the service stopped during the call", 5_000_000),
    events.NudgeClosed("superseded", "ps_1", "u_1"),
    events.ConfigActivated("r3-0123456789ab", {"schema": 1, "product_id": "acme", "triggers": []}),
    events.EngineActivated("1-abc", {"checkout_stuck": "2"}, "2026b"),
    events.EvaluationFailed("ZeroDivisionError", 1_000_001),
    events.RejectedInput(({"path": "events[3].data.title", "detail": "is required"},)),
    events.ActionRelabelled(
        "0190-a",
        "posthog-2",
        "click",
        "Save changes",
        "User clicked Save changes",
        "https://app.example/projects/:id",
        "https://app.example/projects/102",
        ("0190-b",),
    ),
    events.ReplyGenerated(
        "follow_up", "Open the menu.", "How?", "nudge_1", "model", "small-1", "follow-up-1", 321, "too late"
    ),
    events.SummaryGenerated(12, 40, "The user edited projects.", "small-1", "summary-1", 210),
]


def ids(event: Event) -> str:
    return f"{event.TYPE}.v{event.VERSION}"


def approved_form(event: Event) -> str:
    clear, personal = codec.encode(event)
    whole = {"type": event.TYPE, "schema_version": event.VERSION, "clear": clear, "personal": personal}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def test_every_event_type_has_a_sample_with_every_field_filled() -> None:
    assert [type(sample) for sample in SAMPLES] == list(events.TYPES.values())
    for sample in SAMPLES:
        empty = [f.name for f in dataclasses.fields(sample) if getattr(sample, f.name) is None]  # type: ignore[arg-type]
        assert not empty, (sample.TYPE, empty)


def test_every_readable_type_and_version_has_approved_json_and_nothing_else_has() -> None:
    assert {path.name for path in APPROVED.iterdir()} == {f"{t}.v{v}.json" for t, v in codec.KNOWN}


@pytest.mark.parametrize("sample", SAMPLES, ids=ids)
def test_what_is_written_is_byte_for_byte_what_was_approved(sample: Event) -> None:
    assert approved_form(sample).encode() == (APPROVED / f"{ids(sample)}.json").read_bytes()


@pytest.mark.parametrize("sample", SAMPLES, ids=ids)
def test_approved_json_is_read_as_the_value_it_was_written_from(sample: Event) -> None:
    stored = json.loads((APPROVED / f"{ids(sample)}.json").read_text())
    read = codec.decode(stored["type"], stored["schema_version"], stored["clear"], stored["personal"])
    assert read == sample
    assert type(read) is type(sample)


@pytest.mark.parametrize("sample", SAMPLES, ids=ids)
def test_without_personal_data_those_fields_alone_are_none(sample: Event) -> None:
    clear, personal = codec.encode(sample)
    read = codec.decode(sample.TYPE, sample.VERSION, clear, None)
    assert read == dataclasses.replace(sample, **dict.fromkeys(sample.PERSONAL))  # type: ignore[type-var]
    assert set(personal) == sample.PERSONAL
    assert not set(clear) & sample.PERSONAL


def test_fields_that_are_none_are_not_stored_and_are_none_again() -> None:
    bare = events.Action("click", "Save")
    assert codec.encode(bare) == ({"type": "click", "title": "Save"}, {})
    assert codec.decode("action", 1, {"type": "click", "title": "Save"}, {}) == bare


def test_a_field_that_was_not_stored_takes_its_default() -> None:
    stored = {"trigger_id": "t", "session_id": "s", "nudge_id": "n", "offered_at": 1, "expires_at": 2}
    assert codec.decode("budget_spent", 1, stored, None) == events.BudgetSpent(
        "t", "s", "n", 1, 2, holdout=False
    )


def test_tuples_inside_what_the_engine_concludes_become_lists() -> None:
    event = events.EvaluationFailed("x", 1)
    assert codec.encode(event)[0] == {"error": "x", "noticed_at": 1}
    config = events.ConfigActivated("r1", {"options": ({"id": "a"},)})
    assert codec.encode(config)[0]["config"] == {"options": [{"id": "a"}]}


@pytest.mark.parametrize("key", [("no_such_type", 1), ("action", 2), ("action", 0)])
def test_what_cannot_be_read_is_named_with_type_and_version(key: tuple[str, int]) -> None:
    assert key not in codec.KNOWN
    with pytest.raises(Unreadable, match=rf"{key[0]}.*version {key[1]}"):
        codec.decode(*key, {}, None)


@dataclass(frozen=True, slots=True)
class Renamed(events.Outside):
    """A third version of something: `name` became `title`, then `title` was split off a `note`."""

    TYPE: ClassVar[str] = "renamed"
    VERSION: ClassVar[int] = 3
    PERSONAL: ClassVar[frozenset[str]] = frozenset({"note"})

    title: str
    note: str | None = None


def first(data: dict[str, Any]) -> dict[str, Any]:
    return {"title": data["name"]}


def second(data: dict[str, Any]) -> dict[str, Any]:
    title, _, note = data["title"].partition(": ")
    return {"title": title, "note": note or None}


def test_old_versions_are_lifted_step_by_step() -> None:
    readers = codec.readers({"renamed": Renamed}, {("renamed", 1): first, ("renamed", 2): second})
    assert set(readers) == {("renamed", 1), ("renamed", 2), ("renamed", 3)}
    for version, stored in ((1, {"name": "a: b"}), (2, {"title": "a: b"}), (3, {"title": "a", "note": "b"})):
        assert readers["renamed", version](stored, None) == Renamed("a", "b")
    assert readers["renamed", 3]({"title": "a"}, {"note": "b"}) == Renamed("a", "b")


def test_an_old_version_with_a_step_missing_is_not_known() -> None:
    assert set(codec.readers({"renamed": Renamed}, {("renamed", 1): first})) == {("renamed", 3)}
    assert upcasters.chain("renamed", 1, 3, {("renamed", 1): first}) is None
    assert upcasters.chain("renamed", 2, 3, {("renamed", 2): second}) == (second,)
    assert upcasters.chain("renamed", 3, 3, {}) == ()
    assert upcasters.chain("renamed", 4, 3, {}) is None
