"""The demo page in real Chromium: what a newcomer sees, step by step."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import Service

pytestmark = pytest.mark.browser

ROWS = "#rows tr"


def open_demo(page: Page, url: str) -> None:
    page.goto(f"{url}/demo")
    page.wait_for_function("window.nudgeledger.version && window.nudgeledger.session_id")
    expect(page.locator("#events li:not(.empty)").first).to_be_visible()  # the pageview is in the ledger


def save(page: Page, row: int) -> None:
    page.locator(ROWS).nth(row).get_by_role("button").click()
    page.get_by_role("button", name="Save changes").click()
    expect(page.locator("#editor")).to_be_hidden()


def save_three(page: Page, first: int = 0) -> None:
    for row in range(first, first + 3):
        save(page, row)


def toast(page: Page) -> Locator:
    return page.locator("[data-nudgeledger] .card")


def recorded(page: Page, url: str, session: str | None = None) -> list[dict[str, Any]]:
    """The session's events, once everything queued in the browser is durable."""
    session = session or page.evaluate("window.nudgeledger.flush().then(() => window.nudgeledger.session_id)")
    answer = page.request.get(f"{url}/v1/products/demo/sessions/{session}/events?limit=1000")
    assert answer.ok, answer.text()
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


def of_type(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event["data"] for event in events if event["type"] == name]


