"""The real posthog-js in Chromium, four releases of it, with its `api_host` at a real service process.

The page's only analytics is posthog-js; a toast comes from `nudgeledger.js`, which captures nothing here.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route

from tests.api.serving import config, product_id, trigger, until
from tests.browser.conftest import Service
from tests.wire.conftest import clients

__all__ = ["clients"]

pytestmark = pytest.mark.browser

# The SDK drops every event of what calls itself a robot.
AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
)
NO_ROBOT = "Object.defineProperty(Navigator.prototype, 'webdriver', {get: () => false})"
RELEASES = {"1.449.2": "posthog-js", "1.407.1": "posthog-js-1-407", "1.257.0": "posthog-js-1-257"}
OLDEST = {"1.130.2": "posthog-js-1-130"}
STUB = "window.posthog = Object.assign([], {people: [], _i: [%s], __SV: 1})"


class Shop:
    """A page with posthog-js, and all that it asks the service for."""

    def __init__(self, page: Page, service: Service, package: Path) -> None:
        self.page, self.service = page, service
        self.product, self.token = product_id(), f"phc_{product_id()}"
        self.http = httpx.Client(base_url=service.url, timeout=20)
        self.asked: list[tuple[str, str, int]] = []  # method, path, status
        self.console: list[str] = []
        page.on("console", lambda said: self.console.append(f"{said.type}: {said.text}"))
        page.on("response", lambda answer: self._answered(answer.request, answer.status))
        self.handler = type("ThisPage", (Pages,), {"package": package})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self.url = f"http://localhost:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        raw = config(self.product, tokens=[self.token], triggers=[trigger(cooldown_s=30)])
        assert self.http.put(f"/v1/products/{self.product}/config", json=raw).status_code == 200

    def open(
        self, *, host: str | None = None, toast: bool = False, path: str = "/projects", **options: Any
    ) -> None:
        given = {
            "api_host": host or self.service.url,
            "request_queue_config": {"flush_interval_ms": 250},
            **options,
        }
        head = f"<script>{STUB % json.dumps([self.token, given, 'posthog'])}</script>"
        head += '<script src="/array.js"></script>'
        if toast:
            attributes = f'data-product="{self.product}" data-user="user_42" data-capture="off"'
            head += f'<script src="{self.service.url}/nudgeledger.js" {attributes}></script>'
        self.handler.head = head
        self.page.goto(f"{self.url}{path}")
        self.page.wait_for_function("window.posthog && window.posthog.__loaded")

    def close(self) -> None:
        self.http.close()
        self.server.shutdown()
        self.server.server_close()

    def stored(self, session: str | None = None) -> list[dict[str, Any]]:
        session = session or self.session()
        answer = self.http.get(f"/v1/products/{self.product}/sessions/{session}/events?limit=1000")
        listed: list[dict[str, Any]] = answer.json()["events"] if answer.status_code == 200 else []
        return listed

    def actions(self, session: str | None = None) -> list[str]:
        return [event["data"]["type"] for event in self.stored(session) if event["type"] == "action"]

    def session(self) -> str:
        found: str = self.page.evaluate("posthog.get_session_id()")
        return found

    def until(self, said: Callable[[], bool], within_s: float = 10) -> None:
        """Wait as a browser does: its own requests go on meanwhile."""
        deadline = time.monotonic() + within_s
        while not said():
            assert time.monotonic() < deadline, (self.console, self.asked)
            self.page.wait_for_timeout(100)

    def posts(self) -> list[tuple[str, str, int]]:
        return [asked for asked in self.asked if asked[0] == "POST"]

    def _answered(self, request: Request, status: int) -> None:
        if request.url.startswith(self.service.url):
            self.asked.append(
                (request.method, request.url[len(self.service.url) :].partition("?")[0], status)
            )


class Pages(BaseHTTPRequestHandler):
    """The shop's own server: Chromium lets a page from nowhere reach no loopback address."""

    head = ""
    package = Path()

    def do_GET(self) -> None:
        if self.path == "/array.js":
            self._send("text/javascript", (self.package / "dist" / "array.js").read_bytes())
        elif self.path == "/favicon.ico":
            self._send("image/png", b"")
        else:
            body = '<button id="save"><i>✓</i> Save changes</button> <input id="q" value="">'
            page = (
                f"<!doctype html><html><head><title>Shop</title>{self.head}</head><body>{body}</body></html>"
            )
            self._send("text/html; charset=utf-8", page.encode())

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def human(browser: Browser) -> Iterator[BrowserContext]:
    fresh = browser.new_context(user_agent=AGENT, viewport={"width": 1000, "height": 700})
    fresh.add_init_script(NO_ROBOT)
    fresh.set_default_timeout(10_000)
    yield fresh
    fresh.close()


