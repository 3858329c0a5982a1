"""Sessions as people read them: the list of them, and one's timeline."""

from __future__ import annotations

import json
import time
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from api import overview
from api.service import Service
from domain import codec, events, session
from domain.envelope import ENGINE, OUTSIDE, Recorded
from domain.instants import SECOND
from domain.run import Stored
from domain.session import Fact, SessionState
from eventstore.engine import Ledger
from projections import facts
from projections.views import narrative, recent, timeline
from projections.views.spans import Span
from projections.views.timeline import Timeline
from tests.api.inside import START, FakeClock, post, serving
from tests.api.serving import Server, action, config, fact, product_id, saves, trigger, until
from tests.conftest import Run
from tests.domain.builders import at, click
from tests.domain.builders import trigger as rule
from tests.domain.given import Given

TIMES: dict[str, Any] = {"session": {"interaction_timeout_s": 20, "cooldown_period_s": 60}}
TOURS = [{"id": "tour", "user_tour_id": "flow", "interaction_timeout_s": 40, "cooldown_period_s": 100}]
CHAT = events.ChatMessage("user", "hello")
APPROVED = Path(__file__).parents[1] / "approved" / "events"


# --- rows, as the ledger would give them back ---------------------------------------------------------


def rows_of(case: Given) -> list[Recorded]:
    """Every event of the case in the order of the ledger."""
    found: list[Recorded] = []
    versions: dict[str, int] = {}
    for turn in case.turns:
        for stored in turn.stored:
            versions[stored.stream] = versions.get(stored.stream, 0) + 1
            found.append(row_of(stored, turn.now, len(found) + 1, versions[stored.stream]))
    return found


def row_of(stored: Stored, now: int, position: int, version: int) -> Recorded:
    clear, personal = codec.encode(stored.event)
    assert set(personal) <= type(stored.event).PERSONAL
    sent = stored.incoming
    return Recorded(
        *(position, "acme", position, stored.stream, version, stored.event.TYPE, stored.event.VERSION),
        *(ENGINE if sent is None else OUTSIDE, stored.event_id, stored.at, max(now, stored.at)),
        stored.at if sent is None else min(sent.occurred_at, stored.at),
        *(None, None, False, "batch", None, None, "host", None, "1"),
        orjson.dumps({"user_id": stored.user_id, **clear} if stored.user_id else clear),
        *(None, None, b"", b""),
    )


def told(case: Given, seconds: float, limit: int = 10_000) -> Timeline:
    """The timeline of the case's session at that instant."""
    rows = rows_of(case)
    own = [row for row in rows if row.stream == "session-s"]
    beside = [row for row in rows if row.stream.startswith("nudge-")]
    return timeline.of("s", own, beside, at(seconds), names=lambda ids: {}, limit=limit)


def holding(spans: list[Span], instant: int) -> str | None:
    """The name of the span that holds the instant."""
    found = [s.name for s in spans if s.start <= instant and (s.end is None or instant < s.end)]
    assert len(found) <= 1, "spans overlap"
    return found[0] if found else None


# --- bands, cooldowns, tours --------------------------------------------------------------------------

MOVES = st.sampled_from(
    [
        click("t"),
        click("other"),
        CHAT,
        events.ChatMessage("assistant", "yes?"),
        events.OptionClicked("a"),
        events.Reaction("up"),
        events.TourStarted("flow"),
        events.TourStarted("unknown"),
        events.TourStep("flow"),
        events.TourEnded("flow", outcome="completed"),
        events.GoalReached("g"),
        None,  # the timers run
    ]
)
GAPS = st.one_of(st.integers(0, 12), st.sampled_from([10, 20, 40, 60, 100, 120]))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Given, float]:
    case = Given(rule("t", interaction_timeout_s=10, cooldown_s=1), tours=TOURS, **TIMES)
    now = 0.0
    case.when(now, draw(MOVES.filter(lambda move: move is not None)))
    for gap, move in draw(st.lists(st.tuples(GAPS, MOVES), max_size=14)):
        now += gap
        if move is None:
            case.timers(now)
        else:
            case.when(now, move)
    return case, now + draw(GAPS)


