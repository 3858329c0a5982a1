"""The README's recipes, run as they stand in a real Chromium against a real service.

Real packages: React, Vue, posthog-js, usertour.js (its loader), the Inkeep widget. Stand-ins from their
documented globals: Usertour's own SDK (it comes from their network), rasa-webchat's `WebChat`, Intercom's
`Intercom`. Next.js is too large to build here: its recipe is checked as the tag that `next/script` makes.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page

from tests.browser.conftest import Service
from tests.wire.conftest import clients

__all__ = ["clients"]

pytestmark = pytest.mark.browser

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8090"
CONFIG = {
    "product_id": "acme",
    "triggers": [
        {
            "id": "bulk_edit",
            "body": "Updating one by one?",
            "how_to": "1. Open Bulk edit.",
            "tours": ["bulk"],
            "criteria": {"type": "count", "where": {"title_contains": "save changes"}, "at_least": 2},
        }
    ],
    "tours": [{"id": "bulk", "user_tour_id": "flow_1"}],
}
_users = itertools.count(1)
SAVE = '<button id="save" type="button">Save changes</button>'


def recipe(heading: str) -> str:
    """The code of the recipe under this heading."""
    text = README.read_text().split("## Recipes", 1)[1]
    return re.search(rf"### {re.escape(heading)}\n.*?```\w+\n(.*?)```", text, re.DOTALL)[1]  # type: ignore[index]


class Host:
    """A host's page on a server of its own, with the clients' packages behind it."""

    def __init__(self, context: BrowserContext, service: Service, clients: Path) -> None:
        self.service, self.user = service, f"u_{next(_users)}"
        self.files: dict[str, str] = {}
        self.page: Page = context.new_page()
        self.console: list[str] = []
        self.page.on(
            "console", lambda m: self.console.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        context.route("https://**", lambda route: route.abort())
        files, packages = self.files, clients / "node_modules"

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                file = packages / path.lstrip("/")
                body = file.read_bytes() if file.is_file() else files.get(path, "").encode()
                self.send_response(200 if body else 404)
                kind = "text/javascript" if path.endswith(".js") else "text/html"
                self.send_header("content-type", f"{kind}; charset=utf-8")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        # A page of a host elsewhere may not reach a loopback address: browsers refuse it.
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def open(self, code: str, before: str = "") -> Page:
        """The page with the recipe's code in it, pointed at the service."""
        code = code.replace('"u_1"', f'"{self.user}"')  # limits count by user, and tests share a service
        body = f"<!doctype html><title>Projects</title><body>{SAVE}{before}{code}</body>"
        self.files["/projects"] = body.replace(ADDRESS, self.service.url)
        self.files["/favicon.ico"] = " "
        self.page.goto(f"http://localhost:{self._server.server_port}/projects")
        return self.page

    def nudged(self, saves: int = 2) -> None:
        """Saves often enough, and waits for the toast."""
        self.page.wait_for_function("window.nudgeledger && nudgeledger.version")
        for _ in range(saves):
            self.page.click("#save")
        self.page.get_by_text("Updating one by one?", exact=True).wait_for()

    def events(self, kind: str) -> list[dict[str, Any]]:
        session = self.page.evaluate("nudgeledger.session_id")
        listed = httpx.get(f"{self.service.url}/v1/products/acme/sessions/{session}/events?limit=500").json()
        return [event for event in listed.get("events", []) if event["type"] == kind]

    def soon(self, kind: str, test: Callable[[list[dict[str, Any]]], object] = bool) -> list[dict[str, Any]]:
        """The session's events of a type, once there are such."""
        for _ in range(100):
            found = self.events(kind)
            if test(found):
                return found
            time.sleep(0.1)
        raise AssertionError(f"no {kind}: {self.console}")


@pytest.fixture
def host(context: BrowserContext, service: Service, clients: Path) -> Iterator[Host]:
    answer = httpx.put(f"{service.url}/v1/products/acme/config", json=CONFIG)
    assert answer.status_code == 200, answer.text
    made = Host(context, service, clients)
    yield made
    made.close()


