"""A quick reply chosen: option resolved, click recorded, tour resolved and started, guidance told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.chat import options
from api.chat.nudges import Nudge
from domain import config_parse
from domain.errors import NotFound
from eventstore.engine import Ledger
from tests.api import inside
from tests.api.serving import Server, action, config, fact, product_id, saves, trigger
from tests.conftest import Run

OPTIONS = [
    {"id": "show", "label": " Show me HOW ", "user_tour_exists": True, "user_tour_id": "flow_1"},
    {"id": "wild", "label": "Another tour", "user_tour_exists": True, "user_tour_id": "flow_of_somebody"},
    {"id": "no", "label": "No thanks"},
]
TOURS = [
    {
        "id": "bulk-tour",
        "user_tour_id": "flow_1",
        "page_contains": "/projects",
        "interaction_timeout_s": 50,
        "cooldown_period_s": 7,
    },
    {"id": "chip", "user_tour_id": "flow_chip"},
]


@pytest.fixture
def server(one_server: Server) -> Server:
    return one_server


@pytest.fixture
def offered(server: Server) -> Iterator[tuple[Server, str, str]]:
    """A server, a product, and a nudge that is on in session `s`."""
    product = product_id()
    server.put(config(product, triggers=[trigger(options=OPTIONS)], tours=TOURS))
    (decision,) = server.post(product, *saves("s"))["decisions"]
    yield server, product, decision["nudge_id"]


def choose(server: Server, product: str, nudge: str, **body: Any) -> Any:
    return server.http.post(f"/v1/products/{product}/nudges/{nudge}/options", json=body)


def kinds(server: Server, product: str, session: str = "s") -> list[str]:
    return [
        e["type"] for e in server.events(product, session) if e["type"] not in ("action", "nudge_withheld")
    ]


def test_an_option_with_a_tour_starts_it_under_its_own_timeouts(offered: tuple[Server, str, str]) -> None:
    server, product, nudge = offered
    with server.stream(f"/p/{product}/guidance/stream/s", wait=False) as frames:
        assert frames.next().event == "ready"
        assert frames.next().event == "guidance_offer"
        answer = choose(server, product, nudge, option_id="show")
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "status": "ok",
            "option_id": "show",
            "tour": {"id": "bulk-tour", "flow_id": "flow_1"},
        }
        start = frames.next()
        assert start.event == "guidance_start"
        said = json.loads(start.data)
        assert said.keys() == {
            "type",
            "session_id",
            "message",
            "target",
            "tour_id",
            "reason",
            "created_at",
        }
        assert (said["type"], said["tour_id"], said["message"]) == (
            "guidance_start",
            "bulk-tour",
            "Try bulk edit?",
        )
    assert kinds(server, product) == ["nudge_offered", "option_clicked", "tour_started"]
    started = next(e for e in server.events(product, "s") if e["type"] == "tour_started")
    assert started["data"]["registry_id"] == "bulk-tour"
    assert started["correlation_id"] == nudge
    now = server.session(product, "s")
    assert now["active_tour_id"] == "bulk-tour"
    assert now["current_state"] == "proactive_assistance"
    assert now["open_nudge_id"] is None
    assert _seconds(now["timeout_due_at"], started["at"]) == 50
    why = server.get(f"/v1/products/{product}/decisions/{nudge}")
    assert [r["type"] for r in why["responses"]][:2] == ["option_clicked", "tour_started"]


def test_the_label_says_it_too_and_a_running_tour_is_not_started_again(
    offered: tuple[Server, str, str],
) -> None:
    server, product, nudge = offered
    for text in ("show me how", "  SHOW ME how"):
        answer = choose(server, product, nudge, text=text).json()
        assert (answer["option_id"], answer["tour"]["flow_id"]) == ("show", "flow_1")
    assert kinds(server, product).count("tour_started") == 1
    assert kinds(server, product).count("option_clicked") == 2


def test_a_choice_told_again_under_its_id_changes_nothing(offered: tuple[Server, str, str]) -> None:
    server, product, nudge = offered
    for _ in range(3):
        assert choose(server, product, nudge, option_id="show", event_id="tap-1").status_code == 200
    assert kinds(server, product) == ["nudge_offered", "option_clicked", "tour_started"]


def test_an_option_without_a_tour_starts_none(offered: tuple[Server, str, str]) -> None:
    server, product, nudge = offered
    assert choose(server, product, nudge, text="No thanks").json()["tour"] is None
    assert kinds(server, product) == ["nudge_offered", "option_clicked"]


def test_a_flow_that_no_registry_knows_is_started_by_its_own_id(offered: tuple[Server, str, str]) -> None:
    server, product, nudge = offered
    answer = choose(server, product, nudge, option_id="wild").json()
    assert answer["tour"] == {"id": "flow_of_somebody", "flow_id": "flow_of_somebody"}
    assert server.session(product, "s")["active_tour_id"] == "flow_of_somebody"


def test_what_is_unknown_is_refused_and_named_rightly(offered: tuple[Server, str, str]) -> None:
    server, product, nudge = offered
    before = kinds(server, product)
    unknown = choose(server, product, nudge, option_id="maybe<script>")
    assert unknown.status_code == 404
    assert "show, wild, no" in unknown.json()["detail"]
    assert "script" not in unknown.text
    assert choose(server, product, "no-such-nudge", option_id="show").status_code == 404
    assert choose(server, "no-such-product", nudge, option_id="show").status_code == 404
    assert choose(server, product, nudge).status_code == 400
    assert choose(server, product, nudge, text="x" * 5_000).status_code == 400
    assert choose(server, product, nudge, option_id=7).status_code == 400
    assert kinds(server, product) == before


def test_other_tours_started_by_hosts_are_not_told_as_guidance(offered: tuple[Server, str, str]) -> None:
    """What a host or a vendor reports runs already: telling it would start it twice."""
    server, product, _ = offered
    with server.stream(f"/p/{product}/guidance/stream/s", wait=False) as frames:
        assert frames.next().event == "ready"
        assert frames.next().event == "guidance_offer"
        server.post(product, fact("tour_started", "s", tour_id="bulk-tour"))
        assert frames.next().event == "heartbeat"


def test_another_process_tells_a_start_as_well(postgres_server: Server, launch: Any) -> None:
    """Two servers on one PostgreSQL: one takes the tap, the other holds the stream."""
    product = product_id()
    postgres_server.put(config(product, triggers=[trigger(options=OPTIONS)], tours=TOURS))
    other = launch(postgres_server.database_url, keep_alive_s="0.5")
    other.get(f"/v1/products/{product}/config")
    with other.stream(f"/p/{product}/guidance/stream/s", wait=False) as frames:
        assert frames.next().event == "ready"
        (decision,) = postgres_server.post(product, *saves("s"))["decisions"]
        choose(postgres_server, product, decision["nudge_id"], option_id="show")
        seen = _until(frames, "guidance_start")
    assert seen.count("guidance_offer") == 1


def test_by_session_alone_the_newest_nudge_is_meant(ledger: Ledger, run: Run) -> None:
    """As a chat that knows only its conversation asks: the session's nudge, by text or by id."""

    async def story() -> None:
        async with inside.serving(ledger) as service:
            await service.put_config("acme", config("acme", triggers=[trigger(options=OPTIONS)], tours=TOURS))
            await inside.post(service, "acme", *saves("s"))
            chosen = await options.choose(service, "acme", "s", text="no THANKS", source="intercom")
            assert (chosen.option_id, chosen.tour, chosen.recorded) == ("no", None, True)
            with pytest.raises(NotFound):
                await options.choose(service, "acme", "another", text="no thanks")
            with pytest.raises(NotFound):
                await options.choose(
                    service, "acme", "another", nudge_id=chosen.nudge.nudge_id, option_id="no"
                )
            await inside.post(service, "acme", action("another", user="u_2"))
            rows = await inside.stored(ledger, "acme")
            assert [r.source for r in rows if r.type == "option_clicked"] == ["intercom"]

    run(story())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    ids=st.lists(st.sampled_from(["a", "b", "c", "chip", "bulk-tour", "flow_1"]), unique=True, max_size=3),
    labels=st.lists(st.sampled_from(["Yes", "yes ", "No", "b", "ﬀ"]), min_size=3, max_size=3),
    option_id=st.none() | st.sampled_from(["a", "b", "flow_1", "nothing"]),
    text=st.none() | st.sampled_from(["YES", " b", "FF", "nothing"]),
)
def test_an_id_wins_over_a_text_and_nothing_is_guessed(
    ids: list[str], labels: list[str], option_id: str | None, text: str | None
) -> None:
    """Law: whatever is found has the id, or no option has it and the label is the text."""
    nudge = _nudge([{"id": i, "label": label} for i, label in zip(ids, labels, strict=False)])
    try:
        found = options._option(nudge, option_id, text)
    except NotFound:
        assert option_id not in ids
        return
    if option_id in ids:
        assert found["id"] == option_id
    else:
        said = {s.strip().casefold() for s in (option_id, text) if s is not None}
        assert found["label"].strip().casefold() in said


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ({"id": "x", "user_tour_exists": True, "user_tour_id": "bulk-tour"}, ("bulk-tour", "flow_1")),
        ({"id": "x", "user_tour_exists": True, "user_tour_id": "flow_chip"}, ("chip", "flow_chip")),
        ({"id": "chip"}, ("chip", "flow_chip")),
        ({"id": "x", "user_tour_exists": True, "user_tour_id": None}, ("offered", "flow_o")),
        ({"id": "x"}, None),
        ({"id": "x", "user_tour_exists": True, "user_tour_id": "strange"}, ("strange", "strange")),
    ],
)
def test_which_tour_an_option_starts(option: dict[str, Any], wanted: tuple[str, str] | None) -> None:
    parsed = config_parse.parse(config("acme", tours=TOURS))
    assert options.tour_of(option, _nudge([option]), parsed) == wanted


def _nudge(listed: list[dict[str, Any]]) -> Nudge:
    message = {"body": "?", "tours": [{"id": "offered", "flow_id": "flow_o"}], "options": listed}
    return Nudge("n", "s", "u", "t", 1, 1, 2, None, None, message, "why")


def _until(frames: Any, kind: str) -> list[str]:
    seen: list[str] = []
    while not seen or seen[-1] != kind:
        assert len(seen) < 20, seen
        seen.append(frames.next().event)
    return seen


def _seconds(later: str, earlier: str) -> float:
    import datetime as dt

    def parse(value: str) -> dt.datetime:
        return dt.datetime.fromisoformat(value.replace("Z", "+00:00"))

    return round((parse(later) - parse(earlier)).total_seconds(), 3)