def instants(case: Given, shown: Timeline, now: int) -> list[int]:
    """Every instant at which something may change, its neighbours, and the middles between."""
    ends = [instant for span in [*shown.bands, *shown.cooldowns, *shown.tours] for instant in span[1:]]
    edges = sorted({stored.at for stored in case.stored} | {end for end in ends if end is not None})
    middles = [(one + other) // 2 for one, other in pairwise(edges)]
    near = {edge + step for edge in edges for step in (-1, 0, 1)}
    return [t for t in sorted(near | set(middles) | {now}) if shown.start <= t <= now]


@settings(max_examples=150, deadline=None)
@given(histories(), st.booleans())
def test_bands_cooldowns_and_tours_say_what_the_folded_session_says(
    history: tuple[Given, float], timers: bool
) -> None:
    """At every instant, also of a stream whose timers never ran. A timeout's own instant apart: it belongs
    to what follows, noticed or not."""
    case, end = history
    kinds = events.TYPES.keys() - (set() if timers else {"interaction_timed_out"})
    rows = [row for row in rows_of(case) if row.stream == "session-s" and row.type in kinds]
    now = at(end)
    shown = timeline.of("s", rows, [], now, names=lambda ids: {}, limit=100)
    known = facts.facts(rows)
    assert shown.bands[0].start == rows[0].at
    assert shown.bands[-1].end is None
    assert shown.bands[-1].name == session.fold(SessionState("s"), known).state_at(now)
    for one, other in pairwise(shown.bands):
        assert one.end == other.start
        assert one.name != other.name
    for instant in instants(case, shown, now):
        state = session.fold(SessionState("s"), [f for f in known if f.at <= instant])
        if instant in (state.timeout_due, state.tour_until()):
            continue
        ticked = state.tick(instant)
        assert holding(shown.bands, instant) == state.state_at(instant)
        assert (holding(shown.cooldowns, instant) is not None) == ticked.cooldown_active(instant)
        running = ticked.active_tour_id if ticked.tour_running(instant) else None
        assert holding(shown.tours, instant) == running


@settings(max_examples=60, deadline=None)
@given(histories())
def test_nothing_that_was_drawn_changes_when_a_timeout_is_noticed(history: tuple[Given, float]) -> None:
    case, end = history
    before = told(case, end)
    case.timers(end)
    assume(not any(isinstance(stored.event, events.NudgeOffered) for stored in case.turns[-1].stored))
    after = told(case, end)
    assert (before.bands, before.cooldowns, before.tours) == (after.bands, after.cooldowns, after.tours)


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(1, 10))
def test_a_page_holds_the_newest_entries_and_the_whole_spans(
    history: tuple[Given, float], limit: int
) -> None:
    case, end = history
    whole, page = told(case, end), told(case, end, limit)
    assert page.entries == whole.entries[-limit:]
    assert page._replace(entries=[]) == whole._replace(entries=[])
    assert [entry["position"] for entry in whole.entries] == sorted(e["position"] for e in whole.entries)


def test_a_timeout_that_nobody_noticed_ends_the_band_at_its_own_instant() -> None:
    shown = told(Given(**TIMES).when(0, CHAT), 50)
    assert shown.bands == [Span("reactive_assistance", at(0), at(20)), Span("thinking", at(20), None)]
    assert shown.cooldowns == [Span("", at(20), at(80))]
    assert shown.end == at(50)  # the cooldown still runs


def test_a_chat_message_ends_the_cooldown() -> None:
    shown = told(Given(**TIMES).when(0, CHAT).when(50, CHAT).when(55, click()), 60)
    assert shown.cooldowns == [Span("", at(20), at(50))]
    assert [span.name for span in shown.bands] == ["reactive_assistance", "thinking", "reactive_assistance"]
    assert shown.bands[2].start == at(50)