def test_the_third_save_brings_a_toast_within_a_second(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    save(page, 0)
    save(page, 1)
    assert toast(page).count() == 0
    save(page, 2)
    saved = time.monotonic()
    toast(page).wait_for(state="visible", timeout=1000)
    assert time.monotonic() - saved < 1.0
    expect(toast(page)).to_contain_text("Bulk edit")
    expect(toast(page).get_by_role("button", name="Show me")).to_be_visible()
    expect(toast(page).get_by_role("button", name="Open chat")).to_be_visible()
    expect(page.locator("#decisions details", has_text="offered")).to_have_count(1)
    expect(page.locator(".machine .on")).to_have_text("proactive")
    page.wait_for_timeout(300)
    shown = of_type(recorded(page, service_url), "nudge_shown")
    assert len(shown) == 1 and shown[0]["tab_id"]


def test_titles_are_labels_and_never_values(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    page.locator(ROWS).nth(0).get_by_role("button").click()
    page.get_by_label("Name").click()
    page.get_by_label("Name").fill("top secret name")
    page.get_by_role("button", name="Save changes").click()
    page.wait_for_timeout(300)
    actions = of_type(recorded(page, service_url), "action")
    titles = [(a["type"], a["title"]) for a in actions]
    assert ("pageview", "Projects · Tidewater") in titles
    assert ("click", "Edit Harbour crane retrofit") in titles
    assert ("click", "Save changes") in titles
    assert ("submit", "Project form") in titles
    assert not any("secret" in title for _, title in titles)
    assert titles.count(("click", "Save changes")) == 1


def test_show_me_goes_through_the_four_steps_and_completes(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    save_three(page)
    toast(page).get_by_role("button", name="Show me").click()
    step = page.locator("#tour .step")
    expect(step).to_have_text("Step 1 of 4")
    expect(toast(page)).to_have_count(0)
    page.get_by_role("button", name="More actions").click()
    expect(step).to_have_text("Step 2 of 4")
    page.get_by_role("menuitem", name="Bulk edit").click()
    expect(step).to_have_text("Step 3 of 4")
    page.get_by_label("Select all projects").check()
    page.get_by_role("button", name="Next").click()
    expect(step).to_have_text("Step 4 of 4")
    page.get_by_role("button", name="Apply to 8 projects").click()
    expect(page.locator("#tour")).to_be_hidden()
    assert page.locator("#rows .pill").all_inner_texts() == ["Finished"] * 8

    page.wait_for_timeout(300)
    events = recorded(page, service_url)
    tour = [e["type"] for e in events if e["type"].startswith("tour_")]
    assert tour == ["tour_started", *["tour_step"] * 4, "tour_ended"]
    assert [str(data["step"]) for data in of_type(events, "tour_step")] == ["1", "2", "3", "4"]
    assert of_type(events, "tour_ended")[0]["outcome"] == "completed"
    assert of_type(events, "tour_started")[0]["tour_id"] == "projects-bulk-edit"


def test_open_chat_asks_the_nudges_question(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    save_three(page)
    toast(page).get_by_role("button", name="Open chat").click()
    expect(page.locator("#chat")).to_be_visible()
    expect(page.locator("#chat-log")).to_contain_text("Open the ⋯ menu")
    expect(toast(page)).to_have_count(0)
    page.wait_for_timeout(300)
    roles = [data["role"] for data in of_type(recorded(page, service_url), "chat_message")]
    assert roles == ["user", "assistant"]


def test_a_quick_reply_answers_the_nudge(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    save_three(page)
    toast(page).get_by_role("button", name="Can I undo that?").click()
    expect(page.locator("#chat-log")).to_contain_text("Undo")
    page.wait_for_timeout(300)
    assert of_type(recorded(page, service_url), "option_clicked")[0]["option_id"] == "can_i_undo"


def test_two_tabs_show_one_toast(context: BrowserContext, service_url: str) -> None:
    first, second = context.new_page(), context.new_page()
    open_demo(first, service_url)
    open_demo(second, service_url)
    both = [first, second]
    assert len({tab.evaluate("nudgeledger.session_id") for tab in both}) == 1
    save_three(second)
    deadline = time.monotonic() + 5
    while sum(toast(tab).count() for tab in both) == 0 and time.monotonic() < deadline:
        first.wait_for_timeout(20)
    most = 0
    for _ in range(20):
        most = max(most, sum(toast(tab).count() for tab in both))
        first.wait_for_timeout(100)
    assert most == 1
    shown = of_type(recorded(first, service_url), "nudge_shown")
    assert len(shown) == 1
    # Dismissed in one tab, it must not move to the other.
    owner = next(tab for tab in both if toast(tab).count())
    toast(owner).get_by_role("button", name="Dismiss").click()
    first.wait_for_timeout(500)
    assert [toast(tab).count() for tab in both] == [0, 0]


def test_a_tab_in_the_back_waits_until_it_is_in_front(page: Page, service_url: str) -> None:
    """Headless Chromium calls every tab visible, so the page is told otherwise."""
    open_demo(page, service_url)
    page.evaluate(
        """() => { window.state = "hidden";
        Object.defineProperty(document, "visibilityState", {get: () => window.state}); }"""
    )
    save_three(page)
    page.wait_for_timeout(800)
    assert toast(page).count() == 0
    page.evaluate("window.state = 'visible'; document.dispatchEvent(new Event('visibilitychange'))")
    expect(toast(page)).to_be_visible()


def test_the_keyboard_reaches_and_dismisses_the_toast(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    save_three(page)
    expect(toast(page)).to_be_visible()
    announced = page.locator("[data-nudgeledger] [role=status]")
    expect(announced).to_contain_text("Updating projects one by one?")
    page.locator("#search").focus()
    page.keyboard.press("Escape")
    expect(toast(page)).to_be_visible()  # Escape elsewhere is the page's own
    page.locator("#search").focus()
    page.keyboard.press("F6")
    focused = "document.querySelector('[data-nudgeledger]').shadowRoot.activeElement?.textContent"
    assert page.evaluate(focused) == "Show me"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Open chat"
    page.keyboard.press("Escape")
    expect(toast(page)).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "search"
    page.wait_for_timeout(300)
    assert of_type(recorded(page, service_url), "nudge_dismissed")[0]["by"] == "user"


def test_the_toast_survives_a_navigation_and_is_reported_once(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    save_three(page)
    expect(toast(page)).to_be_visible()
    page.reload()
    expect(toast(page)).to_be_visible()
    toast(page).get_by_role("button", name="Dismiss").click()
    page.reload()
    page.wait_for_timeout(800)
    assert toast(page).count() == 0
    events = recorded(page, service_url)
    assert len(of_type(events, "nudge_shown")) == 1
    assert [a["type"] for a in of_type(events, "action")].count("pageleave") == 2


def test_navigation_inside_the_page_is_a_pageview(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    page.get_by_role("link", name="Report").click()
    expect(page.get_by_role("heading", name="Report")).to_be_visible()
    page.go_back()
    page.wait_for_timeout(400)
    views = [a for a in of_type(recorded(page, service_url), "action") if a["type"] == "pageview"]
    assert [view["title"].split()[0] for view in views] == ["Projects", "Report", "Projects"]


def test_start_over_begins_another_session_of_another_person(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    ids = "[nudgeledger.session_id, nudgeledger.user_id]"
    before = page.evaluate(ids)
    save_three(page)
    expect(toast(page)).to_be_visible()
    page.get_by_role("button", name="Start over").click()
    expect(toast(page)).to_have_count(0)
    after = page.evaluate(ids)
    assert before[0] != after[0] and before[1] != after[1]
    save_three(page)
    expect(toast(page)).to_be_visible()


def test_identify_names_the_anonymous_past_once(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    anonymous = page.evaluate("nudgeledger.user_id")
    session = page.evaluate("nudgeledger.session_id")
    page.evaluate("nudgeledger.identify('u_ada', {traits: {plan: 'team'}})")
    page.wait_for_timeout(300)
    assert page.evaluate("[nudgeledger.user_id, nudgeledger.session_id]") == ["u_ada", session]
    events = recorded(page, service_url)
    linked = [event for event in events if event["type"] == "user_identified"]
    assert len(linked) == 1 and linked[0]["data"]["previous_id"] == anonymous
    save_three(page)
    expect(toast(page)).to_be_visible()  # the stream followed to the new user


def test_the_panel_explains_the_decision(page: Page, service_url: str) -> None:
    open_demo(page, service_url)
    save_three(page)
    offered = page.locator("#decisions details.offered")
    offered.locator("summary").click()
    expect(offered.locator(".findings")).to_contain_text(re.compile(r"3 \(required >= 3\)"))


def test_light_and_dark_have_readable_contrast(page: Page, service_url: str) -> None:
    """The toast's text and main button reach 4.5 to 1 in both schemes."""
    open_demo(page, service_url)
    save_three(page)
    expect(toast(page)).to_be_visible()
    measure = """() => {
      const root = document.querySelector("[data-nudgeledger]").shadowRoot;
      const light = (text) => {
        const [r, g, b] = text.match(/[\\d.]+/g).map((v) => v / 255)
          .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const card = getComputedStyle(root.querySelector(".card"));
      const main = getComputedStyle(root.querySelector(".main"));
      return [light(card.backgroundColor), ratio(light(card.color), light(card.backgroundColor)),
        ratio(light(main.color), light(main.backgroundColor))];
    }"""
    page.emulate_media(color_scheme="light")
    ground, text, button = page.evaluate(measure)
    assert ground > 0.8 and text > 4.5 and button > 4.5
    page.emulate_media(color_scheme="dark")
    ground, text, button = page.evaluate(measure)
    assert ground < 0.1 and text > 4.5 and button > 4.5


def test_no_motion_where_none_is_wanted(page: Page, service_url: str) -> None:
    page.emulate_media(reduced_motion="reduce")
    open_demo(page, service_url)
    save_three(page)
    expect(toast(page)).to_be_visible()
    assert toast(page).evaluate("(card) => getComputedStyle(card).animationName") == "none"


def test_killed_and_restarted_the_next_nudge_still_arrives(page: Page, service: Service) -> None:
    """Saves made while the service is away wait in the browser, and the stream comes back."""
    open_demo(page, service.url)
    save(page, 0)
    page.wait_for_timeout(300)
    service.kill()
    save(page, 1)
    page.wait_for_timeout(700)
    service.start()
    save(page, 2)
    toast(page).wait_for(state="visible", timeout=15_000)
    clicks = [a for a in of_type(recorded(page, service.url), "action") if a["title"] == "Save changes"]
    assert len(clicks) == 3
