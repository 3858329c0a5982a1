"""CloudEvents 1.0 in, by the standard's own words, and outside events as this service exports them."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from api.ingest import cloud
from api.ingest.acts import Act, Seen
from api.ingest.arrivals import Arrived
from domain import events, instants

NOW = instants.parse("2026-05-19T11:10:00Z")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def event(**changes: Any) -> dict[str, Any]:
    made = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/shop/web",
        "type": "com.acme.action",
        "subject": "ps_1",
        "userid": "u_1",
        "time": "2026-05-19T11:07:19.847Z",
        "data": {"type": "click", "title": "Save changes"},
    } | changes
    return {key: value for key, value in made.items() if value is not None}


def one(value: object, traceparent: str | None = None) -> Seen:
    found = cloud.translate(value, NOW, traceparent)
    assert found.rejected == []
    return found.events[0].seen


def paths(found: Arrived) -> list[str]:
    return [fault.path for fault in found.rejected]


@pytest.mark.parametrize("type_", ["action", "com.acme.action", "com.acme.action.v1", "io.x.v2.action"])
def test_our_types_carry_our_data(type_: str) -> None:
    seen = one(event(type=type_))
    assert seen.what == events.Action("click", "Save changes")
    assert (seen.session_id, seen.user_id, seen.source) == ("ps_1", "u_1", "cloudevents")
    assert seen.occurred_at == instants.parse("2026-05-19T11:07:19.847Z")


def test_another_type_is_an_action_of_that_name() -> None:
    seen = one(event(type="com.acme.report.exported", data={"rows": 3, "url": "https://a.test/reports"}))
    assert isinstance(seen.what, Act)
    assert (seen.what.kind, seen.what.name) == ("custom", "com.acme.report.exported")
    assert seen.what.url == "https://a.test/reports"
    assert seen.what.properties["rows"] == 3


def test_source_and_id_are_the_identity() -> None:
    ids = [one(event(**c)).event_id for c in ({}, {"source": "/shop"}, {"id": "e-2"}, {"id": "x" * 300}, {})]
    assert ids[0] == ids[4] == "/shop/web e-1"
    assert len(set(ids)) == 4
    assert all(len(name or "") <= 200 for name in ids)


def test_session_and_user_as_extension_attributes() -> None:
    seen = one(event(subject="orders/7", sessionid="ps_2", userid=None))
    assert (seen.session_id, seen.user_id) == ("ps_2", None)


@pytest.mark.parametrize(
    ("told", "trace"),
    [
        (TRACE, "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("cc" + TRACE[2:] + "-more", "4bf92f3577b34da6a3ce929d0e0e4736"),
        (TRACE + "-more", None),
        (TRACE.upper(), None),
        ("ff" + TRACE[2:], None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01", None),
        (7, None),
    ],
)
def test_a_trace_is_the_correlation(told: Any, trace: str | None) -> None:
    assert one(event(traceparent=told)).correlation_id == trace
    if isinstance(told, str):
        assert one(event(), told).correlation_id == trace


def test_data_in_base64() -> None:
    packed = base64.b64encode(b'{"type": "click", "title": "Save"}').decode()
    assert one(event(data=None, data_base64=packed)).what == events.Action("click", "Save")
    for wrong in ("?", base64.b64encode(b"[]").decode(), base64.b64encode(b"{").decode(), 7):
        found = cloud.translate(event(data=None, data_base64=wrong), NOW)
        assert paths(found) == ["data_base64"]


def test_binary_mode() -> None:
    headers = {f"ce-{key}": str(event()[key]) for key in ("specversion", "id", "source", "type", "time")}
    headers |= {"ce-sessionid": "caf%C3%A9", "content-type": "application/json; charset=utf-8"}
    value, left_out = cloud.binary(headers, orjson.dumps(event()["data"]))
    assert left_out == []
    assert one(value).session_id == "café"
    _, refused = cloud.binary({**headers, "content-type": "text/plain"}, b"hello")
    assert [fault.path for fault in refused] == ["datacontenttype"]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": None}, "id"),
        ({"source": ""}, "source"),
        ({"type": 7}, "type"),
        ({"time": 1779188839}, "time"),
        ({"time": "yesterday"}, "time"),
        ({"data": []}, "data"),
        ({"data_base64": "e30="}, "data_base64"),
        ({"datacontenttype": "text/xml"}, "datacontenttype"),
        ({"type": "com.acme.nudge_offered"}, "type"),
        ({"data": {"type": "click"}}, "data.title"),
        ({"sessionid": 7}, "sessionid"),
        ({"userid": "\x01"}, "userid"),
        ({"subject": None, "userid": None}, ""),
    ],
)
def test_what_is_wrong_is_told_by_its_path(changes: dict[str, Any], path: str) -> None:
    assert paths(cloud.translate(event(**changes), NOW)) == [path]
    batch = cloud.translate([event(), event(**changes)], NOW)
    assert len(batch.events) == 1
    assert paths(batch) == [f"[1].{path}" if path else "[1]"]