def test_a_session_of_plain_actions_thinks_from_its_first_to_its_last() -> None:
    shown = told(Given(**TIMES).when(0, click()).when(30, click()), 500)
    assert shown.bands == [Span("thinking", at(0), None)]
    assert (shown.start, shown.end, shown.cooldowns, shown.tours) == (at(0), at(30), [], [])


def test_a_tour_ends_with_its_end_or_with_its_timeout_and_one_started_again_is_another() -> None:
    case = Given(tours=TOURS, **TIMES).when(0, events.TourStarted("flow")).when(5, events.TourEnded("flow"))
    case.when(10, events.TourStarted("flow")).when(12, events.TourStarted("flow"))
    assert told(case, 30).tours == [
        Span("tour", at(0), at(5)),
        Span("tour", at(10), at(12)),
        Span("tour", at(12), None),
    ]
    assert told(case, 60).tours[2] == Span("tour", at(12), at(52))


# --- entries ------------------------------------------------------------------------------------------


def test_an_entry_says_the_state_after_its_event_and_carries_its_decision() -> None:
    case = Given(rule("t", interaction_timeout_s=10, name="Bulk edit"), **TIMES).when(0, click("t"))
    nudge = case.stored[1].event_id
    case.when(1, events.NudgeShown(nudge)).when(2, events.NudgeDismissed(nudge, by="user")).timers(100)
    shown = told(case, 100)
    offered = case.stored[1].event
    assert isinstance(offered, events.NudgeOffered)
    entries = [entry for entry in shown.entries if entry["kind"] != "withheld"]
    assert [(entry["kind"], entry["state"], entry["text"]) for entry in entries] == [
        ("action", "thinking", "Clicked “t” on /projects"),
        ("offer", "proactive_assistance", offered.explanation["summary"].removesuffix(".")),
        ("shown", "proactive_assistance", "“t” was shown"),
        ("dismissed", "proactive_assistance", "“t” was dismissed"),
        ("other", "proactive_assistance", "“t” was closed: dismissed"),
        (
            *("timeout", "thinking"),
            "Nobody answered for 10 s: thinking again, cooldown until 12:01:10 (noticed 90 s later)",
        ),
    ]
    offer, closed = entries[1], entries[4]
    assert (offer["decision_id"], offer["trigger_id"], offer["nudge_id"]) == (nudge, "t", nudge)
    assert (closed["nudge_id"], closed["reason"], closed["decision_id"]) == (nudge, "dismissed", None)
    assert closed["version"] is None
    assert {entry["late_by_s"] for entry in entries} == {None}  # a timeout noticed late has arrived on time
    assert [e["nudge_id"] for e in entries[2:4]] == [nudge, nudge]
    versions = [e["version"] for e in shown.entries if e["version"] is not None]
    assert versions == list(range(1, len(versions) + 1))
    withheld = next(entry for entry in shown.entries if entry["kind"] == "withheld")
    assert (withheld["trigger_id"], withheld["nudge_id"]) == ("t", None)
    assert withheld["reason"] == "state_proactive_assistance"


