"""Segment, RudderStack, Amplitude, FullStory and CloudEvents over HTTP, on both databases.

Recordings of the real SDKs (tests/data), bodies of vendors' servers built from their documentation, and
events that this service exported itself.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.ingest import amplitude, cloud, fullstory, segment
from domain.errors import InvalidInput
from tests.api import serving
from tests.api.conftest import Launch
from tests.api.serving import Server

DATA = Path(__file__).parents[1] / "data"
PAGE = {"page": {"url": "https://app.acme.test/projects", "title": "Projects"}}


@pytest.fixture
def key(server: Server, product: str) -> str:
    server.put(serving.config(product, tokens=[f"wk-{product}"]))
    return f"wk-{product}"


def call(kind: str, number: int, **changes: Any) -> dict[str, Any]:
    return {"type": kind, "messageId": f"{kind}-{number}", "userId": "u_1"} | changes


def save(number: int, **changes: Any) -> dict[str, Any]:
    return call("track", number, event="Save changes", **changes)


def batch(server: Server, key: str, *items: Any, **more: Any) -> httpx.Response:
    return server.http.post("/v1/batch", json={"writeKey": key, "batch": list(items), **more})


def sessions(server: Server, product: str) -> dict[str, list[dict[str, Any]]]:
    """The outside events of each session."""
    listed = server.get(f"/v1/products/{product}/sessions", limit=100)["sessions"]
    return {
        row["session_id"]: [
            event for event in server.events(product, row["session_id"]) if event["origin"] == "outside"
        ]
        for row in listed
    }


@pytest.mark.parametrize(
    "name", ["segment/servers", "segment/rudderstack", "segment/browser", "amplitude/browser"]
)
def test_a_recording_sent_twice_is_stored_once(server: Server, product: str, name: str) -> None:
    """The second time comes through the mount prefix, which names the product too."""
    before: dict[str, list[dict[str, Any]]] = {}
    for mount in ("", ""):
        for line in (DATA / f"{name}.jsonl").read_text().splitlines():
            request = json.loads(line)
            body = json.dumps(request["body"]).encode()
            answer = server.http.post(
                f"/p/{product}{mount}{request['path']}",
                content=gzip.compress(body) if request["gzip"] else body,
                headers=request["headers"],
            )
            assert answer.status_code == 200, answer.text
            said = answer.json()
            assert said.get("success") is True or said["code"] == 200
        found = sessions(server, product)
        assert not before or found == before
        before = found
    assert sum(map(len, before.values())) > 0


def test_events_that_name_no_session(server: Server, product: str, key: str) -> None:
    """A server's event alone is in the user's stream; a page begins a session; what comes then joins it,
    from a server too; the same again stays where it was, and three saves make an offer."""
    assert batch(server, key, save(0)).status_code == 200
    assert sessions(server, product) == {}
    batch(server, key, call("page", 1, anonymousId="anon", userId=None, context=PAGE))
    ((session, events),) = sessions(server, product).items()
    assert [e["user_id"] for e in events] == ["anon"]
    batch(server, key, call("identify", 2, anonymousId="anon"))
    batch(server, key, save(3), save(4, anonymousId="anon", context=PAGE))
    batch(server, key, save(0), save(3))
    batch(server, key, save(5))
    (after,) = sessions(server, product).values()
    assert [e["event_id"] for e in after] == ["page-1", "identify-2", "track-3", "track-4", "track-5"]
    (decision,) = server.get(f"/v1/products/{product}/decisions")["decisions"]
    assert (decision["session_id"], decision["user_id"]) == (session, "u_1")


def test_first_events_that_come_together_are_one_session(server: Server, product: str, key: str) -> None:
    """As a page's first calls do; each is a request of its own."""
    calls = [
        call(kind, 9, anonymousId="anon", context=PAGE, writeKey=key, event="Looked")
        for kind in ("page", "identify", "track", "screen")
    ]
    with ThreadPoolExecutor(4) as together:
        answers = list(together.map(lambda one: server.http.post(f"/v1/{one['type']}", json=one), calls))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [len(events) for events in sessions(server, product).values()] == [4]