def bundled(clients: Path, source: str, tmp_path: Path, loader: str) -> str:
    """One script of a module and the real packages that it imports."""
    entry = tmp_path / f"entry.{loader}"
    entry.write_text(source)
    command = [clients / "node_modules/.bin/esbuild", entry, "--bundle", "--format=iife", "--jsx=automatic",
               '--define:process.env.NODE_ENV="development"']  # fmt: skip
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env={"NODE_PATH": str(clients / "node_modules")}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_react(host: Host, clients: Path, tmp_path: Path) -> None:
    """In strict mode, which mounts everything twice."""
    mount = """
      import { StrictMode } from "react";
      import { createRoot } from "react-dom/client";
      const root = document.body.appendChild(document.createElement("div"));
      createRoot(root).render(<StrictMode><Nudges user="u_react" /></StrictMode>);
    """
    code = recipe("React").replace(ADDRESS, host.service.url)
    host.files["/app.js"] = bundled(clients, code + mount, tmp_path, "jsx")
    host.open('<script src="/app.js"></script>')
    host.nudged()
    assert host.page.evaluate("nudgeledger.user_id") == "u_react"
    clicks = [e for e in host.events("action") if e["data"]["type"] == "click"]
    assert len(clicks) == 2, "a second tag doubled the clicks"


def test_vue(host: Host, clients: Path, tmp_path: Path) -> None:
    mount = """
      import { createApp, h } from "vue/dist/vue.runtime.esm-bundler.js";
      const root = document.body.appendChild(document.createElement("div"));
      const app = createApp({ render: () => h("p", "Hello") });
      app.use(nudges, { product: "acme", user: "u_vue" }).mount(root);
    """
    code = recipe("Vue").replace(ADDRESS, host.service.url)
    host.files["/app.js"] = bundled(clients, code + mount, tmp_path, "js")
    host.open('<script src="/app.js"></script>')
    host.nudged()
    assert host.page.evaluate("nudgeledger.user_id") == "u_vue"


def test_nextjs(host: Host) -> None:
    """`next/script` appends a script element with the given attributes once the page is interactive."""
    attributes = re.search(r"<Script src=\"(.*?)\" data-product=\"(.*?)\" />", recipe("Next.js"))
    assert attributes is not None
    source, product = attributes.groups()
    host.open(
        f"""<script>addEventListener("load", () => {{
          const script = document.createElement("script");
          script.src = "{source}"; script.setAttribute("data-product", "{product}");
          script.setAttribute("data-nscript", "afterInteractive"); document.body.appendChild(script);
        }});</script>"""
    )
    host.nudged()


def test_a_tour_of_your_own(host: Host) -> None:
    step = '<button data-tour="flow_1" id="s1">One</button><button data-tour="flow_1" id="s2">Two</button>'
    host.open(recipe("A tour of your own"), before=step)
    host.nudged()
    host.page.get_by_role("button", name="Show me").click()
    host.page.wait_for_selector("#s1.highlight")
    host.page.click("#s1")
    host.page.click("#s2")
    (ended,) = host.soon("tour_ended")
    assert ended["data"]["outcome"] == "completed"
    assert len(host.events("tour_step")) == 2
    assert host.console == []


USERTOUR = """
  (() => { // what the real SDK puts in the loader's place, and the queue that it drains
    let identified = null, running = null;
    const api = {
      init() {},
      identify: async (id) => { identified = id; },
      isIdentified: () => Boolean(identified),
      isStarted: (id) => running === id,
      start: async (id) => {
        if (!identified) throw new Error("not identified");
        running = window.started = id;
        setTimeout(() => { running = null; }, 1500);
      },
    };
    Object.assign(window.usertour, api);
    for (const [name, asked, args] of window.USERTOURJS_QUEUE.splice(0)) {
      Promise.resolve(api[name](...args)).then(asked ? asked.resolve : () => {}, asked && asked.reject);
    }
  })();
"""


