"""The quick way to fold a session's rows says what the plain one says."""

from __future__ import annotations

from typing import NamedTuple

import orjson
from hypothesis import given
from hypothesis import strategies as st

from domain import codec, events, session
from domain.session import SessionState
from projections import facts


class Row(NamedTuple):
    """As much of a recorded event as a fold reads."""

    version: int
    type: str
    at: int
    occurred_at: int
    data: bytes
    event_id: str
    position: int = 1
    product: str = "acme"
    stream: str = "session-s"
    schema_version: int = 1
    origin: str = "outside"
    recorded_at: int = 0
    sealed: bytes | None = None
    key_id: str | None = None


URLS = st.sampled_from([None, "https://app/a", "https://app/b"])
ACTIONS = st.builds(
    lambda kind, title, url: events.Action(kind, title, canonical_url=url, properties={"sealed": True}),
    st.sampled_from(["click", "pageview", "pageleave"]),
    st.sampled_from(["Save", "Edit", "Öffnen"]),
    URLS,
)
OTHERS = st.sampled_from(
    [
        events.ChatMessage("user", "hello"),
        events.NudgeDismissed("n"),
        events.TourStarted("t"),
        events.ActionRelabelled("e2", "l-1", title="Save changes", canonical_url="https://app/c"),
        events.GoalReached("g"),
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    at = 1_000_000
    for version in range(1, draw(st.integers(1, 25)) + 1):
        event: events.Event = draw(st.one_of(ACTIONS, ACTIONS, OTHERS))
        at += draw(st.integers(0, 3_000_000))
        happened = at - draw(st.sampled_from([0, 0, 1, 5_000_000]))  # some come late, so out of order
        user = draw(st.sampled_from([{}, {"user_id": ""}, {"user_id": "u1"}, {"user_id": "u2"}]))
        data = orjson.dumps({**user, **codec.encode(event)[0]})
        rows.append(Row(version, event.TYPE, at, happened, data, f"e{version}"))
    return rows


@given(streams(), st.integers(0, 25))
def test_rows_fold_to_what_their_facts_fold_to_also_in_two_goes(rows: list[Row], cut: int) -> None:
    plain = session.fold(SessionState("s"), facts.facts(rows))
    begun, _ = facts.folded_session(SessionState("s"), rows[:cut])
    whole, poisoned = facts.folded_session(begun, rows[cut:])
    assert whole == plain
    assert not poisoned