def test_sessions_that_are_named_are_left_alone(server: Server, product: str, key: str) -> None:
    batch(server, key, save(1, context={**PAGE, "sessionId": "ps_1"}), save(2))
    assert list(sessions(server, product)) == ["ps_1"]
    assert len(sessions(server, product)["ps_1"]) == 2


def test_who_an_amplitude_session_turns_out_to_be(server: Server, product: str, key: str) -> None:
    """The SDK says it by the next event's user id, and in no other way."""
    for index, user in enumerate((None, "u_1", "u_1")):
        event = {"event_type": "Looked", "device_id": "d-1", "session_id": 5, "insert_id": f"i-{index}"}
        body = {"api_key": key, "events": [{**event, "user_id": user, "time": 1795167251286 + index}]}
        path = "/2/httpapi" if index else "/batch"
        answer = server.http.post(path, json=body)
        assert (answer.status_code, answer.json()["events_ingested"]) == (200, 1)
    (events,) = sessions(server, product).values()
    assert [(e["type"], e["user_id"]) for e in events] == [
        ("action", "d-1"),
        ("user_identified", "u_1"),
        ("action", "u_1"),
        ("action", "u_1"),
    ]
    assert events[1]["data"]["previous_id"] == "d-1"


def test_what_an_sdk_is_refused(server: Server, product: str, key: str) -> None:
    """400 for what no second try cures; what was good in a batch is kept."""
    for body in (b"{", b"[]", b"{}", b'{"batch": []}', b'{"batch": [{}]}', b"\x1f\x8bxx", b"x" * 600_000):
        assert server.http.post("/v1/batch", content=body, params={"writeKey": key}).status_code == 400
    assert batch(server, key, save(1, context={"sessionId": "s"}), {"type": "track"}).status_code == 200
    assert len(sessions(server, product)["s"]) == 1
    assert server.http.post("/v1/track", json={"event": "X"}, params={"writeKey": key}).status_code == 400
    for body, code in ((b"{", 400), (b"{}", 400), (b'{"events": [{}]}', 400), (b"x" * 1_100_000, 413)):
        answer = server.http.post(f"/p/{product}/2/httpapi", content=body)
        assert (answer.status_code, answer.json()["code"]) == (code, code)
    assert server.http.post(f"/p/{product}/2/httpapi", content=b'{"events": [{}]}').json()[
        "events_with_invalid_fields"
    ]
    unknown = server.http.post("/p/nobody/2/httpapi", json={"api_key": "?", "events": []})
    assert unknown.json()["error"].startswith("Invalid API key")


def test_the_browser_sdk_is_told_where_we_are(server: Server, product: str) -> None:
    told = server.get("/v1/projects/wk/settings")["integrations"]["Segment.io"]
    assert told["apiHost"] == f"127.0.0.1:{server.port}/v1"
    mounted = server.get(f"/p/{product}/v1/projects/wk/settings")["integrations"]["Segment.io"]
    assert mounted["apiHost"] == f"127.0.0.1:{server.port}/p/{product}/v1"