def test_usertour(host: Host) -> None:
    host.page.context.route(
        "https://js.usertour.io/**",
        lambda route: route.fulfill(body=USERTOUR, content_type="text/javascript"),
    )
    host.open(recipe("Usertour"))
    host.nudged()
    host.page.get_by_role("button", name="Show me").click()
    host.page.wait_for_function("window.started === 'flow_1'")
    (started,) = host.soon("tour_started")
    assert started["data"]["registry_id"] == "bulk"
    (ended,) = host.soon("tour_ended")  # noticed by asking: nobody said what came of it
    assert "outcome" not in ended["data"]


def test_usertour_that_was_never_identified_ends_the_tour_and_says_why(host: Host) -> None:
    host.page.context.route(
        "https://js.usertour.io/**",
        lambda route: route.fulfill(body=USERTOUR, content_type="text/javascript"),
    )
    host.open(recipe("Usertour").replace('usertour.identify("u_1");', ""))
    host.nudged()
    host.page.get_by_role("button", name="Show me").click()
    (ended,) = host.soon("tour_ended")
    assert ended["data"]["outcome"] == "dismissed"
    assert any("usertour.identify" in line for line in host.console)


def test_inkeep(host: Host) -> None:
    host.open(recipe("Inkeep"))
    host.page.wait_for_selector("#chat *", state="attached")
    host.nudged()
    host.page.get_by_role("button", name="Open chat").click()
    host.page.locator("#chat").get_by_text("Updating one by one?").wait_for()
    host.soon("chat_message")


def test_intercom(host: Host) -> None:
    stub = "<script>window.Intercom = (...args) => { (window.said ??= []).push(args); };</script>"
    host.open(recipe("Intercom"), before=stub)
    host.nudged()
    host.page.get_by_role("button", name="Open chat").click()
    host.page.wait_for_function("window.said")
    assert host.page.evaluate("said") == [["showNewMessage", "Updating one by one?"]]
    (message,) = host.soon("chat_message")
    assert message["data"]["role"] == "user"
    assert host.console == []


def test_rasa_webchat(host: Host) -> None:
    """Here the chat does not take it (no Rasa runs): the host's own callback gets the nudge, and once only
    the ledger hears that the user asked."""
    stub = """<script>
      sessionStorage.chat_session = JSON.stringify({ session_id: "sid_1" });
      window.WebChat = { open() { window.opened = true; } };
      window.nudgeledger = { onOpenChat: (nudge) => { window.fallback = nudge.body; } };
    </script>"""
    calls: list[dict[str, Any]] = []
    host.page.on(
        "request", lambda r: calls.append(r.post_data_json) if r.url.endswith("/proactive/inject") else None
    )
    host.open(recipe("Rasa webchat"), before=stub)
    host.nudged()
    host.page.get_by_role("button", name="Open chat").click()
    host.page.wait_for_function("window.opened && window.fallback")
    assert [(call["sender_id"], call["trigger_id"], call["user_id"]) for call in calls] == [
        ("sid_1", "bulk_edit", host.user)
    ]
    host.soon("chat_message")


def test_posthog_js(host: Host) -> None:
    """posthog-js alone reports; who it identifies, the script follows."""
    host.page.add_init_script(
        """Object.defineProperty(navigator, "webdriver", { get: () => false });
        const agent = navigator.userAgent.replace("Headless", ""); // posthog-js drops what robots do
        Object.defineProperty(navigator, "userAgent", { get: () => agent });"""
    )
    host.open(recipe("posthog-js"))
    host.page.wait_for_function(
        "window.posthog && posthog.__loaded && window.nudgeledger && nudgeledger.version"
    )
    host.page.wait_for_function("nudgeledger.session_id === posthog.get_session_id()")
    host.nudged()
    sources = {event["source"] for event in host.events("action")}
    assert sources == {"posthog"}
    host.page.evaluate("posthog.identify('u_known')")
    assert host.page.evaluate("nudgeledger.user_id") == "u_known"


def test_an_adapter_that_is_not_there_harms_nothing(host: Host) -> None:
    code = recipe("Intercom").replace('data-with="intercom"', 'data-with="nosuch"')
    stub = "<script>window.nudgeledger = { onOpenChat: (nudge) => { window.opened = nudge.body; } };</script>"
    host.open(code, before=stub)
    host.nudged()
    host.page.get_by_role("button", name="Open chat").click()
    host.page.wait_for_function("window.opened")