@pytest.fixture(params=[*RELEASES, *OLDEST])
def shop(
    request: pytest.FixtureRequest, human: BrowserContext, service: Service, clients: Path
) -> Iterator[Shop]:
    """A shop for each release."""
    package = clients / "node_modules" / (RELEASES | OLDEST)[request.param]
    made = Shop(human.new_page(), service, package)
    yield made
    made.close()


@pytest.fixture
def newest(human: BrowserContext, service: Service, clients: Path) -> Iterator[Shop]:
    made = Shop(human.new_page(), service, clients / "node_modules" / "posthog-js")
    yield made
    made.close()


def test_three_saves_bring_a_nudge_and_nothing_is_sent_twice(shop: Shop) -> None:
    """Autocapture, identify, the nudge as a toast, the last beacon; a clean console, each request once."""
    shop.open(toast=True)
    shop.page.evaluate("posthog.identify('user_42', {email: 'ana@example.com', plan: 'pro'})")
    shop.until(lambda: "user_identified" in [event["type"] for event in shop.stored()])
    for _ in range(3):
        shop.page.get_by_role("button", name="Save changes").click()
        shop.page.wait_for_timeout(120)
    shop.page.get_by_text("Try bulk edit?", exact=True).wait_for(state="visible", timeout=8_000)

    (identified,) = [event for event in shop.stored() if event["type"] == "user_identified"]
    anonymous = shop.stored()[0]["user_id"]
    assert identified["user_id"] == "user_42"
    assert identified["data"]["previous_id"] == anonymous != "user_42"
    assert identified["data"]["email"] == "ana@example.com"
    assert shop.actions().count("click") == 3
    session, before = shop.session(), len(shop.posts())
    shop.page.evaluate("posthog.capture('report exported', {rows: 12})")
    shop.page.close(run_before_unload=True)
    until(lambda: "pageleave" in shop.actions(session))
    kinds = shop.actions(session)
    assert sorted(kinds) == sorted(["pageview", *["click"] * 3, "report exported", "pageleave"])
    assert {status for _, _, status in shop.asked} <= {200, 304}
    assert [line for line in shop.console if line.startswith(("error", "warning"))] == []
    ids = [e["event_id"] for e in shop.stored(session) if e["origin"] == "outside"]
    assert len(ids) == len(set(ids))
    assert before <= 12  # flags, captures, what the toast says: no storm


def test_an_answer_that_was_lost_is_asked_for_again_and_stored_once(newest: Shop) -> None:
    """The service stores the first capture, but the client hears 503: it sends the same again."""
    lost: list[int] = []

    def lose(route: Route) -> None:
        answer = route.fetch()
        if lost:
            route.fulfill(response=answer)
            return
        lost.append(answer.status)
        headers = {"access-control-allow-origin": "*", "retry-after": "1"}
        route.fulfill(status=503, headers=headers, body="")

    newest.page.route(f"{newest.service.url}/e/**", lose)
    newest.open()
    newest.until(
        lambda: sum("/e/" in path for _, path, _ in newest.posts()) >= 2 or newest.page.wait_for_timeout(100),
        9,
    )
    assert lost == [200]
    assert newest.actions() == ["pageview"]


@pytest.mark.parametrize("mount", [False, True])
def test_the_product_is_found_by_the_mount_prefix_or_the_public_key(newest: Shop, mount: bool) -> None:
    if mount:
        newest.token = "phc_nobody"
    newest.open(host=f"{newest.service.url}/p/{newest.product}" if mount else None)
    newest.page.get_by_role("button").click()
    newest.until(lambda: newest.actions() == ["pageview", "click"])


def test_uncompressed_bodies_come_after_a_preflight(newest: Shop) -> None:
    newest.open(disable_compression=True, request_headers={"X-Own": "1"})
    newest.page.get_by_role("button").click()
    newest.until(lambda: newest.actions() == ["pageview", "click"])
    newest.page.goto("about:blank")


def test_without_a_remote_script_the_config_is_json(newest: Shop) -> None:
    newest.open(disable_external_dependency_loading=True)
    newest.until(lambda: ("GET", f"/array/{newest.token}/config", 200) in newest.asked)
    newest.page.wait_for_timeout(300)  # it captures once it has read the answer
    newest.page.get_by_role("button").click()
    newest.until(lambda: newest.actions() == ["pageview", "click"])


def test_what_is_typed_is_nowhere(newest: Shop) -> None:
    newest.open()
    newest.page.locator("#q").fill("4111 secret")
    newest.page.locator("#q").blur()
    newest.until(lambda: "change" in newest.actions())
    assert "secret" not in json.dumps(newest.stored())


def test_recordings_are_taken_and_dropped_and_static_files_are_not_there(service: Service) -> None:
    with httpx.Client(base_url=service.url) as http:
        assert http.post("/s/", content=b"\x1f\x8b" + b"x" * 100_000).json() == {"status": "Ok"}
        assert http.get("/static/1.449.2/surveys.js").status_code == 200
        assert http.get("/static/recorder.js").status_code == 404
