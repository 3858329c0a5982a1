"""Requests of PostHog's SDKs: recorded off the real ones, and whatever else may come."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ingest import elements, labelling, posthog_events, posthog_sdk
from api.ingest.acts import Act, Seen
from api.ingest.arrivals import Arrived
from api.ingest.posthog_events import Sent
from domain import events, instants
from domain.config_labels import Labels
from domain.errors import InvalidInput
from domain.instants import SECOND

DATA = Path(__file__).parent.parent / "data" / "posthog"
REQUESTS = [json.loads(line) for line in (DATA / "requests.jsonl").read_text().splitlines()]
NOW = instants.parse("2026-11-20T09:26:00Z")
NOTHING = {"$groupidentify", "$rageclick", "$exception_free_custom"}


def taken(body: Any, query: Mapping[str, str] | None = None, at: int = NOW) -> Arrived:
    return posthog_sdk.read(posthog_sdk.sending(body, query or {}), at)


def one(body: Any, query: Mapping[str, str] | None = None) -> Seen:
    (seen,) = seen_in(taken(body, query))
    return seen


def seen_in(arrived: Arrived) -> list[Seen]:
    return [arrival.seen for arrival in arrived.events]


def event(name: str = "$autocapture", **changes: Any) -> dict[str, Any]:
    properties = {"distinct_id": "u", "$session_id": "s", "$event_type": "click"}
    return {"event": name, "uuid": "e-1", "properties": properties | changes.pop("properties", {}), **changes}


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_every_generation_that_was_recorded_is_read_completely(number: int) -> None:
    request = REQUESTS[number]
    value, left_out = posthog_sdk.loads(base64.b64decode(request["body"]))
    sending = posthog_sdk.sending(value, request["query"])
    received = int(request["t"] * SECOND)
    read = posthog_sdk.read(sending, received)
    assert (sending.token, left_out, read.rejected) == ("phc_test", [], [])
    assert [seen.event_id for seen in seen_in(read)] == [
        i for name, i in request["events"] if name not in NOTHING
    ]
    assert read.ignored == sum(name in NOTHING for name, _ in request["events"])
    for seen in seen_in(read):
        assert seen.session_id and seen.user_id and not seen.clock_suspect
        assert 0 <= received - seen.occurred_at < 10 * SECOND
        if isinstance(seen.what, Act):
            assert seen.what.url is not None
            assert (seen.what.kind in ("click", "change", "submit")) == bool(seen.what.chain)
            stored = labelling.action(seen.what, Labels(), posthog_events.SOURCE)
            again = posthog_events.act(stored.body or {}, stored.properties or {}, stored.raw_url)
            assert again == seen.what


def test_elements_as_a_list_and_as_a_chain_are_the_same() -> None:
    """Releases without `elementsChainAsString` in their config send both."""
    compared = 0
    for request in REQUESTS:
        value, _ = posthog_sdk.loads(base64.b64decode(request["body"]))
        for _, raw in posthog_sdk.sending(value, {}).events:
            properties = raw["properties"]
            if "$elements" in properties:
                listed, parsed = (
                    elements.listed(properties["$elements"]),
                    elements.parse(properties["$elements_chain"]),
                )
                assert listed == parsed and elements.parse(elements.written(listed)) == listed
                compared += 1
    assert compared >= 2


def test_identify_tells_who_the_nameless_person_was() -> None:
    request = next(r for r in REQUESTS if r["events"][0][0] == "$identify")
    value, _ = posthog_sdk.loads(base64.b64decode(request["body"]))
    seen = one(value, request["query"])
    assert isinstance(seen.what, events.UserIdentified)
    assert (seen.user_id, seen.what.email) == ("user_42", "ana@example.com")
    assert seen.what.previous_id is not None and seen.what.previous_id[14] == "7"
    assert seen.what.traits == {"name": "Ana", "plan": "pro"}


# --- clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "query", "occurred", "suspect"),
    [
        # The sender's clock runs an hour late: the event was three seconds before it was sent.
        (
            {"batch": [event(timestamp="2026-11-20T08:00:00Z")], "sent_at": "2026-11-20T08:00:03Z"},
            {},
            NOW - 3 * SECOND,
            False,
        ),
        (event(timestamp="2026-11-20T08:00:00Z"), {"_": "1795161603000"}, NOW - 3 * SECOND, False),
        (event(timestamp="2026-11-20T08:00:00Z"), {"sent_at": "1795161603000"}, NOW - 3 * SECOND, False),
        ([event(offset=1500)], {"_": "1"}, NOW - 1_500_000, False),
        ([event(offset=0.5)], {}, NOW - 500, False),
        ([event(offset=-1)], {}, NOW, False),
        ([event(offset=10**12)], {}, NOW, False),
        (event(timestamp="2026-11-20T09:25:00Z"), {"_": "1" * 15}, NOW - 60 * SECOND, False),
        (event(timestamp="2020-01-01T00:00:00Z"), {"_": "1577836800000"}, None, True),
        (event(timestamp="soon"), {}, NOW, True),
        (event(timestamp={}), {}, NOW, True),
        (event(timestamp="2030-01-01T00:00:00Z"), {}, NOW, False),
        (event(properties={"$time": NOW / 1e6 - 2}), {}, NOW - 2 * SECOND, False),
        (event(), {}, NOW, False),
    ],
)
def test_when_it_happened(body: Any, query: dict[str, str], occurred: int | None, suspect: bool) -> None:
    seen = one(body, query)
    assert seen.clock_suspect == suspect
    assert seen.occurred_at == (instants.parse("2020-01-01T00:00:00Z") if occurred is None else occurred)


# --- who and what --------------------------------------------------------------------------------


def test_servers_say_who_at_the_top_and_may_say_which_session() -> None:
    body = {
        "api_key": "k",
        "batch": [{"event": "saved", "distinct_id": 42, "properties": {"$session_id": "s"}}],
    }
    seen = one(body)
    assert (seen.user_id, seen.session_id) == ("42", "s")
    body["batch"] = [
        {"event": "saved", "distinct_id": "u", "properties": {"rows": 3, "$lib": "posthog-python"}}
    ]
    seen = one(body)
    assert (seen.session_id, seen.what) == (
        None,
        Act("custom", "saved", properties={"rows": 3}, body={"event": "saved", "lib": "posthog-python"}),
    )


@pytest.mark.parametrize(
    ("name", "properties", "expected"),
    [
        ("$create_alias", {"alias": "ana"}, events.UserIdentified("u")),  # SDKs name the old id first
        ("$merge_dangerously", {"alias": "old"}, events.UserIdentified("old")),
        ("$identify", {"$anon_distinct_id": "u"}, events.UserIdentified()),
        ("$identify", {"$anon_distinct_id": ["x"]}, events.UserIdentified()),
        ("$identify", {"$set": {"email": 5, "timezone": "Europe/Berlin", "$x": 1}}, None),
        (
            "$set",
            {"$set": {"plan": "pro"}, "$lib": "posthog-node"},
            events.UserIdentified(traits={"plan": "pro"}),
        ),
        # Of nameless people: who has no name yet can still be merged.
        ("$set", {"$set": {"plan": "pro"}, "$lib": "web", "$is_identified": False}, "ignored"),
        ("$set", {"$set_once": {"$initial_referrer": "x"}}, "ignored"),
    ],
)
def test_what_is_said_of_people(name: str, properties: dict[str, Any], expected: Any) -> None:
    read = taken(event(name, properties=properties))
    if expected == "ignored":
        assert (read.events, read.ignored) == ([], 1)
    elif expected is None:
        assert seen_in(read)[0].what == events.UserIdentified(
            traits={"timezone": "Europe/Berlin"}, timezone="Europe/Berlin"
        )
    else:
        assert seen_in(read)[0].what == expected


def test_a_page_s_title_is_kept_apart_and_a_custom_event_s_is_its_own() -> None:
    assert isinstance(page := one(event("$pageview", properties={"title": "Projects"})).what, Act)
    assert (page.page_title, page.properties) == ("Projects", {})
    assert isinstance(custom := one(event("saved", properties={"title": "Q3"})).what, Act)
    assert (custom.page_title, custom.properties) == (None, {"title": "Q3"})


def test_an_event_without_an_id_gets_the_same_one_again() -> None:
    raw = {k: v for k, v in event(timestamp="2026-11-20T09:25:20Z").items() if k != "uuid"}
    first, again = one(raw), one(dict(reversed(raw.items())))
    assert first.event_id == again.event_id
    assert one({**raw, "event": "other"}).event_id != first.event_id


def test_one_bad_event_costs_no_good_one() -> None:
    bad: list[Any] = [
        5,
        {},
        {"event": "x"},
        event(properties={"$session_id": 7}),
        event(properties={"distinct_id": []}),
    ]
    read = taken({"batch": [event(), *bad, event(uuid="e-2")]})
    assert [seen.event_id for seen in seen_in(read)] == ["e-1", "e-2"]
    assert [f.path for f in read.rejected] == [
        "batch[1]",
        "batch[2].event",
        "batch[3].distinct_id",
        "batch[4].properties.$session_id",
        "batch[5].properties.distinct_id",
    ]


def test_half_an_emoji_or_a_huge_number_costs_nothing_but_itself() -> None:
    """JavaScript cuts texts between the halves of a pair; Python sends any integer, and NaN."""
    properties = rb'{"a": 9999999999999999999, "b": NaN, "c": 1}'
    body = rb'{"event": "x \ud83d", "distinct_id": "u", "properties": ' + properties + b"}"
    value, left_out = posthog_sdk.loads(body)
    assert [f.path for f in left_out] == ["event", "properties.a", "properties.b"]
    assert isinstance(what := one(value).what, Act)
    assert (what.name, what.properties) == ("x \ufffd", {"c": 1})


def test_large_properties_do_not_come_in() -> None:
    huge = {f"k{i}": "v" * 5_000 for i in range(500)} | {"nested": [["x" * 100] * 100]}
    assert isinstance(what := one(event("x", properties=huge)).what, Act)
    assert len(what.properties) == posthog_events.MAX_KEYS
    assert max(len(v) for v in what.properties.values()) == posthog_events.MAX_TEXT


# --- bytes ---------------------------------------------------------------------------------------

BODY = json.dumps(event()).encode()


@pytest.mark.parametrize(
    "raw",
    [
        BODY,
        b" \n" + BODY,
        gzip.compress(BODY),
        b"data=" + quote(base64.b64encode(BODY).decode()).encode(),
        b"data=" + base64.b64encode(BODY).rstrip(b"="),
        b"compression=base64&data="
        + quote(base64.b64encode(gzip.compress(BODY)).decode()).encode()
        + b"&x=1",
        b"data=" + quote(BODY.decode()).encode(),
        base64.b64encode(BODY),
    ],
)
def test_every_form_of_a_body_is_unpacked(raw: bytes) -> None:
    assert posthog_sdk.loads(raw) == (event(), [])


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"[" + b" " * (40 * 1024 * 1024), 9)
    assert len(bomb) < 300_000
    with pytest.raises(posthog_sdk.TooLarge):
        posthog_sdk.loads(bomb)
    with pytest.raises(posthog_sdk.TooLarge):
        posthog_sdk.sending([{}] * (posthog_sdk.MAX_EVENTS + 1), {})


@pytest.mark.parametrize("body", [5, None, "x", {}, [], {"batch": []}, {"batch": {}}, {"batch": None}])
def test_what_is_no_capture_is_refused(body: Any) -> None:
    with pytest.raises(InvalidInput):
        posthog_sdk.sending(body, {})


MARKS = [
    "event",
    "batch",
    "properties",
    "distinct_id",
    "$session_id",
    "uuid",
    "timestamp",
    "offset",
    "sent_at",
]
MARKS += [
    "$set",
    "$elements",
    "$elements_chain",
    "$event_type",
    "$current_url",
    "title",
    "token",
    "alias",
    "$time",
]
NAMES = ["$pageview", "$autocapture", "$identify", "$set", "$create_alias", "x", "$rageclick"]
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
KEYS = st.sampled_from(MARKS) | st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=8),
    max_leaves=30,
)


@given(JSON, st.dictionaries(st.sampled_from(["_", "sent_at", "token"]), st.text(max_size=16)))
def test_no_value_raises_anything_but_what_is_told(value: Any, query: dict[str, str]) -> None:
    plausible = {
        "event": "$autocapture",
        "distinct_id": "u",
        "properties": value if type(value) is dict else {},
    }
    for body in (value, [value, plausible], {"batch": [plausible, value], "sent_at": value}):
        try:
            read = taken(body, query)
        except InvalidInput:
            continue
        for seen in seen_in(read):
            assert seen.event_id and len(seen.event_id) <= 200
            if isinstance(seen.what, Act):
                labelling.action(seen.what, Labels(), "posthog")


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x1f\x8b", b"data=", b"{", b"[", b"data=eyJ"]))
def test_no_bytes_raise_anything_but_what_is_told(raw: bytes, start: bytes) -> None:
    try:
        value, _ = posthog_sdk.loads(start + raw)
        posthog_sdk.sending(value, {})
    except InvalidInput:
        pass


def test_damaged_gzip_is_told() -> None:
    whole = gzip.compress(BODY)
    chance = random.Random(7)
    for _ in range(200):
        broken = bytearray(whole)
        broken[chance.randrange(2, len(whole))] ^= 1 << chance.randrange(8)
        try:
            posthog_sdk.loads(bytes(broken))
        except InvalidInput:
            continue
    with pytest.raises(InvalidInput, match="cut off"):
        posthog_sdk.loads(whole[:-9])


def test_the_instant_of_sending() -> None:
    assert posthog_events.sent_at(None, "1795166933586") == Sent(1795166933586000, "1795166933586")
    for odd in ("", "x", "9" * 16, "-1", "١٢٣"):
        assert posthog_events.sent_at(None, odd) == posthog_events.UNSAID
    assert posthog_events.sent_at("nonsense", "1795166933586") == posthog_events.UNSAID