SENTENCES = {
    "action": "Clicked “Save changes” on /projects/:id/edit",
    "action_relabelled": "An action’s label was corrected: type “click”, title “Save changes”, description, "
    "page /projects/:id",
    "budget_spent": "A held-out offer of “Bulk edit” was counted",
    "chat_message": "Chat message by the user",
    "config_activated": "Config r3-0123456789ab came into force",
    "conversation_linked": "A new conversation began",
    "delivery_attempted": "“Bulk edit”: attempt 1 by rasa began",
    "delivery_failed": "“Bulk edit”: attempt 2 by webhook failed: the vendor answered 503; the next is due "
    "at 00:00:05Z",
    "delivery_unknown": "“Bulk edit”: whether attempt 1 by rasa arrived cannot be known: the service stopped "
    "during the call; the next is due at 00:00:05Z",
    "engine_activated": "Engine 1-abc decides from here on",
    "evaluation_failed": "The evaluation failed (ZeroDivisionError); the events are stored all the same",
    "goal_reached": "Reached the goal “bulk_edit_used”",
    "interaction_timed_out": "No interaction for 20 s: thinking again, cooldown until 00:01:01",
    "nudge_closed": "“Bulk edit” was closed: superseded",
    "nudge_delivered": "“Bulk edit” was sent to 2 open pages (intercom)",
    "nudge_dismissed": "“Bulk edit” was dismissed",
    "nudge_offered": "Offered “Bulk edit”",
    "nudge_shown": "“Bulk edit” was shown",
    "nudge_withheld": "Held back “Bulk edit”: the session was cooling down after a timeout",
    "option_clicked": "Chose “Yes please”",
    "reaction": "Reacted with “👍”",
    "rejected_input": "Input was refused: 1 mistake",
    "judge_answered": "The judge allowed “Bulk edit”",
    "nudge_proposed": "“Bulk edit” was put to the judge",
    "reply_generated": "The assistant followed up on “Bulk edit” by small-1 "
    "(no answer of the model was used: too late)",
    "summary_generated": "A summary was made of 12 actions",
    "tour_ended": "Completed the tour “projects-bulk-edit”",
    "tour_started": "Started the tour “projects-bulk-edit”",
    "tour_step": "Reached step second of the tour “projects-bulk-edit”",
    "user_identified": "Identified as “u_1”, known until now as “anon_1”",
    "user_linked": "“anon_1” became “u_1”",
}


def test_nobody_answered_is_said_only_of_a_nudge_without_an_answer() -> None:
    case = Given(rule("t", interaction_timeout_s=10), **TIMES).when(0, click("t"))
    case.when(1, events.OptionClicked("a")).timers(30)
    (timeout,) = [entry for entry in told(case, 30).entries if entry["kind"] == "timeout"]
    assert timeout["text"].startswith("No interaction for 20 s: thinking again")


@pytest.mark.parametrize("data", [b"not JSON", b"[]", b"{}"])
def test_an_event_that_cannot_be_read_costs_its_own_line_alone(data: bytes) -> None:
    case = Given(**TIMES).when(0, CHAT).when(5, CHAT).when(6, click())
    rows = [row for row in rows_of(case) if row.stream == "session-s"]
    bad = rows[1]._replace(type="nudge_offered", data=data)
    shown = timeline.of("s", [rows[0], bad, rows[2]], [], at(10), names=lambda ids: {}, limit=10)
    assert [entry["text"] for entry in shown.entries] == [
        "Chat message by the user",
        "Cannot be read",
        "Clicked “Save changes” on /projects",
    ]
    assert shown.bands == [Span("reactive_assistance", at(0), None)]


def _offering(label: str) -> events.NudgeOffered:
    """An offer with one quick reply."""
    message = {"options": [{"id": "chip_1", "label": label}]}
    return events.NudgeOffered("bulk_edit", "u_1", 0, 0, session.DEFAULT_TIMINGS, message, {})


