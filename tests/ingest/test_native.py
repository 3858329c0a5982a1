"""Native JSON: what is taken, what is refused and at which path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ingest import clock, native
from api.ingest.native import OutsideEvent
from domain import events, instants
from domain.errors import Fault, InvalidInput

NOW = instants.parse("2026-05-19T11:07:20Z")
SECOND, HOUR, DAY = instants.SECOND, instants.HOUR, instants.DAY


def raw(**changes: Any) -> dict[str, Any]:
    base = {"type": "action", "session_id": "ps_1", "data": {"type": "click", "title": "Save"}}
    return {**base, **changes}


def action(**data: Any) -> dict[str, Any]:
    return raw(data={"type": "click", "title": "Save", **data})


def parsed(value: object, received_at: int = NOW, **options: Any) -> OutsideEvent:
    faults: list[Fault] = []
    event = native.parse_event(value, "events[0]", received_at, faults, **options)
    assert faults == [] and event is not None
    return event


def refused(value: object, path: str = "events[0]", **options: Any) -> dict[str, str]:
    faults: list[Fault] = []
    assert native.parse_event(value, path, NOW, faults, **options) is None
    assert faults
    return dict(faults)


def test_an_event_with_everything_is_read_field_by_field() -> None:
    event = parsed(
        {
            "event_id": "e_1",
            "type": "action",
            "session_id": "ps_1",
            "user_id": "u_1",
            "occurred_at": "2026-05-19T11:07:19.847Z",
            "sent_at": None,
            "source": "shop",
            "correlation_id": "trace_1",
            "data": {
                "type": "click",
                "title": "Save changes",
                "description": "In the form",
                "raw_url": "https://App.example/projects/102?tab=1#x",
                "timestamp_end": "2026-05-19T11:07:19.900Z",
                "properties": {"plan": "pro"},
            },
        }
    )
    at = instants.parse("2026-05-19T11:07:19.847Z")
    assert event == OutsideEvent(
        event_id="e_1",
        event=events.Action(
            "click",
            "Save changes",
            "In the form",
            "https://App.example/projects/102?tab=1#x",
            "https://app.example/projects/:id",
            at + 53_000,
            {"plan": "pro"},
        ),
        session_id="ps_1",
        user_id="u_1",
        received_at=NOW,
        occurred_at=at,
        occurred_raw="2026-05-19T11:07:19.847Z",
        sent_raw=None,
        clock_suspect=False,
        source="shop",
        correlation_id="trace_1",
    )


def test_the_least_event_takes_the_defaults() -> None:
    event = parsed(raw())
    assert (event.event_id, event.user_id, event.source, event.correlation_id) == (None, None, "host", None)
    assert (event.occurred_at, event.occurred_raw, event.clock_suspect) == (NOW, None, False)
    assert event.event == events.Action("click", "Save")


CASES: list[tuple[str, dict[str, Any], events.Outside]] = [
    ("chat_message", {"role": "user", "text": "Hi"}, events.ChatMessage("user", "Hi")),
    (
        "chat_message",
        {"role": "assistant", "text": "Hi", "conversation_id": "c"},
        events.ChatMessage("assistant", "Hi", "c"),
    ),
    ("option_clicked", {"option_id": "chip_1", "nudge_id": "n"}, events.OptionClicked("chip_1", "n")),
    ("reaction", {"value": "👍"}, events.Reaction("👍")),
    ("tour_started", {"tour_id": "t", "step": None}, events.TourStarted("t")),
    ("tour_step", {"tour_id": "t", "step": 0}, events.TourStep("t", 0)),
    (
        "tour_ended",
        {"tour_id": "t", "step": "x", "outcome": "dismissed"},
        events.TourEnded("t", "x", "dismissed"),
    ),
    ("nudge_shown", {"nudge_id": "n", "tab_id": "b"}, events.NudgeShown("n", "b")),
    ("nudge_dismissed", {"nudge_id": "n", "by": "timeout"}, events.NudgeDismissed("n", None, "timeout")),
    ("conversation_linked", {"conversation_id": "c", "link": "new"}, events.ConversationLinked("c", "new")),
    (
        "user_identified",
        {"previous_id": "anon", "email": "a@b.example", "traits": {"timezone": "Asia/Tokyo"}},
        events.UserIdentified("anon", "a@b.example", {"timezone": "Asia/Tokyo"}, "Asia/Tokyo"),
    ),
    ("user_identified", {"traits": {"timezone": 2}}, events.UserIdentified(traits={"timezone": 2})),
    ("goal_reached", {"goal_id": "g"}, events.GoalReached("g")),
]


@pytest.mark.parametrize(("type_", "data", "expected"), CASES)
def test_each_type_is_read(type_: str, data: dict[str, Any], expected: events.Outside) -> None:
    assert parsed(raw(type=type_, data=data)).event == expected


def test_every_outside_type_of_the_domain_is_read() -> None:
    assert {type_ for type_, _, _ in CASES} | {"action"} == set(events.OUTSIDE_TYPES)


@pytest.mark.parametrize("type_", list(events.OUTSIDE_TYPES))
def test_unknown_fields_of_data_are_kept_as_extra_and_set_nothing_of_ours(type_: str) -> None:
    data = next((d for t, d, _ in CASES if t == type_), {"type": "click", "title": "Save"})
    more = {"timings": {"session_timeout": 1}, "registry_id": "r", "theme": ["dark"], "extra": 1}
    event = parsed(raw(type=type_, data={**data, **more})).event
    assert event.extra == more  # type: ignore[attr-defined]
    assert getattr(event, "timings", None) is None and getattr(event, "registry_id", None) is None


@pytest.mark.parametrize(
    ("type_", "data", "path"),
    [
        ("action", {"type": "click"}, "title"),
        ("action", {"title": "Save"}, "type"),
        ("action", {"type": "click", "title": " \t"}, "title"),
        ("action", {"type": "click", "title": "x" * 501}, "title"),
        ("action", {"type": "click", "title": 5}, "title"),
        ("action", {"type": ["click"], "title": "Save"}, "type"),
        ("action", {"type": "click", "title": "a", "description": "x" * 2001}, "description"),
        ("action", {"type": "click", "title": "a", "raw_url": "x" * 4097}, "raw_url"),
        ("action", {"type": "click", "title": "a", "canonical_url": 7}, "canonical_url"),
        ("action", {"type": "click", "title": "a", "properties": []}, "properties"),
        ("action", {"type": "click", "title": "a", "timestamp_end": "noon"}, "timestamp_end"),
        ("chat_message", {"role": "bot", "text": "a"}, "role"),
        ("chat_message", {"text": "a"}, "role"),
        ("chat_message", {"role": "user", "text": ""}, "text"),
        ("chat_message", {"role": "user", "text": "x" * 20_001}, "text"),
        ("option_clicked", {}, "option_id"),
        ("option_clicked", {"option_id": 1}, "option_id"),
        ("option_clicked", {"option_id": "a", "nudge_id": "\n"}, "nudge_id"),
        ("reaction", {"value": None}, "value"),
        ("tour_started", {"tour_id": ""}, "tour_id"),
        ("tour_step", {"tour_id": "t", "step": True}, "step"),
        ("tour_step", {"tour_id": "t", "step": 1.5}, "step"),
        ("tour_ended", {"tour_id": "t", "outcome": "done"}, "outcome"),
        ("nudge_shown", {}, "nudge_id"),
        ("nudge_dismissed", {"nudge_id": "n", "by": "bot"}, "by"),
        ("conversation_linked", {"conversation_id": "c"}, "link"),
        ("conversation_linked", {"conversation_id": "c", "link": {"a": 1}}, "link"),
        ("user_identified", {"traits": "x"}, "traits"),
        ("user_identified", {"email": "x" * 321}, "email"),
        ("goal_reached", {}, "goal_id"),
    ],
)
def test_a_wrong_field_is_named_by_its_path_and_alone(type_: str, data: dict[str, Any], path: str) -> None:
    assert list(refused(raw(type=type_, data=data))) == [f"events[0].data.{path}"]


def test_a_detail_never_repeats_what_was_sent() -> None:
    secret = "hunter2"
    for value in (raw(type=secret), raw(occurred_at=secret), raw(session_id=f"\n{secret}"), raw(data=secret)):
        assert secret not in str(refused(value))


def test_every_fault_of_an_event_is_collected() -> None:
    found = refused(
        {"type": "action", "user_id": 5, "sesion_id": "a", "occurred_at": "x", "data": {"title": 1}}
    )
    assert set(found) == {
        "events[0].user_id",
        "events[0].sesion_id",
        "events[0].occurred_at",
        "events[0].data.type",
        "events[0].data.title",
    }
    assert "did you mean session_id?" in found["events[0].sesion_id"]


def test_an_event_full_of_unknown_keys_does_not_name_them_all() -> None:
    assert len(refused(raw(**{f"key_{i}": i for i in range(10_000)}))) == native.MAX_UNKNOWN


def test_paths_of_a_single_event_have_no_leading_dot() -> None:
    assert set(refused({"type": "action", "session_id": "s", "data": {"type": "a"}, "x": 1}, path="")) == {
        "x",
        "data.title",
    }


@pytest.mark.parametrize("value", [None, [], "action", 5])
def test_what_is_no_object_is_refused(value: object) -> None:
    assert refused(value) == {"events[0]": "must be an object"}
    assert refused(raw(data=value or 5)) == {"events[0].data": "must be an object"}


@pytest.mark.parametrize("type_", [*events.ENGINE_TYPES, *sorted(events.RESERVED_TYPES)])
def test_engine_types_and_reserved_types_are_refused_from_outside(type_: str) -> None:
    assert "made by the engine" in refused(raw(type=type_))["events[0].type"]


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    detail = refused(raw(type="chat_mesage"))["events[0].type"]
    assert "did you mean chat_message?" in detail and "goal_reached" in detail
    assert set(refused(raw(type=None))) == set(refused(raw(type=[]))) == {"events[0].type"}


@pytest.mark.parametrize(
    "id_", ["product", "session-x", "user-1", "nudge-1", "a b", "é", "x" * 200, "../..", "0", "‍"]
)
def test_ids_are_taken_as_they_are_even_where_they_look_like_a_stream(id_: str) -> None:
    event = parsed(raw(event_id=id_, session_id=id_, user_id=id_))
    assert (event.event_id, event.session_id, event.user_id) == (id_, id_, id_)


@pytest.mark.parametrize("id_", ["", "x" * 201, "a\nb", "\x00", "\x7f", "\x85", "\ud800", 5, True, ["a"], {}])
@pytest.mark.parametrize("key", ["event_id", "session_id", "user_id", "correlation_id"])
def test_ids_that_are_empty_too_long_not_text_or_hold_control_characters_are_refused(
    key: str, id_: Any
) -> None:
    assert list(refused(raw(**{"user_id": "u", "session_id": "s", key: id_}))) == [f"events[0].{key}"]


def test_an_event_needs_a_session_or_a_user() -> None:
    assert parsed(raw(session_id=None, user_id="u")).session_id is None
    assert list(refused(raw(session_id=None))) == ["events[0]"]


def test_source_is_a_short_text() -> None:
    assert list(refused(raw(source="x" * 51))) == list(refused(raw(source=1))) == ["events[0].source"]


def test_titles_and_descriptions_are_scrubbed_and_a_given_canonical_url_stands() -> None:
    event = parsed(
        action(title="Mail to ana@example.com", description="ana@example.com", canonical_url="/p/7")
    ).event
    assert isinstance(event, events.Action)
    assert (event.title, event.description, event.canonical_url) == ("Mail to :email", ":email", "/p/7")


# --- instants ----------------------------------------------------------------------------------------

AT = instants.parse("2026-05-19T11:07:19Z")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-05-19T11:07:19Z", AT),
        ("2026-05-19t11:07:19z", AT),
        ("2026-05-19 11:07:19Z", AT),
        ("2026-05-19T11:07:19.847Z", AT + 847_000),
        ("2026-05-19T11:07:19.847123Z", AT + 847_123),
        ("2026-05-19T11:07:19.847123999Z", AT + 847_123),
        ("2026-05-19T13:07:19.847+02:00", AT + 847_000),
        ("2026-05-19T05:37:19-05:30", AT),
        ("2026-05-19T13:07:19+0200", AT),
        (1_779_188_839, AT),
        (1_779_188_839.5, AT + 500_000),
        ("1779188839", AT),
        ("1779188839.847123", AT + 847_123),
        (0, 0),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000Z", 0),
    ],
)
def test_every_form_of_an_instant_is_read_and_kept_verbatim(value: Any, expected: int) -> None:
    event = parsed(raw(occurred_at=value))
    assert (event.occurred_at, event.occurred_raw) == (expected, str(value))


@pytest.mark.parametrize(
    "value",
    [
        1_779_188_839_847,
        "1779188839847",
        "2026-05-19T11:07:19",
        "2026-05-19",
        "2026-13-19T11:07:19.000Z",
        "2026-02-30T11:07:19.000Z",
        "2026-05-19T25:07:19.000Z",
        "2026-05-19T11:07:19.8é7Z",
        "2026-05-19T11:07:19.²²²Z",
        "2026-05-19T11:07:19.٣٣٣Z",
        "1969-12-31T23:59:59.999Z",
        "",
        "now",
        -1,
        True,
        [],
        {},
    ],
)
@pytest.mark.parametrize("key", ["occurred_at", "sent_at"])
def test_what_is_no_instant_is_refused_milliseconds_and_local_time_included(key: str, value: Any) -> None:
    assert list(refused(raw(**{key: value}))) == [f"events[0].{key}"]


def test_an_instant_of_2100_is_clamped_to_the_recording_and_kept_as_sent() -> None:
    event = parsed(raw(occurred_at="2100-01-01T00:00:00Z"))
    assert (event.occurred_at, event.occurred_raw, event.clock_suspect) == (
        NOW,
        "2100-01-01T00:00:00Z",
        False,
    )


@given(st.integers(0, 4_000_000_000_000), st.sampled_from(["Z", "z", "+00:00"]), st.sampled_from(["T", " "]))
def test_the_short_way_reads_as_the_long_one(millis: int, zone: str, separator: str) -> None:
    value = instants.text(millis * 1000)[:-4].replace("T", separator) + zone
    assert clock.parse(value) == instants.parse(value) == millis * 1000


@given(st.text("0123456789-:T.Z+ e٣", min_size=24, max_size=24))
def test_the_short_way_refuses_what_the_long_one_refuses(value: str) -> None:
    value = value[:19] + "." + value[20:23] + "Z"
    results = []
    for parse in (clock.parse, instants.parse):
        try:
            results.append(parse(value))
        except ValueError:
            results.append(-1)
    assert results[0] == results[1]


def test_sent_at_corrects_a_clock_that_is_behind_or_ahead() -> None:
    for skew in (-HOUR, HOUR, DAY):
        sent = NOW + skew
        event = parsed(raw(occurred_at=instants.text(sent - 3 * SECOND), sent_at=instants.text(sent)))
        assert (event.occurred_at, event.clock_suspect) == (NOW - 3 * SECOND, False)
        assert event.sent_raw == instants.text(sent)


def test_an_event_sent_the_moment_it_happened_is_corrected_too() -> None:
    sent = instants.text(NOW - HOUR)
    event = parsed(raw(occurred_at=sent, sent_at=sent))
    assert (event.occurred_at, event.clock_suspect) == (NOW, False)


def test_the_end_of_an_action_is_corrected_with_its_beginning() -> None:
    sent = NOW - HOUR
    value = {**action(timestamp_end=instants.text(sent - SECOND)), "sent_at": instants.text(sent)}
    event = parsed({**value, "occurred_at": instants.text(sent - 3 * SECOND)})
    assert isinstance(event.event, events.Action)
    assert (event.occurred_at, event.event.timestamp_end) == (NOW - 3 * SECOND, NOW - SECOND)


def test_a_clock_more_than_a_day_off_is_left_alone_and_marked() -> None:
    for off in (-DAY - 1, DAY + 1):
        sent = NOW + off
        event = parsed(raw(occurred_at=instants.text(sent - SECOND), sent_at=instants.text(sent)))
        assert (event.occurred_at, event.clock_suspect) == (min(sent - SECOND, NOW), True)


def test_an_event_sent_before_it_happened_is_left_alone_and_marked() -> None:
    event = parsed(raw(occurred_at=instants.text(NOW - SECOND), sent_at=instants.text(NOW - SECOND - 1)))
    assert (event.occurred_at, event.clock_suspect) == (NOW - SECOND, True)


@given(*[st.none() | st.integers(0, 2 * NOW)] * 2, st.integers(0, 2 * NOW))
def test_no_instant_is_later_than_its_recording_nor_before_1970(
    o: int | None, s: int | None, recorded: int
) -> None:
    at, shift, suspect = clock.corrected(o, s, recorded)
    assert 0 <= at <= recorded
    assert not (suspect and shift)


# --- backtests ---------------------------------------------------------------------------------------


def test_a_backtest_line_may_name_its_recording_and_its_batch() -> None:
    line = raw(occurred_at=100, received_at="103.5", batch_id="b_1")
    event = parsed(line, backtest=True)
    assert (event.received_at, event.occurred_at, event.batch_id) == (103_500_000, 100_000_000, "b_1")
    assert set(refused(line)) == {"events[0].received_at", "events[0].batch_id"}


def test_a_backtest_line_is_recorded_when_it_occurred_unless_it_says_otherwise() -> None:
    assert parsed(raw(occurred_at=100), received_at=0, backtest=True).received_at == 100_000_000
    event = parsed(raw(received_at=100), received_at=0, backtest=True)
    assert (event.received_at, event.occurred_at) == (100_000_000, 100_000_000)
    assert list(refused(raw(), backtest=True)) == ["events[0]"]


# --- batches -----------------------------------------------------------------------------------------


def test_a_wrong_type_deep_inside_a_batch_of_many_is_named_and_the_rest_is_good() -> None:
    items: list[Any] = [raw(event_id=f"e{i}") for i in range(1000)]
    items[737] = action(title={"en": "Save"}, raw_url=3)
    batch = native.parse_batch({"events": items, "atomic": False}, NOW)
    assert [e.event_id for e in batch.events] == [f"e{i}" for i in range(1000) if i != 737]
    assert [(r.index, r.path) for r in batch.rejected] == [
        (737, "events[737].data.raw_url"),
        (737, "events[737].data.title"),
    ]
    assert batch.atomic is False


def test_a_batch_is_atomic_unless_it_says_otherwise() -> None:
    assert native.parse_batch({"events": [raw()]}, NOW).atomic is True


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"events": [raw()] * 1001}, "events"),
        ({"events": []}, "events"),
        ({"events": {}}, "events"),
        ({}, "events"),
        ([raw()], ""),
        ({"events": [raw()], "atomic": "yes"}, "atomic"),
        ({"events": [raw()], "atomic": None}, "atomic"),
        ({"events": [raw()], "evnts": []}, "evnts"),
    ],
)
def test_a_batch_of_the_wrong_form_is_refused_whole(body: object, path: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        native.parse_batch(body, NOW)
    assert [fault.path for fault in caught.value.faults] == [path]