def test_segment_s_webhook_is_believed_by_its_signature(
    launch: Launch, sqlite_url: str, tmp_path: Path
) -> None:
    server = launch(sqlite_url, segment_secret="shh")  # so the variable is NUDGELEDGER_SEGMENT_SECRET
    product = serving.product_id()
    server.put(serving.config(product, channels={"segment": {"secret": "env:NUDGELEDGER_SEGMENT_SECRET"}}))
    body = orjson.dumps([save(1, context={"sessionId": "s"}), save(2, context={"sessionId": "s"})])
    first = orjson.dumps(orjson.loads(body)[0])
    for path in (f"/webhook/segment/{product}", f"/ingest/{product}"):
        for wrong in ({}, {"x-signature": "0" * 40}, {"authorization": "Bearer shh"}):
            assert server.http.post(path, content=body, headers=wrong).status_code == 401
    assert sessions(server, product) == {}
    good = {"x-signature": hmac.new(b"shh", first, hashlib.sha1).hexdigest(), "user-agent": "Segment.io/1.0"}
    for path, accepted in ((f"/webhook/segment/{product}", 2), (f"/ingest/{product}", 0)):
        answer = server.http.post(path, content=body, headers=good)
        assert (answer.status_code, answer.json()["accepted"]) == (200, accepted)
    assert len(sessions(server, product)["s"]) == 2


def test_an_ingest_path_takes_every_vendor_and_asks_for_the_secret(sqlite_server: Server) -> None:
    server, product = sqlite_server, serving.product_id()
    added = serving.command("product", "add", product, database_url=server.database_url)
    secret = next(line.split()[-1] for line in added.stdout.splitlines() if line.startswith("webhook secret"))
    vendors = {
        "amplitude": {"events": [{"event_type": "$pageview", "device_id": "d", "time": 1795167251286}]},
        "fullstory": {
            "target_text": "Save",
            "page_url": "https://a.test/",
            "timestamp": "2026-11-20T09:00:00Z",
            "session_replay_url": "",
            "session_id": "f%3A1",
        },
        "rudderstack": save(1, context={"sessionId": "r"}),
        "cloudevents": {"specversion": "1.0", "id": "1", "source": "/x", "type": "y", "subject": "c"},
        "posthog": {
            "event": "$pageview",
            "distinct_id": "u",
            "session_id": "p",
            "current_url": "https://a.test/",
        },
    }
    for name, body in vendors.items():
        paths = [f"/ingest/{name}/{product}"] if name == "amplitude" else []
        paths += [f"/webhook/rudderstack/{product}"] if name == "rudderstack" else [f"/ingest/{product}"]
        for path in paths:
            for wrong in ({}, {"authorization": "Bearer nonsense"}):
                assert server.http.post(path, json=body, headers=wrong).status_code == 401, name
            good = {"authorization": f"Bearer {secret}"}
            answer = server.http.post(path, json=body, headers=good)
            assert answer.status_code == 200, (name, answer.text)
            assert answer.json()["accepted"] + answer.json()["duplicates"] == 1
            assert server.http.post(path, json=body, headers=good).json()["duplicates"] == 1
    assert sorted(sessions(server, product)) == ["c", "d", "f:1", "p", "r"]


