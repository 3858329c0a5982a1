"""What is refused, how, and that nothing of it is left behind."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest
import yaml

from domain import instants
from domain.instants import SECOND
from tests.api.serving import Server, action, command, config, fact, product_id, saves, trigger


@pytest.fixture
def server(one_server: Server) -> Server:
    return one_server


def refused(server: Server, product: str, body: bytes, status: int = 422) -> dict[str, object]:
    """The problem that a body of events meets; the session `s` does not come to be."""
    answer = server.http.post(f"/v1/products/{product}/events", content=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert server.http.get(f"/v1/products/{product}/sessions/s").status_code == 404
    problem: dict[str, object] = answer.json()
    assert problem.keys() >= {"type", "title", "status", "detail"}
    return problem


def paths(problem: dict[str, object]) -> list[str]:
    faults = problem["errors"]
    assert isinstance(faults, list)
    return [fault["path"] for fault in faults]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"events": [',
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"events": {}}',
        b'{"events": []}',
        b"[[[[" * 9000,
    ],
    ids=["empty", "cut", "cut list", "not UTF-8", "a list", "null", "object", "no events", "deep"],
)
def test_malformed_bodies_are_refused(sqlite_server: Server, product: str, body: bytes) -> None:
    refused(sqlite_server, product, body)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a": 1, "a": 2}', "events[0].data.properties.a"),
        ('{"a": 9007199254740993}', "events[0].data.properties.a"),
        ('{"a": "\\u0000"}', "events[0].data.properties.a"),
        ('{"a": "\\ud800"}', "events[0].data.properties.a"),
        ('{"a": NaN}', "events[0].data.properties.a"),
    ],
    ids=["twice", "big", "NUL", "surrogate", "NaN"],
)
def test_values_that_two_readers_would_read_differently_are_refused_with_their_path(
    sqlite_server: Server, product: str, text: str, path: str
) -> None:
    body = json.dumps({"events": [action("s", data={"type": "x", "title": "t", "properties": "?"})]})
    assert path in paths(refused(sqlite_server, product, body.replace('"?"', text).encode()))


def test_a_wrong_type_deep_inside_a_batch_is_named(sqlite_server: Server, product: str) -> None:
    batch = [action("s") for _ in range(500)]
    batch[347]["data"]["title"] = 7
    problem = refused(sqlite_server, product, json.dumps({"events": batch}).encode())
    assert paths(problem) == ["events[347].data.title"]


def test_every_fault_of_a_batch_is_reported(sqlite_server: Server, product: str) -> None:
    batch = [action("s", occurred_at="yesterday"), action("s", event_id=""), action("s", typ="x")]
    problem = refused(sqlite_server, product, json.dumps({"events": batch}).encode())
    assert paths(problem) == ["events[0].occurred_at", "events[1].event_id", "events[2].typ"]


def test_a_thousand_events_are_taken_and_one_more_is_not(server: Server, product: str) -> None:
    batch = [action("s") for _ in range(1001)]
    assert paths(refused(server, product, json.dumps({"events": batch}).encode())) == ["events"]
    assert server.post(product, *batch[:1000])["accepted"] == 1000


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_two_megabytes_is_413(sqlite_server: Server, product: str, chunked: bool) -> None:
    body = json.dumps({"events": [action("s")], "x": "y" * 2_000_000}).encode()
    content = (body[i : i + 65536] for i in range(0, len(body), 65536)) if chunked else body
    for path in (f"/v1/products/{product}/events", f"/webhook/{product}"):
        answer = sqlite_server.http.post(path, content=content)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        content = body
    assert sqlite_server.http.get(f"/v1/products/{product}/sessions/s").status_code == 404


def test_instants_from_1970_and_from_2100_are_taken_and_the_future_is_clamped(
    sqlite_server: Server, product: str
) -> None:
    sqlite_server.post(
        product,
        action("s", occurred_at="1970-01-01T00:00:00Z"),
        action("s", occurred_at=0),
        action("s", occurred_at="2100-01-01T00:00:00Z"),
        action("s", occurred_at=4102444800),
    )
    told = sqlite_server.events(product, "s")
    assert [e["occurred_at"] for e in told[:2]] == ["1970-01-01T00:00:00.000000Z"] * 2
    for event in told[2:]:  # clamped to the instant at which the request was read
        assert 0 <= instants.parse(event["recorded_at"]) - instants.parse(event["occurred_at"]) < SECOND
    before = action("s", occurred_at="1969-12-31T23:59:59Z")
    answer = sqlite_server.http.post(f"/v1/products/{product}/events", json={"events": [before]})
    assert paths(answer.json()) == ["events[0].occurred_at"]


@pytest.mark.parametrize(
    "form",
    [
        "2026-05-19T11:07:19.847Z",
        "2026-05-19t11:07:19.847z",
        "2026-05-19 11:07:19.847Z",
        "2026-05-19T13:07:19.847+02:00",
        "2026-05-19T06:07:19.847-0500",
        "2026-05-19T11:07:19.847000999Z",
        "1779188839.847",
        "1.779188839847e9",
        1779188839.847,
    ],
)
def test_every_form_of_an_instant_means_the_same(sqlite_server: Server, product: str, form: object) -> None:
    sqlite_server.post(product, action("s", occurred_at=form))
    (event,) = sqlite_server.events(product, "s")
    assert event["occurred_at"] == "2026-05-19T11:07:19.847000Z"


@pytest.mark.parametrize(
    "form",
    [
        "",
        "now",
        "2026-05-19",
        "2026-05-19T11:07:19",
        "2026-13-01T00:00:00Z",
        "1779188839847",
        1779188839847,
        "nan",
        "1e400",
        True,
        [],
        {"s": 1},
    ],
    ids=str,
)
def test_what_is_no_instant_is_refused_with_its_path(
    sqlite_server: Server, product: str, form: object
) -> None:
    problem = refused(
        sqlite_server, product, json.dumps({"events": [action("s", occurred_at=form)]}).encode()
    )
    assert paths(problem) == ["events[0].occurred_at"]


@pytest.mark.parametrize("name", ["nobody-knows-it", "no such name", "%25", "é", "x" * 300])
def test_an_unknown_product_is_404_everywhere(server: Server, name: str) -> None:
    answers = [
        server.http.post(f"/v1/products/{name}/events", json={"events": [action("s")]}),
        server.http.get(f"/v1/products/{name}/sessions/s"),
        server.http.get(f"/v1/products/{name}/decisions"),
        server.http.get(f"/v1/products/{name}/config"),
        server.http.get(f"/v1/products/{name}/nudges/stream", params={"user_id": "u"}),
        server.http.post(f"/webhook/{name}", json={}),
        server.http.post(f"/p/{name}/tour/start", json={"user_id": "u", "tour_id": "t"}),
        server.http.get("/proactive/stream/u", params={"product_id": name}),
    ]
    assert [a.status_code for a in answers] == [404] * len(answers)
    assert {a.headers["content-type"] for a in answers} == {"application/problem+json"}


@pytest.mark.parametrize(
    "session", ["product", "session-x", "user-u_1", "nudge-1", "../x", "a/b", "%", "päus 🙂"]
)
def test_an_id_cannot_reach_another_stream(server: Server, product: str, session: str) -> None:
    before = server.get(f"/v1/products/{product}/config/revisions")
    server.post(product, action("x"), action("1"))
    server.post(
        product,
        action(session, user=session),
        fact("chat_message", session, "product", role="user", text="x"),
    )
    assert server.get(f"/v1/products/{product}/config/revisions") == before
    assert server.session(product, "x")["version"] == 1
    assert server.session(product, "1")["version"] == 1
    listed = server.get(f"/v1/products/{product}/sessions/{quote(session, safe='')}/events")
    assert [e["stream"] for e in listed["events"]] == [f"session-{session}"] * 2


@pytest.mark.parametrize("session", ["a/b", "/", "a/events", "a//b/", "ü/%2F", "../a", "app/why-not"])
def test_a_session_whose_id_holds_slashes_is_reached(server: Server, product: str, session: str) -> None:
    server.post(product, action("a", user="u_a"))
    server.post(product, action(session, user="u_1"))
    escaped = quote(session, safe="")
    for base in (f"/v1/products/{product}", f"/p/{product}/v1/products/{product}"):
        at = f"{base}/sessions/{escaped}"
        found = [
            server.get(at),
            server.get(f"{at}/why-not", trigger_id="saves"),
            server.get(f"{at}/evaluation")["session"],
            server.get(f"{at}/timeline"),
            *server.get(f"{at}/events")["events"],
        ]
        assert [row["session_id"] for row in found] == [session] * 5
        assert {row["user_id"] for row in found} == {"u_1"}
    assert server.http.get(f"/v1/products/{product}/sessions/{escaped}%2Fno").status_code == 404


@pytest.mark.parametrize("bad", ["", "x" * 201, "a\tb", "\x7f", "a\nb", 7, []], ids=repr)
@pytest.mark.parametrize("field", ["session_id", "user_id", "event_id"])
def test_bad_ids_are_refused(sqlite_server: Server, product: str, field: str, bad: object) -> None:
    problem = refused(sqlite_server, product, json.dumps({"events": [action("s") | {field: bad}]}).encode())
    assert paths(problem) == [f"events[0].{field}"]


@pytest.mark.parametrize(
    "kind",
    [
        "nudge_offered",
        "nudge_withheld",
        "interaction_timed_out",
        "nudge_closed",
        "nudge_delivered",
        "budget_spent",
        "config_activated",
        "engine_activated",
        "evaluation_failed",
        "rejected_input",
        "user_erased",
    ],
)
def test_an_engine_event_from_outside_is_refused(sqlite_server: Server, product: str, kind: str) -> None:
    problem = refused(
        sqlite_server, product, json.dumps({"events": [action("s", type=kind, data={})]}).encode()
    )
    assert paths(problem) == ["events[0].type"]
    assert "engine" in str(problem["detail"])


@pytest.mark.parametrize(
    "path",
    [
        "sessions/a%00b",
        "sessions/a%00b/events",
        "decisions/%00",
        "decisions?user_id=%00",
        "nudges/stream?user_id=%00",
    ],
)
def test_nul_in_an_address_is_refused(server: Server, product: str, path: str) -> None:
    assert server.http.get(f"/v1/products/{product}/{path}").status_code in (400, 404, 422)


@pytest.mark.parametrize("value", ["-1", "x", "9" * 30, "1.5"])
@pytest.mark.parametrize(
    "query",
    [
        "sessions/s?version=",
        "sessions/s/events?after=",
        "sessions/s/events?limit=",
        "decisions?after=",
        "decisions?limit=",
    ],
)
def test_a_number_in_a_query_that_is_none_is_422_with_its_name(
    server: Server, product: str, query: str, value: str
) -> None:
    server.post(product, action("s"))
    answer = server.http.get(f"/v1/products/{product}/{query}{value}")
    assert answer.status_code == 422
    assert paths(answer.json()) == [query.partition("?")[2].rstrip("=")]
    assert server.http.get(f"/v1/products/{product}/sessions/s?version=9007199254740992").status_code == 200


def test_an_event_for_a_product_without_a_config_is_kept_and_decides_nothing(server: Server) -> None:
    product = product_id()
    added = command("product", "add", product, "--database-url", server.database_url)
    assert added.returncode == 0, added.stderr
    receipt = server.post(product, *saves("s"))
    assert (receipt["accepted"], receipt["decisions"]) == (3, [])
    assert server.session(product, "s")["config_revision"] is None
    assert server.http.get(f"/v1/products/{product}/config").status_code == 404
    server.put(config(product))
    (decision,) = server.post(product, action("s"))["decisions"]
    assert decision["outcome"] == "offered"


def test_a_wrong_webhook_secret_is_401_and_stores_nothing(server: Server) -> None:
    product = product_id()
    added = command("product", "add", product, "--database-url", server.database_url)
    secret = next(line.split()[-1] for line in added.stdout.splitlines() if line.startswith("webhook secret"))
    body = {
        "event": "$pageview",
        "timestamp": "2026-11-20T09:25:17.979Z",
        "session_id": "s",
        "distinct_id": "u",
        "current_url": "https://app.example/projects",
    }
    for wrong in ({}, {"x-posthog-secret": ""}, {"x-posthog-secret": secret[:-1]}, {"x-posthog-secret": "é"}):
        raw = {k.encode(): v.encode() for k, v in wrong.items()}
        answer = server.http.post(f"/webhook/{product}", json=body, headers=raw)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert secret not in answer.text
    assert server.http.get(f"/v1/products/{product}/sessions/s").status_code == 404
    right = server.http.post(f"/webhook/{product}", json=body, headers={"x-posthog-secret": secret})
    assert right.json()["accepted"] == 1


def test_a_config_with_ten_mistakes_reports_all_ten_and_changes_nothing(server: Server, product: str) -> None:
    before = server.get(f"/v1/products/{product}/config")
    wrong = config(
        product,
        colour="red",
        timezone="Europe/Nowhere",
        session={"interaction_timeout_s": 0, "cooldown_period_s": "long"},
        triggers=[
            trigger("long", body="x" * 151),
            trigger("many", options=[{"id": f"o{n}", "label": "x"} for n in range(4)]),
            trigger("lost", tours=["no-such-tour"]),
            trigger("empty", criteria={"operator": "AND", "conditions": []}),
            trigger("odd", criteria={"type": "no_such_leaf"}),
            trigger("odd", holdout=2),
        ],
    )
    answer = server.http.put(f"/v1/products/{product}/config", content=yaml.safe_dump(wrong))
    assert answer.status_code == 422
    found = set(paths(answer.json()))
    assert found >= {
        "colour",
        "timezone",
        "session.interaction_timeout_s",
        "session.cooldown_period_s",
        "triggers[0].body",
        "triggers[1].options",
        "triggers[2].tours[0]",
        "triggers[3].criteria.conditions",
        "triggers[4].criteria.type",
        "triggers[5].holdout",
    }
    assert server.get(f"/v1/products/{product}/config") == before


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: 1\na: 2",
        "- 1",
        "",
        'schema: 1\nproduct_id: p\ntimezone: "\\ud800"',
        "schema: 1\nproduct_id: p\nx: !!binary aGk=",
        "schema: 1\nproduct_id: p\nsession: {interaction_timeout_s: .inf}",
        "schema: 1\nproduct_id: p\nsession: {interaction_timeout_s: .nan}",
        "schema: 1\nproduct_id: p\nx: !!python/object/apply:os.system [true]",
        "a: &a [*a]",
        "[" * 5000,
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "\n".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 10)}]" for n in range(20)
        ),
    ],
    ids=[
        "cut",
        "twice",
        "list",
        "empty",
        "surrogate",
        "binary",
        "inf",
        "nan",
        "object",
        "itself",
        "deep",
        "bomb",
    ],
)
def test_a_config_that_is_no_config_is_refused_soon(sqlite_server: Server, product: str, text: str) -> None:
    started = time.monotonic()
    answer = sqlite_server.http.put(f"/v1/products/{product}/config", content=text)
    assert answer.status_code == 422, answer.text
    assert time.monotonic() - started < 2


def test_aliases_in_a_config_are_allowed(sqlite_server: Server) -> None:
    product = product_id()
    text = (
        f"schema: 1\nproduct_id: {product}\ntriggers:\n"
        "  - {id: a, body: a, criteria: &c {type: action_count, at_least: 1}}\n"
        "  - {id: b, body: b, criteria: *c}\n"
    )
    answer = sqlite_server.http.put(f"/v1/products/{product}/config", content=text)
    assert answer.status_code == 200, answer.text


def test_a_config_for_another_product_is_refused(sqlite_server: Server, product: str) -> None:
    answer = sqlite_server.http.put(
        f"/v1/products/{product}/config", content=yaml.safe_dump(config("another"))
    )
    assert answer.status_code == 422
    assert paths(answer.json()) == ["product_id"]
    assert sqlite_server.http.get("/v1/products/another/config").status_code == 404


def test_unknown_routes_and_methods_answer_as_problems(sqlite_server: Server, product: str) -> None:
    missing = sqlite_server.http.get("/v1/nothing")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    wrong = sqlite_server.http.delete(f"/v1/products/{product}/events")
    assert (wrong.status_code, wrong.headers["content-type"]) == (405, "application/problem+json")
