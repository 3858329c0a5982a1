"""`nudgeledger.js` in a stranger's page: what it sends, how it behaves there, what it must never do.

Most of these pages stand alone: the browser's requests are answered here, so every body is seen.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import Service

pytestmark = pytest.mark.browser

SCRIPT = Path(__file__).parents[2] / "api" / "static" / "nudgeledger.js"
API = "http://localhost:9999"
HOST = "http://localhost:9998"


class Host:
    """A page of another origin than the service's, and a record of all that the script sends."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.requests: list[list[dict[str, Any]]] = []
        self.tours: list[dict[str, Any]] = []
        self.statuses: list[int] = []  # answers to come before 200s
        self.frames = ""
        context.route(f"{API}/**", self.answer)

    def serve(
        self, body: str, attributes: str = 'data-product="acme" data-user="u_1"', head: str = ""
    ) -> None:
        tag = f'<script src="{API}/nudgeledger.js" {attributes} async></script>'
        html = f"<!doctype html><html><head><title>Shop</title>{head}{tag}</head><body>{body}</body></html>"
        self.context.route(f"{HOST}/**", lambda route: route.fulfill(body=html, content_type="text/html"))

    def answer(self, route: Route) -> None:
        request = route.request
        headers = {
            "access-control-allow-origin": "*",
            "access-control-allow-headers": "content-type, authorization",
        }
        if request.method == "OPTIONS":
            route.fulfill(status=204, headers=headers)
        elif request.url.endswith("/nudgeledger.js"):
            route.fulfill(body=SCRIPT.read_text(), content_type="text/javascript", headers=headers)
        elif "/nudges/stream" in request.url:
            headers["content-type"] = "text/event-stream"
            route.fulfill(body=f"retry: 60000\n\n{self.frames}", headers=headers)
        elif request.url.endswith("/tour/start"):
            self.tours.append(json.loads(request.post_data or "{}"))
            route.fulfill(json={"status": "ok"}, headers=headers)
        else:
            self.requests.append(json.loads(request.post_data or "{}")["events"])
            status = self.statuses.pop(0) if self.statuses else 200
            route.fulfill(status=status, json={"accepted": 1}, headers=headers)

    def nudge(self, **more: Any) -> None:
        data = {"nudge_id": "n_1", "trigger_id": "t", "body": "Shall I help?", "session_id": "s", **more}
        data.setdefault("tours", [])
        data.setdefault("options", [])
        self.frames = f"id: 7\nevent: proactive\ndata: {json.dumps(data)}\n\n"

    def open(self, page: Page, path: str = "/projects") -> None:
        page.goto(HOST + path)
        page.wait_for_function("window.nudgeledger && window.nudgeledger.version")

    def events(self, page: Page) -> list[dict[str, Any]]:
        page.evaluate("nudgeledger.flush()")
        page.wait_for_timeout(250)
        once = {event["event_id"]: event for request in self.requests for event in request}
        return list(once.values())


def test_the_script_is_ascii() -> None:
    """So that a page in any encoding reads it alike."""
    assert SCRIPT.read_text("utf-8").isascii()


@pytest.fixture
def host(context: BrowserContext) -> Host:
    return Host(context)


def open_tabs(context: BrowserContext, host: Host, count: int) -> list[Page]:
    tabs = [context.new_page() for _ in range(count)]
    for tab in tabs:
        host.open(tab)
    return tabs


def toasts(tabs: list[Page]) -> list[int]:
    return [tab.locator("[data-nudgeledger] .card").count() for tab in tabs]


LABELLED = """
  <button id="a">  Save
    changes </button>
  <button id="b" aria-label="Close window">×</button>
  <a id="c" href="#x"><span>Read <b>more</b></span></a>
  <button id="d" data-nudgeledger-label="Checkout"><svg width="9" height="9"></svg></button>
  <button id="e" title="Zoom in"><i>&nbsp;</i></button>
  <span id="name">Delete</span><div id="f" role="button" aria-labelledby="name">.</div>
  <input id="g" type="submit" value="Send order">
  <label>Card number <input id="h" value="4111 1111"></label>
  <label id="i"><input type="checkbox">Gift wrap</label>
  <label>Country <select id="j"><option selected>Iceland</option></select></label>
  <label>Notes <textarea id="k">my secret</textarea></label>
  <p id="l">Plain text</p>
  <div data-nudgeledger-ignore><button id="m">Private</button></div>
"""