@pytest.mark.parametrize("kind", sorted(events.TYPES))
def test_every_event_type_has_a_sentence_of_its_own_without_anything_personal(kind: str) -> None:
    form = json.loads((APPROVED / f"{kind}.v1.json").read_bytes())
    known = narrative.Known({"bulk_edit": "Bulk edit"}, {"nudge_1": _offering("Yes please")})
    said = set()
    for personal in (None, form["personal"]):
        event = codec.decode(kind, 1, form["clear"], personal)
        told = Fact(1, SECOND, SECOND, "e", "u_1", event)
        said.add(narrative.sentence(told, "nudge-nudge_1", known))
    assert said == {SENTENCES[kind]}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (click("Projects", type="pageview"), "Opened “Projects” at /projects"),
        (click("Projects", "https://app", type="pageleave"), "Left “Projects” at app"),
        (click("Prod DB", None, type="data_source_open"), "Data source open: “Prod DB”"),
        (events.NudgeShown("n"), "The nudge was shown"),
        (events.NudgeDismissed("n", by="timeout"), "The nudge went away unanswered"),
        (events.OptionClicked("chip_9"), "Chose “chip_9”"),
        (events.TourStep("t"), "Reached the next step of the tour “t”"),
        (events.TourEnded("t"), "Ended the tour “t”"),
        (events.UserIdentified(), "Identified as “u”"),
        (events.NudgeDelivered("toast", 1), "The nudge was sent to 1 open page (toast)"),
        (events.NudgeDelivered("rasa", None, 2), "The nudge: delivered by rasa at attempt 2"),
        (events.DeliveryFailed("rasa", 0, "why"), "The nudge: not tried by rasa: why"),
        (events.DeliveryFailed("rasa", 0, "why", None, 5), "The nudge: waiting with rasa: why"),
        (
            events.DeliveryFailed("rasa", 1, "why"),
            "The nudge: attempt 1 by rasa failed: why; there is no other",
        ),
        (
            events.DeliveryUnknown("rasa", 1, "why"),
            (
                "The nudge: whether attempt 1 by rasa arrived cannot be known: why; it is not repeated, so "
                "that nobody gets it twice"
            ),
        ),
        (
            events.InteractionTimedOut("proactive_assistance", 500_000, 0, SECOND),
            "No interaction for 0.5 s: thinking again, no cooldown",
        ),
    ],
)
def test_what_an_event_leaves_out_is_left_out_of_its_sentence(event: events.Event, said: str) -> None:
    known = narrative.Known({}, {})
    assert narrative.sentence(Fact(1, SECOND, SECOND, "e", "u", event), "nudge-n", known) == said


def test_a_quick_reply_is_told_by_its_label_in_the_nudge_that_it_answers() -> None:
    known = narrative.Known({}, {"n1": _offering("Yes"), "n2": _offering("Of course")})
    for nudge_id, label in (("n1", "Yes"), ("n2", "Of course"), (None, "Of course"), ("n3", "chip_1")):
        clicked = Fact(1, SECOND, SECOND, "e", "u", events.OptionClicked("chip_1", nudge_id))
        assert narrative.sentence(clicked, "session-s", known) == f"Chose “{label}”"


# --- over HTTP ----------------------------------------------------------------------------------------


def test_the_timeline_of_a_session_over_http(server: Server, product: str) -> None:
    server.post(product, action("s"))
    (decision,) = server.post(product, *saves("s", count=2))["decisions"]
    server.post(product, fact("chat_message", "s", role="user", text="My secret"))
    path = f"/v1/products/{product}/sessions/s/timeline"
    found = server.get(path)
    assert "secret" not in json.dumps(found)
    last = server.events(product, "s")[-1]["version"]
    assert (found["session_id"], found["user_id"], found["version"]) == ("s", "u_1", last)
    kinds = [entry["kind"] for entry in found["entries"]]
    assert kinds == ["action", "action", "action", "offer", "chat", "other", "withheld"]
    offer = found["entries"][3]
    assert (offer["decision_id"], offer["position"]) == (decision["decision_id"], decision["position"])
    assert offer["text"] == decision["summary"].removesuffix(".")
    assert found["entries"][5]["text"] == "“Saves one by one” was closed: answered"
    assert [band["state"] for band in found["bands"]] == ["thinking", "proactive_assistance"]
    assert found["bands"][0]["from"] == found["from"] == found["entries"][0]["at"]
    assert found["bands"][1] == {
        "state": "proactive_assistance",
        "from": offer["at"],
        "to": None,
    }
    page = server.get(path, limit=2)
    assert page["entries"] == found["entries"][-2:]
    assert page["bands"] == found["bands"]


def test_a_late_arrival_says_how_late_and_a_clock_that_is_off_is_marked(server: Server, product: str) -> None:
    now = time.time()
    server.post(product, action("s", occurred_at=now - 60), action("s", occurred_at=now, sent_at=now - 500))
    first, second = server.get(f"/v1/products/{product}/sessions/s/timeline")["entries"]
    assert 59 < first["late_by_s"] < 70
    assert not first["clock_suspect"]
    assert (second["late_by_s"], second["clock_suspect"]) == (None, True)