def test_cloudevents_in_its_three_modes(server: Server, product: str) -> None:
    def event(number: int) -> dict[str, Any]:
        return {
            "specversion": "1.0",
            "id": f"e-{number}",
            "source": "/shop",
            "type": "com.acme.action",
            "subject": "ps_1",
            "userid": "u_1",
            "data": {"type": "click", "title": "Save changes"},
        }

    path = f"/v1/products/{product}/cloudevents"
    structured = {"content-type": "application/cloudevents+json; charset=utf-8"}
    listed = {"content-type": "application/cloudevents-batch+json"}
    binary = {f"ce-{name}": event(2)[name] for name in ("specversion", "id", "source", "type", "subject")}
    binary |= {"content-type": "application/json", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    assert server.http.post(path, json=event(1), headers=structured).json()["accepted"] == 1
    assert server.http.post(path, json=event(2)["data"], headers=binary).json()["accepted"] == 1
    both = server.http.post(path, json=[event(1), event(3), {"specversion": "1.0"}], headers=listed).json()
    assert (both["accepted"], both["duplicates"]) == (1, 1)
    assert {fault["path"] for fault in both["rejected"]} == {"[2].source", "[2].id", "[2].type"}
    assert [e["correlation_id"] for e in server.events(product, "ps_1")][:3] == [None, "a" * 32, None]
    assert server.get(f"/v1/products/{product}/decisions")["decisions"][0]["outcome"] == "offered"
    refused = server.http.post(path, json={**event(4), "data": {}}, headers=structured)
    assert (refused.status_code, [fault["path"] for fault in refused.json()["errors"]]) == (
        422,
        ["data.type", "data.title"],
    )
    assert server.http.post(path, json=[event(5)], headers=structured).status_code == 422


def test_what_was_exported_can_be_sent(sqlite_server: Server, tmp_path: Path) -> None:
    """Outside events alone; what was sealed in them is not told again."""
    server, old, new = sqlite_server, serving.product_id(), serving.product_id()
    for name in (old, new):
        server.put(serving.config(name))
    server.post(old, *serving.saves("ps_1"), serving.fact("chat_message", "ps_1", role="user", text="help"))
    server.post(old, serving.fact("tour_started", "ps_1", tour_id="bulk-tour"))
    server.post(
        old, serving.fact("user_identified", "ps_1", previous_id="a", traits={"timezone": "Asia/Tokyo"})
    )
    out = tmp_path / "old.jsonl"
    done = serving.command("export", "--product", old, "--out", str(out), database_url=server.database_url)
    lines = (out.read_text() if out.exists() else done.stdout).splitlines()
    events = [e for e in map(json.loads, lines) if e.get("origin") == "outside"]
    assert len(events) == 6
    answer = server.http.post(
        f"/v1/products/{new}/cloudevents",
        json=events,
        headers={"content-type": "application/cloudevents-batch+json"},
    )
    assert (answer.status_code, answer.json()["accepted"], answer.json()["rejected"]) == (200, 6, [])
    ids = [e["event_id"] for e in server.events(new, "ps_1") if e["origin"] == "outside"]
    assert ids == [e["id"] for e in events]


KEYS = """type track page userId event events batch properties context sessionId event_type device_id
session_id time event_properties $autocapture tag attrs traits specversion 1.0 id source data data_base64
origin batchid
productseq chat_message subject traceparent page_url timestamp messageId identify action"""
AMPLITUDE = ["[Amplitude] Element Hierarchy", "[Amplitude] Element Clicked", "[Amplitude] Element Path"]
WORDS = st.sampled_from([*KEYS.split(), *AMPLITUDE])
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
LEAVES = st.none() | st.booleans() | NUMBERS | st.text() | WORDS


def deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=8)


VALUES = st.recursive(LEAVES, deeper)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=st.dictionaries(WORDS, VALUES, max_size=10))
def test_no_body_breaks_a_translation(value: dict[str, Any]) -> None:
    for form in (value, {**value, "specversion": "1.0", "id": "1", "source": "x"}):
        for read in (
            lambda data: segment.translate(data, 10**15),
            lambda data: segment.translate({"batch": [data]}, 10**15),
            lambda data: segment.delivered([data, data], 10**15, "segment"),
            lambda data: amplitude.translate(data, 10**15),
            lambda data: amplitude.translate({"events": [data]}, 10**15),
            lambda data: fullstory.translate(data, 10**15),
            lambda data: cloud.translate(data, 10**15),
        ):
            try:
                read(form)
            except InvalidInput as error:
                assert error.faults


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=VALUES)
def test_no_body_is_a_server_error(sqlite_server: Server, value: Any) -> None:
    product = "hostile"
    sqlite_server.put(serving.config(product))
    body = orjson.dumps(value)
    for path in ("/v1/batch", "/v1/track", "/2/httpapi", "/batch"):
        status = sqlite_server.http.post(f"/p/{product}{path}", content=body).status_code
        assert status in (200, 400), path
    for path in ("/ingest/hostile", "/v1/products/hostile/cloudevents", "/webhook/segment/hostile"):
        assert sqlite_server.http.post(path, content=body).status_code in (200, 400, 422), path
