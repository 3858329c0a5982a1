"""Segment's and RudderStack's real server SDKs, with their host set to a real service process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import segment.analytics

from tests.api import serving
from tests.api.serving import Server

NODE = """
const { Analytics } = require('@segment/analytics-node')
const analytics = new Analytics({writeKey: KEY, host: HOST, flushInterval: 50, maxRetries: 3, flushAt: 20})
const problems = []
analytics.on('error', error => problems.push(String(error.code)))
analytics.identify({userId: 'u_1', anonymousId: 'anon-1', traits: {email: 'ana@acme.test'}})
for (let i = 0; i < 3; i++)
  analytics.track({userId: 'u_1', event: 'Save changes', properties: {project: i},
                   context: {page: {url: 'https://app.acme.test/projects', title: 'Projects'}}})
analytics.group({userId: 'u_1', groupId: 'acme'})
analytics.closeAndFlush({timeout: 5000}).then(() => console.log(JSON.stringify(problems)))
"""
RUDDERSTACK = """
const RudderAnalytics = require('@rudderstack/rudder-sdk-node')
const client = new RudderAnalytics(KEY, {dataPlaneUrl: HOST, flushInterval: 50, gzip: true})
client.identify({userId: 'u_2', traits: {plan: 'pro'}})
client.page({userId: 'u_2', name: 'Projects', properties: {url: 'https://app.acme.test/projects'}})
for (let i = 0; i < 3; i++) client.track({userId: 'u_2', event: 'Save changes'})
setTimeout(() => client.flush(() => process.exit(0)), 300)
"""


@pytest.fixture
def key(server: Server, product: str) -> str:
    server.put(serving.config(product, tokens=[f"wk-{product}"]))
    return f"wk-{product}"


def drive(clients: Path, script: str, key: str, server: Server) -> str:
    """What the script printed; requests and warnings of Node would be on standard error."""
    head = f"const KEY = {json.dumps(key)}, HOST = {json.dumps(str(server.http.base_url).rstrip('/'))};"
    done = subprocess.run(
        ["node", "-e", head + script], cwd=clients, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def stored(server: Server, product: str, user: str) -> list[dict[str, Any]]:
    """The events of the user's one session."""
    offered = serving.until(
        lambda: server.get(f"/v1/products/{product}/decisions", user_id=user)["decisions"], 5
    )
    assert [each["outcome"] for each in offered] == ["offered"]
    return [e for e in server.events(product, offered[0]["session_id"]) if e["origin"] == "outside"]


def test_segment_node(clients: Path, server: Server, product: str, key: str) -> None:
    """The SDK reports no error; what it sent in one batch is one session, and three saves make an offer."""
    assert json.loads(drive(clients, NODE, key, server)) == []
    listed = stored(server, product, "u_1")
    assert [e["type"] for e in listed] == ["action"] * 3
    assert {e["event_id"].startswith("node-next-") for e in listed} == {True}
    assert listed[0]["data"]["title"] == "Save changes"
    assert listed[0]["data"]["canonical_url"] == "https://app.acme.test/projects"


def test_rudderstack_node(clients: Path, server: Server, product: str, key: str) -> None:
    """Gzip under a form's content type; its page call begins the session that its tracks join."""
    drive(clients, RUDDERSTACK, key, server)
    listed = stored(server, product, "u_2")
    assert [e["data"]["type"] for e in listed] == ["pageview"] + ["Save changes"] * 3
    assert {e["source"] for e in listed} == {"rudderstack"}


@pytest.mark.parametrize("packed", [False, True])
def test_segment_python(server: Server, product: str, key: str, packed: bool) -> None:
    refused: list[Any] = []
    client = segment.analytics.Client(
        key,
        host=str(server.http.base_url).rstrip("/"),
        gzip=packed,
        on_error=lambda error, batch: refused.append(error),
        upload_interval=0.05,
        max_retries=1,
    )
    page = {"page": {"url": "https://app.acme.test/projects"}}
    for _ in range(3):
        client.track("u_3", "Save changes", {"project": 1}, context=page)
    client.shutdown()
    assert refused == []
    assert [e["source"] for e in stored(server, product, "u_3")] == ["segment"] * 3
