"""The console in real Chromium, over a real service with traffic that was posted to it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Route, expect

from api.routes import console
from tests.browser.conftest import Service

pytestmark = pytest.mark.browser

PERSON = '<img src=x onerror="window.hacked=1">'
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\'"{{7*7}}\u202e'
TITLES = "(bars) => bars.map((bar) => bar.title)"
BIG = 2_000  # events of one session
CONFIG: dict[str, Any] = {
    "schema": 1,
    "product_id": "acme",
    "session": {"interaction_timeout_s": 1, "cooldown_period_s": 600},
    "triggers": [
        {
            "id": "saves",
            "name": "Saves one by one",
            "body": "Try bulk edit?",
            "tours": ["bulk-tour"],
            "goal": "bulk_used",
            "cooldown_s": 1,
            "criteria": {
                "operator": "AND",
                "conditions": [
                    {"type": "current_page", "url_contains": "/projects"},
                    {"name": "saves", "type": "count", "where": {"title_contains": "save"}, "at_least": 3},
                ],
            },
        },
        {"id": "many", "criteria": {"type": "action_count", "at_least": 100_000}},
    ],
    "tours": [{"id": "bulk-tour", "user_tour_id": "flow_1", "page_contains": "/projects"}],
}


class Recorder:
    """The service of these tests, and what was posted to it."""

    def __init__(self, service: Service) -> None:
        self.service, self.url = service, service.url
        self.http = httpx.Client(base_url=service.url, timeout=30)

    def put(self, config: dict[str, Any]) -> str:
        answer = self.http.put(f"/v1/products/{config['product_id']}/config", json=config)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["revision"])

    def post(self, *events: dict[str, Any], product: str = "acme") -> list[dict[str, Any]]:
        answer = self.http.post(f"/v1/products/{product}/events", json={"events": events})
        assert answer.status_code == 200, answer.text
        decisions: list[dict[str, Any]] = answer.json()["decisions"]
        return decisions

    def get(self, path: str, product: str = "acme", **query: Any) -> dict[str, Any]:
        answer = self.http.get(f"/v1/products/{product}/{path}", params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def event(kind: str, session: str, user: str = "u_1", **data: Any) -> dict[str, Any]:
    return {"type": kind, "session_id": session, "user_id": user, "data": data}


def click(session: str, title: str = "Save changes", user: str = "u_1", **more: Any) -> dict[str, Any]:
    data = {"type": "click", "title": title, "raw_url": "https://app.example/projects/7"}
    return event("action", session, user, **data) | more


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Recorder]:
    """A service of its own, since the console shows all of its products."""
    running = Service(tmp_path_factory.mktemp("console"))
    running.start()
    found = Recorder(running)
    try:
        yield _posted(found)
    finally:
        running.kill()
        found.http.close()


def _posted(recorder: Recorder) -> Recorder:
    recorder.put(CONFIG)
    first, second = click("s_mia", "Open list"), click("s_mia")
    for each in (first, second, click("s_mia")):
        recorder.post(each)
    [offered] = recorder.post(click("s_mia"))
    recorder.post(event("nudge_shown", "s_mia", nudge_id=offered["nudge_id"], tab_id="t1"))
    recorder.post(event("tour_started", "s_mia", tour_id="bulk-tour"))
    recorder.post(event("tour_ended", "s_mia", tour_id="bulk-tour", outcome="completed"))
    recorder.post(event("goal_reached", "s_mia", goal_id="bulk_used"))
    recorder.post(click("s_close", user="u_2"), click("s_close", user="u_2"))
    recorder.post(click("s_late", user="u_3"), click("s_late", user="u_3"))
    for start in range(0, BIG, 500):
        recorder.post(*(click("s_big", f"Row {n}", "u_big") for n in range(start, start + 500)))
    evil = json.loads(json.dumps(CONFIG)) | {"product_id": "evil"}
    evil["triggers"][0] |= {"id": "evil", "name": HOSTILE, "body": HOSTILE}
    recorder.put(evil)
    recorder.post(*(click(PERSON, f"save {HOSTILE}", PERSON) for _ in range(3)), product="evil")
    recorder.post(event("option_clicked", PERSON, PERSON, option_id=HOSTILE), product="evil")
    recorder.put({"schema": 1, "product_id": "empty"})
    return recorder


@pytest.fixture
def pane(page: Page, recorder: Recorder) -> Iterator[Page]:
    """A page that talks to the service alone and has nothing to complain of.

    A refusal by the API that a test provokes is a line of the browser's own and is let pass.
    """
    complaints: list[str] = []

    def said(message: ConsoleMessage) -> None:
        refused = message.text.startswith("Failed to load resource") and "/v1/" in message.location["url"]
        if message.type in ("error", "warning") and not refused:
            complaints.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith(recorder.url):
            complaints.append(f"asked {request.url}")

    page.on("console", said)
    page.on("request", asked)
    yield page
    assert complaints == []


def open_at(pane: Page, recorder: Recorder, path: str) -> None:
    pane.goto(f"{recorder.url}/console{path}")
    settled(pane)


def settled(pane: Page) -> None:
    expect(pane.locator("main:not([aria-busy]) h1")).not_to_have_count(0)


def offer(recorder: Recorder, session: str = "s_mia") -> dict[str, Any]:
    found: dict[str, Any] = recorder.get("decisions", session_id=session, outcome="offered")["decisions"][-1]
    return found


def values(bars: Locator) -> list[int]:
    """The numbers that stand beside bars."""
    return [int(title.rsplit(" ", 1)[1]) for title in bars.locator(".bar").evaluate_all(TITLES)]


def slider(pane: Page) -> Locator:
    return pane.get_by_role("slider", name="Version of the session")


def test_every_page_fits_a_telephone_and_a_desk_in_light_and_dark(pane: Page, recorder: Recorder) -> None:
    decision = offer(recorder)["decision_id"]
    paths = ["", "/acme", "/acme/sessions", "/acme/sessions?user_id=u_1", "/acme/sessions/s_mia"]
    paths += ["/acme/decisions", f"/acme/decisions/{decision}", "/acme/triggers?last=1h", "/acme/revisions"]
    paths += [
        "/acme/why-not",
        "/acme/why-not?session_id=s_close&trigger_id=saves",
        "/acme/backtests",
        "/empty",
    ]
    for number, path in enumerate(paths):
        pane.emulate_media(color_scheme="dark" if number % 2 else "light")
        open_at(pane, recorder, path)
        for width in (390, 1440):
            pane.set_viewport_size({"width": width, "height": 860})
            assert pane.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, width)
        expect(pane.locator("[role=alert]")).to_have_count(0)
        assert pane.title().endswith("· nudgeledger"), path


def test_the_picker_leads_to_a_product_and_an_empty_one_says_what_to_do(
    pane: Page, recorder: Recorder
) -> None:
    open_at(pane, recorder, "")
    assert pane.locator(".products b").all_inner_texts() == ["acme", "demo", "empty", "evil"]
    pane.get_by_role("link", name="empty").click()
    expect(pane).to_have_url(f"{recorder.url}/console/empty")
    expect(pane.locator("main")).to_contain_text("No session yet")
    expect(pane.locator("main pre")).to_contain_text("/v1/products/empty/events")
    pane.get_by_label("Product", exact=True).select_option("acme")
    expect(pane).to_have_url(f"{recorder.url}/console/acme")


def test_live_shows_states_and_decisions_as_they_fall(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "/acme")
    expect(pane.locator(".connection")).to_have_text("live")
    recorder.post(click("s_now", user="u_now"), click("s_now", user="u_now"))
    row = pane.locator("[data-session=s_now]")
    expect(row).to_contain_text("thinking")
    [decided] = recorder.post(click("s_now", user="u_now"))
    fell = pane.locator(f"[data-decision='{decided['decision_id']}']")
    expect(fell).to_contain_text("offered")
    expect(fell).to_contain_text("Saves one by one")
    expect(row.locator(".pill")).to_have_text("proactive")
    expect(row.locator(".pill")).to_have_text("thinking", timeout=6_000)  # nobody answered within a second
    fell.locator("a.cover").click()
    expect(pane).to_have_url(re.compile(rf"/decisions/{decided['decision_id']}$"))


def test_a_refused_stream_is_opened_anew(pane: Page, recorder: Recorder) -> None:
    """After a refusal a browser gives up by itself."""
    pane.route("**/live", lambda route: route.fulfill(status=503, body=""), times=1)
    open_at(pane, recorder, "/acme")
    expect(pane.locator(".connection")).to_have_text("reconnecting …")
    expect(pane.locator(".connection")).to_have_text("live")


def test_the_slider_takes_the_whole_page_to_a_version(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "/acme/sessions/s_mia?version=3")
    then = pane.locator(".as-of")
    expect(then).to_contain_text("As of version 3")
    expect(then).to_contain_text("2 of 3")  # one more save would have fired it
    expect(pane.locator(".window li")).to_have_count(3)
    expect(pane.locator(".event.chosen .version")).to_have_text("3")
    slider(pane).focus()
    pane.keyboard.press("ArrowRight")
    expect(then).to_contain_text("As of version 4")
    expect(then.locator(".verdicts .pill").first).to_have_text("offered")
    expect(pane.locator(".window li")).to_have_count(4)
    pane.keyboard.press("j")
    expect(then).to_contain_text("As of version 5")
    expect(then.locator(".facts .pill").first).to_have_text("proactive")
    assert "version=5" in pane.url
    pane.reload()
    expect(then).to_contain_text("As of version 5")
    pane.locator(".event", has_text="Started the tour").click()
    expect(then).to_contain_text("bulk-tour")
    shown = int(slider(pane).input_value())
    pane.keyboard.press("k")
    expect(slider(pane)).to_have_value(str(shown - 1))
    pane.get_by_role("button", name="Zoom in").click()
    pane.get_by_role("button", name="Fit").click()


def test_the_strip_draws_states_marks_tours_and_cooldown(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "/acme/sessions/s_mia")
    expect(pane.locator(".lane-cooling").first).to_be_attached(
        timeout=8_000
    )  # a second after the last answer
    for name in ("band-thinking", "band-proactive", "mark-action", "mark-offer", "mark-goal", "lane-tour"):
        assert pane.locator(f".tape .{name}").count() >= 1, name
    label = pane.locator(".tape").get_attribute("aria-label")
    assert label is not None and "offered" in label
    box = pane.locator(".tape-room").bounding_box()
    assert box is not None
    pane.mouse.click(box["x"] + 12, box["y"] + 70)  # where the first events stand
    expect(pane.locator(".event.chosen .sentence")).to_contain_text("Clicked")


def test_verdicts_of_a_version_lead_to_why_not_at_that_instant(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "/acme/sessions/s_mia?version=3")
    pane.locator(".verdicts li", has_text="Saves one by one").get_by_role("link", name="Why not?").click()
    expect(pane.locator(".verdict-head h1")).to_contain_text("2 of 3")
    at = recorder.get("sessions/s_mia", version=3)["at"]
    assert f"at={quote(at, safe='')}" in pane.url
    expect(pane.locator(".would li").first).to_contain_text("more")
    expect(pane.locator(".node:not(.group) .verdict.false")).to_have_count(1)


def test_a_decision_is_explained_from_its_sentence_to_its_goal(pane: Page, recorder: Recorder) -> None:
    decision = offer(recorder)
    told = recorder.get(f"decisions/{decision['decision_id']}")
    open_at(pane, recorder, f"/acme/decisions/{decision['decision_id']}")
    expect(pane.locator(".verdict-head h1")).to_have_text(told["summary"])
    expect(pane.locator(".verdict-head")).to_contain_text("the same bytes again")
    expect(pane.locator(".node")).to_have_count(3)
    expect(pane.locator(".gates li")).to_have_count(len(told["gates"]))
    expect(pane.locator(".gates .closed")).to_have_count(0)
    steps = pane.locator(".trace .step").all_inner_texts()
    assert steps == [step["step"] for step in told["trace"]]
    assert {"event", "offer", "shown", "goal"} <= set(steps)
    expect(pane.locator(".tape .rings circle")).to_have_count(3)
    page_leaf = pane.locator(".node", has_text="current page")
    page_leaf.get_by_role("button", name="1 event").focus()
    expect(pane.locator(".tape .rings circle")).to_have_count(1)
    href = pane.get_by_role("link", name="JSON").get_attribute("href")
    assert recorder.http.get(str(href)).json()["summary"] == told["summary"]


def test_the_first_closed_gate_is_marked(pane: Page, recorder: Recorder) -> None:
    recorder.post(*(click("s_gate", user="u_gate") for _ in range(3)))
    recorder.post(click("s_gate", user="u_gate"))
    withheld = recorder.get("decisions", session_id="s_gate", outcome="withheld")["decisions"][-1]
    open_at(pane, recorder, "/acme/decisions?session_id=s_gate&outcome=withheld")
    pane.locator(f"[data-decision='{withheld['decision_id']}'] a.cover").click()
    marked = pane.locator(".gates .first")
    expect(marked).to_have_count(1)
    expect(marked).to_contain_text("closed: state proactive assistance")


def test_why_not_by_user_session_trigger_and_time(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "/acme/why-not")
    expect(pane.locator("main")).to_contain_text("Silence can be asked about")
    pane.get_by_label("User", exact=True).fill("u_2")
    pane.keyboard.press("Enter")
    pane.locator(".chips a", has_text="s_close").click()
    expect(pane.locator(".verdict-head h1")).to_contain_text("2 of 3")
    pane.get_by_label("Trigger").select_option("many")
    expect(pane.locator(".verdict-head")).to_contain_text("many")
    assert "trigger_id=many" in pane.url
    pane.get_by_label("Trigger").select_option("saves")
    first = recorder.get("sessions/s_close/timeline")["from"]
    field = pane.get_by_label("Time, UTC")
    field.fill("yesterday")
    field.press("Enter")
    assert pane.evaluate("document.querySelector('.instant').validity.valid") is False
    field.fill(first[:19].replace("T", " "))  # the second began before the session did
    field.press("Enter")
    expect(pane).to_have_url(re.compile(r"at=\d{4}-"))
    expect(pane.locator(".answer")).not_to_contain_text("2 of 3")
    pane.get_by_role("slider", name="Time").press("End")
    expect(pane.locator(".verdict-head h1")).to_contain_text("2 of 3")
    pane.get_by_role("button", name="Now").click()
    expect(pane.locator(".verdict-head h1")).to_contain_text("2 of 3")
    pane.reload()
    expect(pane.locator(".verdict-head h1")).to_contain_text("2 of 3")


def test_a_support_question_goes_from_the_user_to_a_trigger_that_is_gone(
    pane: Page, recorder: Recorder
) -> None:
    gone = json.loads(json.dumps(CONFIG)) | {"product_id": "moved"}
    recorder.put(gone)
    recorder.post(click("s_old", user="u_old"), product="moved")
    recorder.put(gone | {"triggers": [CONFIG["triggers"][1]]})
    open_at(pane, recorder, "/moved")
    pane.keyboard.press("/")
    pane.keyboard.type("u_old")
    pane.keyboard.press("Enter")
    pane.locator(".head a", has_text="Why not?").click()
    pane.locator(".chips a", has_text="s_old").click()
    trigger = pane.get_by_label("Trigger")
    expect(trigger.locator("option")).to_have_text(["many", "Saves one by one, no longer in force (saves)"])
    trigger.select_option("saves")
    expect(pane.locator(".verdict-head h1")).to_contain_text("Not offered")


def test_what_was_known_then_stands_beside_what_is_known_now(pane: Page, recorder: Recorder) -> None:
    then = recorder.get("sessions/s_late")["at"]
    happened = recorder.get("sessions/s_late/timeline")["entries"][-1]["occurred_at"]
    recorder.post(click("s_late", user="u_3", occurred_at=happened))
    open_at(pane, recorder, f"/acme/why-not?session_id=s_late&trigger_id=saves&at={then}")
    beside = pane.locator(".then-now")
    expect(beside).to_contain_text("Known then")
    expect(beside.locator("> div").first).to_contain_text("silent")
    expect(beside.locator("> div").last.locator(".verdict.false")).to_have_count(0)


def test_triggers_have_figures_and_plots_that_the_keyboard_reads(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "/acme/triggers?last=1h")
    told = recorder.get("triggers")["triggers"][0]
    card = pane.locator("#trigger-saves")
    numbers = values(card.locator(".bars").first)
    assert numbers[0] == told["offered"] and numbers[-1] == told["goal"] == 1
    plot = card.get_by_role("group", name="Offered and withheld over time")
    plot.focus()
    tip = card.locator(".plot-box output")
    expect(tip).to_contain_text(re.compile(r"offered \d+, withheld \d+"))
    pane.keyboard.press("Home")
    expect(tip).to_contain_text("offered")
    card.get_by_text("As a table").click()
    expect(card.locator(".numbers td.num").first).to_be_visible()
    cells = card.locator(".numbers td.num").all_inner_texts()
    assert sum(map(int, cells[::2])) == told["offered"]
    pane.get_by_role("button", name="24 hours").click()
    expect(pane).to_have_url(re.compile("last=24h"))


def test_two_revisions_stand_side_by_side(pane: Page, recorder: Recorder) -> None:
    before = recorder.put(CONFIG | {"product_id": "demo-two"})
    changed = json.loads(json.dumps(CONFIG)) | {"product_id": "demo-two"}
    changed["triggers"][0]["criteria"]["conditions"][1]["at_least"] = 4
    after = recorder.put(changed)
    open_at(pane, recorder, "/demo-two/revisions")
    assert pane.locator("tr.gone code").all_inner_texts()[0].strip() == "at_least: 3"
    assert pane.locator("tr.come code").all_inner_texts()[0].strip() == "at_least: 4"
    assert f"left={before}" in pane.url and f"right={after}" in pane.url
    folded = pane.locator(".fold button").first
    hidden = int(folded.inner_text().split()[0])
    shown = pane.locator(".diff tr.same").count()
    folded.click()
    assert pane.locator(".diff tr.same").count() == shown + hidden


def test_a_backtest_from_a_mistake_to_its_explanations(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "/acme/backtests")
    text = pane.get_by_label("Candidate config")
    expect(pane.locator(".validity")).to_contain_text("the same as the config in force")
    right = text.input_value()
    assert yaml.safe_load(right) == CONFIG
    text.fill(right.replace("type: current_page", "type: curent_page"))
    fault = pane.locator(".faults .path")
    expect(fault).to_have_text("triggers[0].criteria.conditions[0].type")
    expect(pane.get_by_role("button", name="Run the backtest")).to_be_disabled()
    line = right[: right.index("type: current_page")].count("\n") + 1
    expect(pane.locator(".gutter .wrong")).to_have_text(str(line))
    fault.click()
    chosen = "document.activeElement.value.slice(document.activeElement.selectionStart).split('\\n')[0]"
    assert "curent_page" in pane.evaluate(chosen)
    text.fill(right.replace("at_least: 3", "at_least: 2"))
    expect(pane.locator(".validity")).to_contain_text("not in force")
    pane.get_by_role("button", name="1 hour").click()
    pane.get_by_role("button", name="Run the backtest").click()
    expect(pane.locator("#job-status")).to_have_text("done", timeout=20_000)
    job = pane.url.rsplit("/", 1)[1]
    result = recorder.get(f"backtests/{job}")["result"]
    assert result["candidate"]["offered"] > result["in_force"]["offered"] > 0
    totals = values(pane.locator(".bars").first.locator("li").last)
    assert totals == [result[side]["offered"] for side in ("candidate", "in_force")]
    pane.reload()
    row = pane.locator("tr", has=pane.get_by_role("link", name="s_close", exact=True))
    expect(row).to_contain_text("nothing")
    row.get_by_role("link", name="saves").click()
    expect(pane.locator(".simulated")).to_contain_text("The strip shows what really happened")
    expect(pane.locator(".verdict-head h1")).to_contain_text("Offered")
    expect(pane.locator(".node")).to_have_count(3)
    open_at(pane, recorder, "/acme/backtests")
    pane.locator(".job-row a").first.click()
    expect(pane).to_have_url(re.compile(f"/backtests/{job}$"))


def test_a_running_backtest_shows_progress_and_can_be_cancelled(pane: Page, recorder: Recorder) -> None:
    """The job is played, since a real one over these few events is done before anybody could look."""
    request = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "config_digest": "0123456789ab"}
    request |= {"from_position": 1, "to_position": 100, "engine_version": "1-a", "in_force_revision": "r1-a"}
    job = {"backtest_id": "bt-1", "status": "running", "request": request, "created_at": request["to"]}
    job |= {"progress": {"done": 25, "total": 100, "fraction": 0.25}, "result": None, "finished_at": None}

    def cancel(route: Route) -> None:
        job["status"] = "cancelled"
        route.fulfill(json=job)

    pane.route("**/v1/products/acme/backtests/bt-1", lambda route: route.fulfill(json=job))
    pane.route("**/v1/products/acme/backtests/bt-1/cancel", cancel)
    open_at(pane, recorder, "/acme/backtests/bt-1")
    bar = pane.get_by_role("progressbar")
    assert bar.evaluate("(bar) => bar.value") == 0.25
    expect(pane.locator("main")).to_contain_text("25 of 100 events")
    pane.get_by_role("button", name="Cancel").click()
    expect(pane.locator("#job-status")).to_have_text("cancelled")
    expect(bar).to_have_count(0)


def test_what_users_send_is_shown_as_text_and_never_run(pane: Page, recorder: Recorder) -> None:
    decision = recorder.get("decisions", product="evil")["decisions"][0]["decision_id"]
    part = quote(PERSON, safe="")
    paths = ["", "/sessions", f"/sessions/{part}", f"/sessions?user_id={part}", f"/decisions/{decision}"]
    paths += ["/triggers", "/revisions", "/backtests", f"/why-not?user_id={part}"]
    paths += [f"/why-not?session_id={part}&trigger_id=evil", f"/search?q={part}", f"/sessions/{part}%2Fno"]
    for path in paths:
        open_at(pane, recorder, f"/evil{path}")
        assert pane.evaluate("window.hacked") is None, path
        assert pane.locator("main img, main script").count() == 0, path
    open_at(pane, recorder, f"/evil/sessions/{part}")
    expect(pane.locator(".event", has_text="<img src=x onerror").first).to_be_visible()


def test_markup_is_refused_by_the_policy_itself(pane: Page, recorder: Recorder) -> None:
    """Should a later change ever write markup, the browser stops it."""
    open_at(pane, recorder, "/acme")
    attempt = """() => { try { document.body.innerHTML = '<b>x</b>'; return 'written' }
      catch (error) { return error.name } }"""
    other = pane.context.new_page()  # its complaint is wanted
    other.goto(f"{recorder.url}/console/acme")
    assert other.evaluate(attempt) == "TypeError"


def test_the_keyboard_goes_everywhere(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "/acme")
    pane.keyboard.press("?")
    expect(pane.get_by_role("dialog", name="Keys")).to_be_visible()
    pane.keyboard.press("Escape")
    expect(pane.get_by_role("dialog")).to_have_count(0)
    pane.keyboard.press("g")
    pane.keyboard.press("s")
    expect(pane).to_have_url(f"{recorder.url}/console/acme/sessions")
    expect(pane.locator("[data-item]").first).to_be_visible()
    pane.keyboard.press("j")
    pane.keyboard.press("j")
    second = pane.locator("[data-item]").nth(1)
    expect(second).to_be_focused()
    assert second.evaluate("(link) => getComputedStyle(link.closest('.row')).outlineStyle") == "solid"
    pane.keyboard.press("k")
    pane.keyboard.press("Enter")
    expect(pane).to_have_url(re.compile("/sessions/.+"))
    pane.keyboard.press("/")
    expect(pane.locator("#search")).to_be_focused()
    pane.keyboard.type("s_close")
    pane.keyboard.press("Enter")
    expect(pane).to_have_url(f"{recorder.url}/console/acme/sessions/s_close")
    pane.keyboard.press("/")
    pane.keyboard.press("Escape")
    expect(pane.locator("#search")).not_to_be_focused()
    pane.go_back()
    expect(pane).to_have_url(re.compile("/sessions/.+"))


def test_search_tells_sessions_users_and_decisions_apart(pane: Page, recorder: Recorder) -> None:
    for asked, landed in (
        ("u_2", "/acme/sessions?user_id=u_2"),
        (offer(recorder)["decision_id"], f"/acme/decisions/{offer(recorder)['decision_id']}"),
    ):
        open_at(pane, recorder, f"/acme/search?q={asked}")
        expect(pane).to_have_url(f"{recorder.url}/console{landed}")
    open_at(pane, recorder, "/acme/search?q=nobody")
    expect(pane.locator("h1")).to_have_text("Nothing has this id")


def test_errors_are_said_in_words_with_what_was_asked(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "/acme/sessions/unheard-of")
    expect(pane.locator("[role=alert]")).to_contain_text("no session 'unheard-of'")
    expect(pane.locator("[role=alert] code")).to_contain_text("/sessions/unheard-of/timeline")
    open_at(pane, recorder, "/nobody")
    expect(pane.locator("[role=alert]")).to_contain_text("no product 'nobody'")
    open_at(pane, recorder, "/acme/why-not?session_id=s_close&trigger_id=saves&at=noon")
    expect(pane.locator("[role=alert]")).to_contain_text("at")
    open_at(pane, recorder, "/acme/what/is/this")
    expect(pane.locator("h1")).to_have_text("There is no such page")


CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    canvas.fillStyle = style.getPropertyValue(name).trim();
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
      .map((v) => (v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  return PAIRS.map(([one, two]) => {
    const [high, low] = [light(one), light(two)].sort((a, b) => b - a);
    return [one, two, (high + .05) / (low + .05)];
  });
}"""
TEXTS = [
    *(("--ink", ground) for ground in ("--ground", "--paper", "--tint")),
    *(("--soft", ground) for ground in ("--ground", "--paper", "--tint")),
    *(("--accent", ground) for ground in ("--ground", "--paper")),
    *(("--good", "--paper"), ("--bad", "--paper"), ("--ink", "--thinking"), ("--ink", "--proactive")),
    *((f"--on-{name}", f"--{name}") for name in ("accent", "needle", "thinking", "proactive", "reactive")),
    ("--on-withheld", "--withheld-tint"),
]
SHAPES = [
    ("--needle", "--paper"),
    ("--withheld", "--paper"),
    ("--series-2", "--paper"),
    ("--focus", "--paper"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_reaches_wcag_aa(pane: Page, recorder: Recorder, scheme: Any) -> None:
    """4.5 to 1 for text, 3 to 1 for marks and the focus ring."""
    pane.emulate_media(color_scheme=scheme)
    open_at(pane, recorder, "")
    for pairs, least in ((TEXTS, 4.5), (SHAPES, 3.0)):
        for one, two, ratio in pane.evaluate(CONTRAST.replace("PAIRS", json.dumps(pairs))):
            assert ratio >= least, (scheme, one, two, round(ratio, 2))


def test_a_chosen_theme_outlives_the_page_and_only_it_is_kept(pane: Page, recorder: Recorder) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    pane.emulate_media(color_scheme="light")
    open_at(pane, recorder, "/acme")
    light = pane.evaluate(ground)
    pane.get_by_role("button", name="Theme: as the system").click()
    pane.keyboard.press("d")
    assert pane.evaluate(ground) != light
    expect(pane.get_by_role("button", name="Theme: dark")).to_be_visible()
    pane.reload()
    settled(pane)
    assert pane.evaluate(ground) != light
    kept = pane.evaluate("[JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie]")
    assert kept == ['{"nudgeledger.theme":"dark"}', "{}", ""]


SHOWS = """(version) => {
  const told = document.querySelector(".as-of")?.textContent.includes(`As of version ${version} `);
  return told && document.querySelector(".event.chosen .version").textContent === String(version);
}"""


def test_a_session_of_two_thousand_events_is_quick(pane: Page, recorder: Recorder) -> None:
    """No `expect` here: where one must wait, it describes the whole page first, which takes seconds."""

    def shows(version: int) -> None:
        pane.wait_for_function(SHOWS, arg=version)

    open_at(pane, recorder, "/acme")
    started = time.monotonic()
    open_at(pane, recorder, "/acme/sessions/s_big")
    shows(BIG)
    row, height = pane.locator(".event.chosen").bounding_box(), pane.evaluate("innerHeight")
    assert row is not None and 0 < row["y"] < height
    assert time.monotonic() - started < 5.0
    assert pane.locator(".event").count() == BIG
    steps = """() => { const range = document.getElementById("version"); const started = performance.now();
      for (let n = 1; n <= 50; n += 1) { range.value = n * 30; range.dispatchEvent(new Event("input")); }
      document.body.getBoundingClientRect(); return (performance.now() - started) / 50; }"""
    assert pane.evaluate(steps) < 50  # milliseconds a step, drawing included
    shows(1500)


def test_an_open_session_grows_with_its_events(pane: Page, recorder: Recorder) -> None:
    recorder.post(click("s_grows", user="u_g"))
    open_at(pane, recorder, "/acme/sessions/s_grows")
    expect(slider(pane)).to_have_value("1")
    recorder.post(click("s_grows", "Second", "u_g"))
    expect(slider(pane)).to_have_value("2")
    slider(pane).focus()
    pane.keyboard.press("Home")
    recorder.post(click("s_grows", "Third", "u_g"))
    expect(pane.locator(".fresh-note")).to_contain_text("2 newer events")
    expect(slider(pane)).to_have_value("1")  # who looks at the past is left there


YAML_CASES: list[Any] = [
    {"a": "yes", "b": "No", "c": "~", "d": "1", "e": "1e-7", "f": "22:00", "g": "", "h": " x ", "i": "x: y"},
    {"a": [1, 2.5, -3, 1e-7, 1e21, True, None], "b": [], "c": {}, "d": [[1, [2]], [{}]], "e": [{"a": []}]},
    {"lines": "one\n  two\n\nthree\n", "end": "a\nb", "ends": "a\n\n", "tab": "a\tb\nc", "lead": "\na"},
    {
        "flow": [{"id": "x?", "label": "Can I, undo: that?"}, {"id": "#no", "label": "a } b"}],
        "key: x": {"- y": 1},
    },
    {
        "odd": [
            "\u2028",
            "\x85",
            "\u202e",
            "😀",
            "ß",
            "Ünï",
            "\ufeff",
            "é\u2029\n",
            "\x7f",
            "- x",
            "? y",
            "a #b",
        ]
    },
    {
        "deep": [
            {"where": {"title_contains": ["bulk edit", "apply to"]}, "more": [{"x": [{"y": {"z": "w\nv"}}]}]}
        ]
    },
]


def test_configs_survive_the_way_through_yaml(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "")
    script = "async (config) => (await import('/console-files/yaml.js')).yaml(config)"
    for case in [CONFIG, *YAML_CASES]:
        assert yaml.safe_load(pane.evaluate(script, case)) == case


def test_faults_are_found_in_yaml_and_in_json(pane: Page, recorder: Recorder) -> None:
    open_at(pane, recorder, "")
    script = "async ([text, path]) => (await import('/console-files/locate.js')).lineOf(text, path)"
    text = "a: 1\ntriggers:\n- id: x\n  where: {title: y}\n- id: y\n  criteria:\n    all:\n      - type: z\n"
    cases = {"a": 0, "triggers[0].id": 2, "triggers[0].where.title": 3, "triggers[1]": 4}
    cases |= {"triggers[1].criteria.all[0].type": 7, "triggers[1].gone": 4, "line 3, column 1": 2}
    for path, line in cases.items():
        assert pane.evaluate(script, [text, path]) == line, path
    config = {"a": {"b": [1, {"c": "x]"}, [{"d": 2}]]}, "e": 3}
    pretty = json.dumps(config, indent=1)
    for path, key in (("a.b[1].c", '"c"'), ("a.b[2][0].d", '"d"'), ("e", '"e"'), ("a.b[1].c.no", '"c"')):
        line = pretty[: pretty.index(key)].count("\n")
        assert pane.evaluate(script, [pretty, path]) == line, path


def test_files_are_sent_once_and_only_known_ones(recorder: Recorder) -> None:
    page = recorder.http.get("/console/acme/sessions/a%2Fb?version=3")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    named = {
        name for file in console.FILES.values() for name in re.findall(rb'"\./([\w-]+\.js)"', file.plain)
    }
    linked = set(re.findall(rb"/console-files/([\w.-]+)", page.content))
    assert {name.decode() for name in named | linked} | {console.INDEX} == set(console.FILES)
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    for name in console.FILES:
        got = recorder.http.get(f"/console-files/{name}")
        assert got.headers["content-type"].startswith(types[name[name.rindex(".") :]])
        assert got.headers["cache-control"] == "no-cache" and got.content == console.FILES[name].plain
        again = recorder.http.get(f"/console-files/{name}", headers={"if-none-match": got.headers["etag"]})
        assert again.status_code == 304 and not again.content
    for name in ("__init__.py", "nothing.js", "..%2F..%2Fapp.py", "%2e%2e%2fcli.py"):
        assert recorder.http.get(f"/console-files/{name}").status_code == 404


def test_the_live_stream_comes_back_after_the_service_did(pane: Page, recorder: Recorder) -> None:
    """Last, because it kills the service."""
    open_at(pane, recorder, "/acme")
    lamp = pane.locator(".connection")
    expect(lamp).to_have_text("live")
    recorder.service.kill()
    expect(lamp).to_have_text("reconnecting …")
    recorder.service.start()
    recorder.post(*(click("s_missed", user="u_missed") for _ in range(3)))  # nobody listens yet
    expect(lamp).to_have_text("live", timeout=20_000)
    expect(pane.locator(".feed")).to_contain_text("s_missed")
    recorder.post(click("s_after", user="u_after"))
    expect(pane.locator("[data-session=s_after]")).to_be_visible()
