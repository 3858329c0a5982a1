"""PostHog's SDKs over HTTP, on both databases: recorded requests, and posthog-python and -node for real."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import posthog
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import Launch
from tests.api.serving import Server, config, product_id, until
from tests.conftest import _execute

DATA = Path(__file__).parents[1] / "data" / "posthog"
REQUESTS = [json.loads(line) for line in (DATA / "requests.jsonl").read_text().splitlines()]
OK = {"status": "Ok"}
SESSION = "ps-wire"


def event(event_id: str = "e-1", **changes: Any) -> dict[str, Any]:
    properties = {
        "distinct_id": "u_1",
        "$session_id": SESSION,
        "$event_type": "click",
        "$el_text": "Save changes",
    }
    return {"event": "$autocapture", "uuid": event_id, "properties": properties, **changes}


def kinds(server: Server, product: str, session: str = SESSION) -> list[str]:
    return [e["data"].get("type", e["type"]) for e in server.events(product, session)]


def test_recorded_requests_are_stored_once_however_often_they_come(server: Server, product: str) -> None:
    for time in (1, 2):
        for request in REQUESTS:
            answer = server.http.post(
                f"/p/{product}{request['path']}",
                params=request["query"],
                content=base64.b64decode(request["body"]),
                headers={"content-type": request["content_type"]},
            )
            assert (answer.status_code, answer.json()) == (200, OK), time
    wanted = {i for r in REQUESTS for name, i in r["events"] if not name.startswith("$g")}
    stored = {e["event_id"] for e in _outside(server, product)}
    assert stored <= wanted and len(stored) > 20
    assert {e["source"] for e in _outside(server, product)} == {"posthog"}


def _outside(server: Server, product: str) -> list[dict[str, Any]]:
    names = [json.loads(base64_or_gzip(r["body"])) for r in REQUESTS]
    sessions = set()
    for body in names:
        items = body if isinstance(body, list) else body.get("batch", [body])
        sessions |= {item["properties"]["$session_id"] for item in items}
    return [e for s in sessions for e in server.events(product, s) if e["origin"] == "outside"]


def base64_or_gzip(body: str) -> bytes:
    raw = base64.b64decode(body)
    if raw.startswith(b"\x1f\x8b"):
        return gzip.decompress(raw)
    if raw.startswith(b"data="):
        return base64.b64decode(httpx.QueryParams(raw.decode())["data"])
    return raw


@pytest.mark.parametrize(
    "path", ["/e/", "/e", "/i/v0/e/", "/i/v0/e", "/capture/", "/track/", "/batch/", "/batch"]
)
def test_every_path_takes_a_batch_and_three_saves_are_answered(
    sqlite_server: Server, product: str, path: str
) -> None:
    body = {"api_key": product, "batch": [event(f"e-{n}") for n in range(3)]}
    answer = sqlite_server.http.post(path, content=gzip.compress(json.dumps(body).encode()))
    assert (answer.status_code, answer.json(), answer.history) == (200, OK, [])
    assert kinds(sqlite_server, product) == ["click"] * 3 + ["nudge_offered"]


def test_what_is_bad_in_a_batch_costs_the_rest_nothing(server: Server, product: str) -> None:
    body = {"api_key": product, "batch": [event("a"), {"event": 5}, event("b")]}
    assert server.http.post("/batch/", json=body).status_code == 200
    assert len(kinds(server, product)) == 2
    refused = server.http.post("/batch/", json={"api_key": product, "batch": [{"event": 5}]})
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"{}", 400),
        (b'{"batch": []}', 400),
        (b"[" * 100_000, 400),
        (gzip.compress(b"[" + b" " * 20_000_000), 413),
        (b" " * 2_000_000, 413),
        (b"\x1f\x8bxxxx", 400),
    ],
)
def test_what_no_second_try_would_cure_is_told_so(
    sqlite_server: Server, product: str, content: bytes, status: int
) -> None:
    assert sqlite_server.http.post(f"/p/{product}/e/", content=content).status_code == status


def test_an_unknown_key_among_several_products_is_refused(sqlite_server: Server, product: str) -> None:
    sqlite_server.put(config(product_id()))
    assert sqlite_server.http.post("/e/", json=event() | {"api_key": "phc_nobody"}).status_code == 400
    assert sqlite_server.http.post("/p/nobody/e/", json=event()).status_code == 404


def test_a_database_that_is_gone_is_a_reason_to_come_again(postgres_url: str, launch: Launch) -> None:
    """503 with Retry-After while the database is away; the retry is stored once."""
    server = launch(postgres_url)
    name = product_id()
    server.put(config(name))
    database = postgres_url.rpartition("/")[2]
    body = {"api_key": name, "batch": [event("once")]}
    assert server.http.post("/e/", json=body).status_code == 200
    _refuse_connections(database, True)
    away = server.http.post("/e/", json={"api_key": name, "batch": [event("later")]})
    _refuse_connections(database, False)
    assert away.status_code == 503, away.text
    assert int(away.headers["retry-after"]) > 0
    until(
        lambda: server.http.post("/e/", json={"api_key": name, "batch": [event("later")]}).status_code == 200
    )
    server.http.post("/e/", json=body)
    assert sorted(e["event_id"] for e in server.events(name, SESSION)) == ["later", "once"]


def _refuse_connections(database: str, refused: bool) -> None:
    asyncio.run(_execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS {not refused}'))
    if refused:
        asyncio.run(
            _execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        )


# --- what browsers ask for ------------------------------------------------------------------------


def test_config_and_flags_are_there_without_a_product(sqlite_server: Server) -> None:
    http = sqlite_server.http
    script = http.get("/array/phc_x/config.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert b'_POSTHOG_REMOTE_CONFIG["phc_x"]={config:{"token":"phc_x"' in script.content
    evil = http.get("/array/%22%5D%3C%2Fscript%3E/config.js")
    assert b"</script>" not in evil.content and b'["\\"]\\u003c' not in evil.content[:60]
    told = http.get("/array/phc_x/config").json()
    assert told["token"] == "phc_x" and told["analytics"] == {"endpoint": "/i/v0/e/"}
    for path in ("/flags/?v=2", "/flags?v=2", "/decide/?v=3", "/decide"):
        flags = http.post(path, content=b"data=e30=").json()
        assert flags["featureFlags"] == {} and flags["supportedCompression"] == ["gzip", "gzip-js"]
    assert http.head("/array/phc_x/config.js").status_code == 200
    assert http.get("/static/1.449.2/surveys.js").content == b""
    assert http.get("/static/array.js").status_code == 404


def test_old_releases_hear_answers_with_credentials_and_only_here(
    sqlite_server: Server, product: str
) -> None:
    http, origin = sqlite_server.http, {"origin": "https://shop.example"}
    for path in ("/e/", f"/p/{product}/i/v0/e/", "/decide/?v=3", "/flags/"):
        asked = origin | {
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type, x-own",
        }
        preflight = http.options(path, headers=asked)
        answer = http.post(path, content=b"{}", headers=origin)
        for told in (preflight.headers, answer.headers):
            assert told["access-control-allow-origin"] == "https://shop.example"
            assert told["access-control-allow-credentials"] == "true"
            assert "Origin" in told["vary"]
        assert preflight.status_code == 200
        assert "x-own" in preflight.headers["access-control-allow-headers"]
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
    elsewhere = http.get(f"/v1/products/{product}/config", headers=origin | {"cookie": "a=b"})
    assert "access-control-allow-credentials" not in elsewhere.headers


def test_a_beacon_by_get_is_taken(sqlite_server: Server, product: str) -> None:
    data = base64.b64encode(json.dumps(event()).encode()).decode()
    answer = sqlite_server.http.get(f"/p/{product}/e/", params={"data": data, "compression": "base64"})
    assert answer.json() == OK and kinds(sqlite_server, product) == ["click"]


# --- server SDKs ----------------------------------------------------------------------------------


def test_posthog_python_for_real(server: Server, product: str) -> None:
    client = posthog.Posthog(product, host=str(server.http.base_url), flush_interval=0.05, max_retries=1)
    client.capture("project saved", distinct_id="user_42", properties={"$session_id": "py", "rows": 3})
    client.capture(
        "$pageview", distinct_id="user_42", properties={"$current_url": "https://app.example/projects"}
    )
    client.set(distinct_id="user_42", properties={"email": "ana@example.com", "plan": "pro"})
    client.shutdown()
    saved, seen, known = [e for e in server.events(product, "py") if e["origin"] == "outside"]
    assert (saved["user_id"], saved["data"]["type"], saved["data"]["properties"]["rows"]) == (
        "user_42",
        "project saved",
        3,
    )
    # What names no session joins the one that the user is in.
    assert (seen["data"]["type"], known["data"]["traits"]) == ("pageview", {"plan": "pro"})


NODE = """
const { PostHog } = require('posthog-node');
const client = new PostHog(process.argv[1], { host: process.argv[2], flushAt: 2, flushInterval: 50 });
client.identify({ distinctId: 'user_42', properties: { email: 'ana@example.com' } });
for (const rows of [1, 2, 3])
  client.capture({ distinctId: 'user_42', event: 'save changes', properties: { rows, $session_id: 'node' } });