def test_a_click_is_named_by_its_nearest_label_and_never_by_a_value(page: Page, host: Host) -> None:
    host.serve(LABELLED)
    host.open(page)
    for element in "abcdefghijklm":
        page.locator(f"#{element}").click()
    events = host.events(page)
    clicks = [e["data"]["title"] for e in events if e["data"].get("type") == "click"]
    assert clicks == [
        "Save changes",
        "Close window",
        "Read more",
        "Checkout",
        "Zoom in",
        "Delete",
        "Send order",
        "Card number",
        "Gift wrap",
        "Country",
        "Notes",
    ]
    sent = json.dumps(host.requests)
    assert not any(value in sent for value in ("4111", "Iceland", "secret", "Private"))
    assert [e["data"]["type"] for e in events].count("pageview") == 2  # the link's hash is the second


def test_every_event_has_the_contracts_envelope(page: Page, host: Host) -> None:
    host.serve("<button>Go</button>")
    host.open(page)
    page.get_by_role("button").click()
    events = host.events(page)
    assert [e["data"]["type"] for e in events] == ["pageview", "click"]
    ids = [e["event_id"] for e in events]
    assert ids == sorted(ids) and all(event_id[14] == "7" for event_id in ids)
    for event in events:
        assert set(event) == {"event_id", "type", "session_id", "user_id", "occurred_at", "sent_at", "data"}
        assert (event["type"], event["user_id"]) == ("action", "u_1")
        assert event["data"]["raw_url"] == f"{HOST}/projects"


def test_calls_made_before_the_script_came_are_honoured_in_order(page: Page, host: Host) -> None:
    early = "window.nudgeledger = {q: [['track', 'report_open', 'Report', {kind: 'pdf'}], ['goal', 'g_1']]}"
    host.serve("", head=f"<script>{early}</script>")
    host.open(page)
    events = [e for e in host.events(page) if e["data"].get("type") != "pageview"]
    assert [e["type"] for e in events] == ["action", "goal_reached"]
    assert events[0]["data"]["properties"] == {"kind": "pdf"}


def test_a_refused_batch_goes_again_with_the_same_ids_and_order(page: Page, host: Host) -> None:
    host.statuses = [503, 500]
    host.serve("<button>Go</button>")
    host.open(page)
    page.get_by_role("button").click()
    page.get_by_role("button").click()
    deadline = time.monotonic() + 8
    while len(host.requests) < 3 and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    page.wait_for_timeout(300)
    first, second, third, *more = [[e["event_id"] for e in request] for request in host.requests]
    assert second[: len(first)] == first and third[: len(second)] == second
    delivered = third + [event_id for request in more for event_id in request]
    assert len(delivered) == len(set(delivered)) == 3


def test_what_is_refused_for_good_does_not_stop_the_rest(page: Page, host: Host) -> None:
    host.statuses = [422]
    host.serve("<button>Go</button>")
    host.open(page)
    page.wait_for_timeout(400)
    page.get_by_role("button").click()
    page.wait_for_timeout(400)
    assert [[e["data"]["type"] for e in request] for request in host.requests] == [["pageview"], ["click"]]


def test_what_was_not_sent_before_leaving_is_sent_by_the_next_page(page: Page, host: Host) -> None:
    host.statuses = [503] * 3
    host.serve("<button>Go</button>")
    host.open(page)
    page.get_by_role("button").click()
    page.goto(f"{HOST}/next")
    page.wait_for_timeout(1500)
    types = [e["data"]["type"] for e in host.requests[-1]]
    assert set(types) <= {"pageview", "click", "pageleave"}
    seen = {e["event_id"]: e["data"]["type"] for e in host.events(page)}
    assert sorted(seen.values()) == ["click", "pageleave", "pageview", "pageview"]


def test_a_tours_start_precedes_its_first_step(page: Page, host: Host) -> None:
    host.nudge(tours=[{"id": "t_1", "flow_id": "f_1", "label": "Tour"}])
    host.serve("")
    host.open(page)
    page.evaluate("nudgeledger.onShowMe = (tour) => { window.toured = tour; nudgeledger.tour.step(1); }")
    expect(page.get_by_role("button", name="Show me")).to_be_visible()
    press = "document.querySelector('[data-nudgeledger]').shadowRoot.querySelector('.main').click()"
    page.evaluate(f"nudgeledger.track('click', 'Before'); {press}")  # one is queued still when it starts
    page.wait_for_timeout(500)
    assert page.evaluate("window.toured.flow_id") == "f_1"
    assert len(host.tours) == 1
    call = host.tours[0]
    assert (call["tour_id"], call["nudge_id"], call["product_id"]) == ("t_1", "n_1", "acme")
    order = [e["type"] for e in host.events(page)]
    assert order.index("nudge_shown") < order.index("tour_step")
    assert "tour_step" not in json.dumps(host.requests[: len(host.requests) - 1])