def test_sessions_are_listed_newest_first_a_page_at_a_time(server: Server, product: str) -> None:
    names = [f"s{n}" for n in range(7)]
    for name in names:
        server.post(product, action(name, user=f"u_{int(name[1:]) % 2}"))
    server.post(product, action("s2", user="u_0"))
    path, listed, after = f"/v1/products/{product}/sessions", [], None
    for size in (3, 3, 1):
        page = server.get(path, limit=3, **({"after": after} if after else {}))
        assert len(page["sessions"]) == size
        listed += [row["session_id"] for row in page["sessions"]]
        after = page["next"]
    assert after is None
    assert listed == ["s2", "s6", "s5", "s4", "s3", "s1", "s0"]
    mine = server.get(path, user_id="u_0")["sessions"]
    assert [row["session_id"] for row in mine] == ["s2", "s6", "s4", "s0"]
    assert mine[0]["version"] == 2


def test_products_are_listed_with_the_config_in_force(server: Server, product: str) -> None:
    revision = server.get(f"/v1/products/{product}/config")["revision"]
    listed = server.get("/v1/products")["products"]
    assert {"product_id": product, "config_revision": revision} in listed
    assert [row["product_id"] for row in listed] == sorted(row["product_id"] for row in listed)


@pytest.mark.parametrize(
    ("path", "query", "status", "where"),
    [
        ("sessions", {"state": "asleep"}, 422, "state"),
        ("sessions", {"limit": 0}, 422, "limit"),
        ("sessions", {"limit": 201}, 422, "limit"),
        ("sessions", {"after": "%00"}, 422, "after"),
        ("sessions", {"after": "bm9uc2Vuc2U"}, 422, "after"),
        ("sessions", {"after": "WzEsMl0"}, 422, "after"),
        ("sessions", {"after": "é"}, 422, "after"),
        ("sessions/nobody/timeline", {}, 404, None),
        ("sessions/nobody/timeline", {"limit": "many"}, 422, "limit"),
    ],
)
def test_bad_questions_are_refused_with_their_path(
    server: Server, product: str, path: str, query: dict[str, Any], status: int, where: str | None
) -> None:
    answer = server.http.get(f"/v1/products/{product}/{path}", params=query)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [fault["path"] for fault in answer.json().get("errors", [])] == ([where] if where else [])


def test_products_that_do_not_exist_have_no_sessions(server: Server) -> None:
    for path in ("sessions", "sessions/s/timeline", "triggers", "live"):
        assert server.http.get(f"/v1/products/nobody/{path}").status_code == 404


def test_the_new_paths_are_documented(server: Server) -> None:
    documented = server.get("/openapi.json")["paths"]
    base = "/v1/products/{product}"
    for path in ("sessions", "sessions/{session_id}/timeline", "triggers", "live"):
        assert documented[f"{base}/{path}"]["get"]["responses"]["200"]["content"]
    assert documented["/v1/products"]["get"]["responses"]["200"]["content"]


def test_a_session_in_a_tour_with_an_open_offer_says_so(server: Server) -> None:
    product = product_id()
    server.put(config(product, session={"interaction_timeout_s": 60, "cooldown_period_s": 5}))
    (decision,) = server.post(product, *saves("s"))["decisions"]
    path = f"/v1/products/{product}/sessions"
    (row,) = server.get(path)["sessions"]
    session_json = server.session(product, "s")
    assert row["open_nudge_id"] == decision["nudge_id"]
    assert {name: row[name] for name in ("user_id", "version", "current_state", "timeout_due_at")} == {
        name: session_json[name] for name in ("user_id", "version", "current_state", "timeout_due_at")
    }
    server.post(product, fact("tour_started", "s", tour_id="flow_1"))
    (row,) = server.get(path)["sessions"]
    assert (row["open_nudge_id"], row["active_tour_id"]) == (None, "bulk-tour")


# --- in process ---------------------------------------------------------------------------------------

SHORT: dict[str, Any] = {"session": {"interaction_timeout_s": 10, "cooldown_period_s": 30}}