client.shutdown().then(() => console.log('done'), (error) => { console.error(error); process.exit(1) });
"""


def test_posthog_node_for_real(server: Server, product: str, clients: Path) -> None:
    """Gzip with a header that says so; three saves on the server are answered like three in the page."""
    done = subprocess.run(
        ["node", "-e", NODE, product, str(server.http.base_url)],
        cwd=clients,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("done", "")
    saves = [e for e in server.events(product, "node") if e["type"] == "action"]
    assert sorted(e["data"]["properties"]["rows"] for e in saves) == [1, 2, 3]
    assert "nudge_offered" in kinds(server, product, "node")


# --- webhooks -------------------------------------------------------------------------------------


def test_the_stock_webhook_and_the_sdk_tell_of_one_click_once(server: Server, product: str) -> None:
    """The destination forwards what PostHog got with the same uuid."""
    assert server.http.post("/e/", json=event("same") | {"api_key": product}).status_code == 200
    stock = {"event": event("same") | {"distinct_id": "u_1", "url": ""}, "person": {"properties": {}}}
    told = server.http.post(f"/webhook/{product}", json=stock).json()
    assert (told["accepted"], told["duplicates"]) == (0, 1)
    assert kinds(server, product) == ["click"]


def test_a_body_of_another_generation_is_told_apart(sqlite_server: Server, product: str) -> None:
    wrong = sqlite_server.http.post(f"/webhook/{product}", json={"api_key": "x", "batch": [event()]})
    assert wrong.status_code == 422
    assert "api_host" in wrong.json()["detail"]


# --- hostile bodies -------------------------------------------------------------------------------


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["event", "batch", "events", "properties", "distinct_id", "$session_id", "uuid", "person"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON | st.binary(max_size=200), st.sampled_from([gzip.compress, bytes]))
def test_no_body_is_an_internal_error(
    sqlite_server: Server, product: str, body: Any, pack: Callable[[bytes], bytes]
) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    for path in (f"/p/{product}/e/", f"/p/{product}/batch/", f"/webhook/{product}", "/flags/"):
        answer = sqlite_server.http.post(path, content=pack(raw))
        assert answer.status_code in (200, 400, 401, 413, 422), (path, answer.text)