def test_several_tours_have_a_button_each(page: Page, host: Host) -> None:
    host.nudge(tours=[{"id": "a", "label": "Import"}, {"id": "b", "label": "Export"}])
    host.serve("")
    host.open(page)
    buttons = page.locator("[data-nudgeledger] button")
    expect(buttons).to_have_text(["Import", "Export", "Open chat", "×"])


def test_an_expired_nudge_goes_and_says_so(page: Page, host: Host) -> None:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    host.nudge(expires_at=at)
    host.serve("")
    host.open(page)
    card = page.locator("[data-nudgeledger] .card")
    expect(card).to_be_visible()
    expect(card).to_have_count(0, timeout=5000)
    dismissed = [e["data"] for e in host.events(page) if e["type"] == "nudge_dismissed"]
    assert [d["by"] for d in dismissed] == ["timeout"]


def test_a_nudge_sent_twice_stays_in_the_tab_that_shows_it(context: BrowserContext, host: Host) -> None:
    """Each new connection gets it again here, as from a server that has not heard of `nudge_shown` yet."""
    host.nudge()
    host.serve("")
    tabs = open_tabs(context, host, 3)
    tabs[0].wait_for_timeout(2500)
    assert toasts(tabs) == [1, 0, 0]
    tabs[0].get_by_role("button", name="Open chat").click()
    tabs[0].wait_for_timeout(300)
    assert toasts(tabs) == [0, 0, 0]


def test_of_tabs_that_hear_at_the_same_time_one_shows(context: BrowserContext, host: Host) -> None:
    host.serve("")
    tabs = open_tabs(context, host, 4)
    nudge = {"nudge_id": "n_2", "body": "Shall I help?", "position": 9}
    frame = json.dumps({"kind": "frame", "name": "proactive", "data": nudge})
    tabs[0].evaluate(f"new BroadcastChannel('nudgeledger:acme:tabs').postMessage({frame})")
    tabs[0].wait_for_timeout(600)
    assert sum(toasts(tabs)) == 1
    tabs[0].wait_for_timeout(2000)
    assert sum(toasts(tabs)) == 1
    shown = {e["event_id"] for request in host.requests for e in request if e["type"] == "nudge_shown"}
    assert len(shown) == 1


def test_closed_by_the_server_it_goes_and_stays_away(page: Page, host: Host) -> None:
    host.nudge()
    host.frames += 'id: 8\nevent: nudge_closed\ndata: {"nudge_id": "n_1", "reason": "answered"}\n\n'
    host.serve("")
    host.open(page)
    page.wait_for_timeout(500)
    assert page.locator("[data-nudgeledger]").count() == 0
    page.reload()
    page.wait_for_timeout(500)
    assert page.locator("[data-nudgeledger]").count() == 0


def test_markup_in_a_body_is_text(page: Page, host: Host) -> None:
    host.nudge(body="<img src=x onerror='window.bad = 1'> & co")
    host.serve("")
    host.open(page)
    expect(page.locator("[data-nudgeledger] p")).to_have_text("<img src=x onerror='window.bad = 1'> & co")
    assert page.evaluate("window.bad") is None


def test_a_strict_content_security_policy_is_respected(page: Page, host: Host) -> None:
    host.nudge()
    policy = f"default-src 'none'; script-src {API}; connect-src {API}"
    host.serve("", head=f'<meta http-equiv="Content-Security-Policy" content="{policy}">')
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    host.open(page)
    card = page.locator("[data-nudgeledger] .card")
    expect(card).to_be_visible()
    assert card.evaluate("(card) => getComputedStyle(card).borderRadius") == "16px"
    assert [text for text in complaints if "Content Security" in text] == []


def test_from_right_to_left_the_toast_is_at_the_left(page: Page, host: Host) -> None:
    host.nudge()
    host.serve("<script>document.documentElement.dir = 'rtl'</script>")
    host.open(page)
    box = page.locator("[data-nudgeledger] .card").bounding_box()
    assert box is not None and box["x"] < 100


def test_it_is_above_the_pages_own_layers(page: Page, host: Host) -> None:
    host.nudge()
    host.serve('<div style="position: fixed; inset: 0; z-index: 2147483647; background: #fff">cover</div>')
    host.open(page)
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("[data-nudgeledger]")).to_have_count(0)