class Unnoticing:
    """Keeps timers from being noticed."""

    def __init__(self, service: Service) -> None:
        service.recorder.on_armed = lambda product, session, due: None


def test_states_are_as_of_now_although_nobody_noticed_the_timeout(ledger: Ledger, run: Run) -> None:
    """The table still says proactive assistance; the list and its filter say what is."""

    async def scenario() -> None:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            Unnoticing(service)
            await service.put_config("acme", config("acme", **SHORT))
            for name in ("a", "b", "c"):
                await post(service, "acme", *saves(name, user=name))
                clock.instant += SECOND
            clock.instant = START + 11 * SECOND + SECOND // 2  # a is over since 10 s, b since 11 s
            ask = recent.Query()
            listed = (await overview.sessions(service, "acme", ask))["sessions"]
            states = [(row["session_id"], row["current_state"]) for row in listed]
            assert states == [("c", "proactive_assistance"), ("b", "thinking"), ("a", "thinking")]
            assert [row["cooldown_until"] is not None for row in listed] == [False, True, True]
            assert [row["timeout_due_at"] is not None for row in listed] == [True, False, False]
            for state, wanted in (
                ("thinking", ["b", "a"]),
                ("proactive_assistance", ["c"]),
                ("reactive_assistance", []),
            ):
                for limit in (1, 2, 50):  # whatever the pages, the same sessions
                    assert await _names(service, recent.Query(state=state, limit=limit)) == wanted
            told = await overview.session_timeline(service, "acme", "a", 100)
            assert [band["state"] for band in told["bands"]] == [
                *("thinking", "proactive_assistance", "thinking"),
            ][-len(told["bands"]) :]
            clock.instant += 60 * SECOND
            listed = (await overview.sessions(service, "acme", ask))["sessions"]
            assert {row["cooldown_until"] for row in listed} == {None}

    run(scenario())


async def _names(service: Service, query: recent.Query) -> list[str]:
    found: list[str] = []
    for _ in count():
        page = await overview.sessions(service, "acme", query)
        found += [row["session_id"] for row in page["sessions"]]
        if page["next"] is None:
            return found
        query = query._replace(after=overview.place_of(page["next"]))
    raise AssertionError


def test_sessions_outside_the_cache_are_read_from_their_streams_and_stay_outside(
    ledger: Ledger, run: Run
) -> None:
    async def scenario() -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config("acme", config("acme"))
            await post(service, "acme", *saves("a"))
            await post(service, "acme", *saves("b", user="u_2"))
        async with serving(ledger, FakeClock(START + SECOND)) as service:
            book = await service.product("acme")
            listed = (await overview.sessions(service, "acme", recent.Query()))["sessions"]
            assert [(row["session_id"], row["current_state"], row["version"]) for row in listed] == [
                ("b", "proactive_assistance", 4),
                ("a", "proactive_assistance", 4),
            ]
            assert len(book.sessions) == 0

    run(scenario())


def test_an_offer_superseded_in_another_session_is_no_longer_open(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            await service.put_config("acme", config("acme", **SHORT))
            await post(service, "acme", *saves("a"))
            clock.instant += 20 * SECOND  # the session's timeout is over, its offer still open
            (decision,) = (await post(service, "acme", *saves("b"))).decisions
            b, a = (await overview.sessions(service, "acme", recent.Query()))["sessions"]
            assert (b["open_nudge_id"], a["open_nudge_id"]) == (decision["nudge_id"], None)

    run(scenario())


def test_names_of_triggers_outlive_their_config(server: Server) -> None:
    product = product_id()
    server.put(config(product))
    server.post(product, *saves("s"))
    until(lambda: server.session(product, "s")["current_state"] == "proactive_assistance")
    server.put(config(product, triggers=[trigger("other")]))
    server.post(product, fact("nudge_dismissed", "s", nudge_id=server.session(product, "s")["open_nudge_id"]))
    entries = server.get(f"/v1/products/{product}/sessions/s/timeline")["entries"]
    assert "“Saves one by one” was dismissed" in [entry["text"] for entry in entries]
