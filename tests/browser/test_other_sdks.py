"""Segment's analytics-next and Amplitude's browser SDK in Chromium, pointed at a real service process.

The page's only analytics is that SDK; it is served from another origin than the service.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page

from tests.api.serving import config, product_id, trigger
from tests.browser.conftest import Service
from tests.wire.conftest import clients

__all__ = ["clients"]

pytestmark = pytest.mark.browser

BODY = (
    '<form id="edit"><input id="name" name="name"><button id="save">Save changes</button></form>'
    '<script>document.forms[0].addEventListener("submit", event => event.preventDefault())</script>'
)
SEGMENT = """
<script src="/node_modules/@segment/analytics-next/dist/umd/index.js"></script><script>
  window.analytics = AnalyticsNext.AnalyticsBrowser.load(%s, %s)
  analytics.page()
  window.sdk = analytics
</script>"""
AMPLITUDE = """
<script src="/node_modules/@amplitude/analytics-browser/lib/scripts/amplitude-min.umd.js"></script><script>
  window.ready = amplitude.init(%s, %s).promise
</script>"""


class Shop:
    """A page with an SDK, and all that it asks the service for."""

    def __init__(self, page: Page, service: Service, packages: Path) -> None:
        self.page, self.service = page, service
        self.product, self.key = product_id(), f"key-{product_id()}"
        self.http = httpx.Client(base_url=service.url, timeout=20)
        self.asked: list[tuple[str, str, int]] = []  # method, path, status
        self.console: list[str] = []
        page.on("console", lambda said: self.console.append(f"{said.type}: {said.text}"))
        page.on("response", lambda answer: self._answered(answer.request.method, answer.url, answer.status))
        self.handler = type("ThisPage", (Pages,), {"packages": str(packages)})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self.url = f"http://localhost:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        raw = config(self.product, tokens=[self.key], triggers=[trigger(cooldown_s=30)])
        assert self.http.put(f"/v1/products/{self.product}/config", json=raw).status_code == 200

    def open(self, head: str, *arguments: object) -> None:
        self.handler.head = head % tuple(json.dumps(each) for each in arguments)
        self.page.goto(f"{self.url}/projects?tab=all")

    def product_of_its_own(self) -> None:
        """Beside the others, so that no product is the only one."""
        raw = config(product_id())
        assert self.http.put(f"/v1/products/{raw['product_id']}/config", json=raw).status_code == 200

    def close(self) -> None:
        self.http.close()
        self.server.shutdown()
        self.server.server_close()

    def decisions(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.http.get(f"/v1/products/{self.product}/decisions").json()[
            "decisions"
        ]
        return listed

    def stored(self, session: str) -> list[dict[str, Any]]:
        answer = self.http.get(f"/v1/products/{self.product}/sessions/{session}/events?limit=1000").json()
        return [event for event in answer["events"] if event["origin"] == "outside"]

    def until(self, said: Callable[[], Any], within_s: float = 10) -> Any:
        """Wait as a browser does: its own requests go on meanwhile."""
        deadline = time.monotonic() + within_s
        while not (value := said()):
            assert time.monotonic() < deadline, (self.console, self.asked)
            self.page.wait_for_timeout(100)
        return value

    def quiet(self) -> None:
        """Every request was answered well and none came twice; the console is clean."""
        assert {status for _, _, status in self.asked} <= {200}, self.asked
        assert [line for line in self.console if line.startswith(("error", "warning"))] == []

    def _answered(self, method: str, url: str, status: int) -> None:
        if url.startswith(self.service.url):
            self.asked.append((method, url[len(self.service.url) :].partition("?")[0], status))


class Pages(SimpleHTTPRequestHandler):
    head = ""
    packages = ""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=self.packages)

    def do_GET(self) -> None:
        if self.path.startswith("/node_modules/"):
            super().do_GET()
            return
        body = b"" if self.path == "/favicon.ico" else self._page()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _page(self) -> bytes:
        return (
            f"<!doctype html><html><head><title>Projects</title>{self.head}</head><body>{BODY}</body></html>"
        ).encode()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def shop(page: Page, service: Service, clients: Path) -> Iterator[Shop]:
    made = Shop(page, service, clients)
    yield made
    made.close()


@pytest.mark.parametrize("told", [False, True])
def test_analytics_next(shop: Shop, told: bool) -> None:
    """With `apiHost` in the page, or with `cdnURL` alone, which names it; page, identify and tracks that are
    sent side by side are one session of one person."""
    host = f"{shop.service.url.removeprefix('http://')}/v1"
    integrations = {"integrations": {"Segment.io": {"apiHost": host, "protocol": "http"}}} if told else {}
    shop.open(SEGMENT, {"writeKey": shop.key, "cdnURL": shop.service.url}, integrations)
    anonymous = shop.page.evaluate("sdk.user().then(user => user.anonymousId())")
    shop.page.evaluate("sdk.identify('u_1', {email: 'ana@acme.test'})")
    for _ in range(3):
        shop.page.evaluate("sdk.track('Save changes', {project: 7})")
    (decision,) = shop.until(shop.decisions)
    assert (decision["outcome"], decision["user_id"]) == ("offered", "u_1")
    listed = shop.until(lambda: len(found := shop.stored(decision["session_id"])) == 5 and found)
    kinds = [event["data"].get("type", event["type"]) for event in listed]
    assert sorted(kinds) == ["Save changes"] * 3 + ["pageview", "user_identified"]
    (identified,) = [event for event in listed if event["type"] == "user_identified"]
    assert identified["data"]["previous_id"] == anonymous
    (seen,) = [event for event in listed if event["data"].get("type") == "pageview"]
    assert seen["data"]["canonical_url"] == f"{shop.url}/projects"
    shop.page.wait_for_timeout(1_500)  # longer than its first retry would wait
    sent = [path for method, path, _ in shop.asked if method == "POST"]
    assert sorted(sent) == ["/v1/i", "/v1/p", "/v1/t", "/v1/t", "/v1/t"]
    shop.quiet()


def test_amplitude(shop: Shop) -> None:
    """Autocapture: three clicks on a form's button, its changes and submits merged; who it was is merged."""
    options = {
        "serverUrl": f"{shop.service.url}/2/httpapi",
        "autocapture": {"elementInteractions": True, "attribution": False},
        "flushIntervalMillis": 200,
        "fetchRemoteConfig": False,
        "remoteConfig": {"fetchRemoteConfig": False},
    }
    shop.open(AMPLITUDE, shop.key, options)
    shop.page.evaluate("ready")
    session = shop.page.evaluate("amplitude.getSessionId() + '-' + amplitude.getDeviceId()")
    shop.until(lambda: [path for _, path, _ in shop.asked if path == "/2/httpapi"])
    shop.page.evaluate("amplitude.setUserId('u_1')")
    shop.page.locator("#name").fill("4111 secret")
    for _ in range(3):
        shop.page.get_by_role("button", name="Save changes").click()
        shop.page.wait_for_timeout(1_100)  # a click sooner would count as the same one
    (decision,) = shop.until(shop.decisions)
    assert (decision["session_id"], decision["user_id"]) == (session, "u_1")
    listed = shop.stored(session)
    device = session.partition("-")[2]
    assert listed[0]["user_id"] == device
    assert [e["data"]["previous_id"] for e in listed if e["type"] == "user_identified"] == [device]
    saves = [event["data"] for event in listed if event["data"].get("title") == "Save changes"]
    assert len(saves) == 3
    assert {data["canonical_url"] for data in saves} == {f"{shop.url}/projects"}
    assert "secret" not in json.dumps(listed)
    shop.page.wait_for_timeout(1_500)
    assert len([path for method, path, _ in shop.asked if method == "POST"]) <= 8
    shop.quiet()


@pytest.mark.parametrize("sdk", ["segment", "amplitude"])
def test_a_key_that_nobody_knows_starts_no_storm(shop: Shop, sdk: str) -> None:
    """What is refused is dropped by the SDK: a request or two, and then silence."""
    shop.product_of_its_own()
    if sdk == "segment":
        shop.open(SEGMENT, {"writeKey": "nobody", "cdnURL": shop.service.url}, {})
    else:
        url = f"{shop.service.url}/2/httpapi"
        options = {"serverUrl": url, "flushIntervalMillis": 100, "remoteConfig": {"fetchRemoteConfig": False}}
        shop.open(AMPLITUDE, "nobody", {**options, "fetchRemoteConfig": False})
    shop.until(lambda: [path for method, path, _ in shop.asked if method == "POST"])
    shop.page.wait_for_timeout(3_000)
    sent = [status for method, _, status in shop.asked if method == "POST"]
    assert len(sent) <= 2
    assert set(sent) == {400}