def test_another_user_in_the_same_browser_has_another_session(page: Page, host: Host) -> None:
    host.serve("")
    host.open(page)
    first = page.evaluate("nudgeledger.session_id")
    page.reload()
    page.wait_for_function("window.nudgeledger && window.nudgeledger.version")
    assert page.evaluate("nudgeledger.session_id") == first
    host.serve("", 'data-product="acme" data-user="u_2"')
    host.open(page)
    assert page.evaluate("nudgeledger.user_id") == "u_2"
    assert page.evaluate("nudgeledger.session_id") != first


def test_a_session_ends_after_half_an_hour_of_silence(page: Page, host: Host) -> None:
    host.serve("<button>Go</button>")
    page.clock.install()
    host.open(page)
    first = page.evaluate("nudgeledger.session_id")
    page.clock.fast_forward("29:00")
    page.get_by_role("button").click()
    page.clock.fast_forward("29:00")
    assert page.evaluate("nudgeledger.session_id") == first
    page.clock.fast_forward("02:00")
    assert page.evaluate("nudgeledger.session_id") != first


def test_after_shutdown_nothing_is_sent(page: Page, host: Host) -> None:
    host.serve("<button>Go</button>")
    host.open(page)
    host.events(page)
    page.evaluate("nudgeledger.shutdown()")
    page.get_by_role("button").click()
    page.evaluate("history.pushState(null, '', '/other')")
    page.wait_for_timeout(400)
    assert [e["data"]["type"] for e in host.events(page)] == ["pageview"]


def test_many_tabs_share_one_connection(context: BrowserContext, host: Host) -> None:
    """A browser allows six connections to a host: a seventh tab must not stop the others."""
    host.serve("")
    tabs = open_tabs(context, host, 4)
    tabs[0].wait_for_timeout(300)
    held = "navigator.locks.query().then((q) => q.held.filter((l) => l.name.endsWith(':stream')).length)"
    assert tabs[0].evaluate(held) == 1


@pytest.mark.parametrize("locks", [True, False], ids=["web locks", "without web locks"])
def test_tabs_show_one_toast_and_one_answer_ends_it(
    context: BrowserContext, service: Service, locks: bool
) -> None:
    """Against the real stream; plain http pages have no Web Locks."""
    if not locks:
        context.add_init_script("delete Navigator.prototype.locks")
    tabs = [context.new_page() for _ in range(3)]
    for tab in tabs:
        tab.goto(f"{service.url}/demo/projects")
        tab.wait_for_function("window.nudgeledger && window.nudgeledger.session_id")
    tabs[0].wait_for_timeout(500)
    for _ in range(3):
        tabs[0].evaluate("nudgeledger.track('click', 'Save changes')")
    most = 0
    for _ in range(15):
        most = max(most, sum(toasts(tabs)))
        tabs[0].wait_for_timeout(100)
    assert most == 1 and sum(toasts(tabs)) == 1
    owner = next(tab for tab in tabs if tab.locator("[data-nudgeledger] .card").count())
    owner.get_by_role("button", name="Dismiss").click()
    tabs[0].wait_for_timeout(400)
    assert sum(toasts(tabs)) == 0


def test_a_tab_that_comes_after_takes_nothing_over(context: BrowserContext, service: Service) -> None:
    """A nudge that one tab shows is not shown again by a tab that is opened later."""
    first = context.new_page()
    first.goto(f"{service.url}/demo/projects")
    first.wait_for_function("window.nudgeledger && window.nudgeledger.session_id")
    for _ in range(3):
        first.evaluate("nudgeledger.track('click', 'Save changes')")
    expect(first.locator("[data-nudgeledger] .card")).to_be_visible()
    first.wait_for_timeout(300)
    second = context.new_page()
    second.goto(f"{service.url}/demo/projects")
    second.wait_for_timeout(1000)
    assert second.locator("[data-nudgeledger] .card").count() == 0
    assert first.locator("[data-nudgeledger] .card").count() == 1


def test_a_tab_that_takes_the_connection_over_resumes(context: BrowserContext, host: Host) -> None:
    """The tab that held the stream goes; the next asks for what came after the last frame of the first."""
    asked: list[str] = []
    context.on(
        "request", lambda request: asked.append(request.url) if "/nudges/stream" in request.url else None
    )
    host.serve("")
    first, second = context.new_page(), context.new_page()
    host.open(first)
    first.wait_for_timeout(200)
    host.nudge()
    host.open(second)  # comes to the front: takes the connection, hears of the nudge, tells the first
    second.wait_for_timeout(500)
    assert "last_event_id" not in asked[-1]
    before = len(asked)
    second.close(run_before_unload=False)
    first.wait_for_timeout(500)
    assert len(asked) == before + 1
    assert "last_event_id=7" in asked[-1]
