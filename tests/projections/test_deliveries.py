"""The table of deliveries: a row for each offer and called channel, moved on by the nudge's own stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from domain import codec, events, nudge, session
from domain.envelope import ENGINE, NewEvent
from domain.nudge import NudgeState
from domain.session import Fact
from eventstore import reader
from eventstore.appender import append_events
from eventstore.engine import Ledger
from projections import facts, inline, tables
from projections.inline import Written
from projections.rebuilding import rebuild, refill
from tests.conftest import Run

T = 1_800_000_000_000_000
CHANNELS = ("webhook", "rasa")


def attempted(channel: str, attempt: int) -> events.DeliveryAttempted:
    return events.DeliveryAttempted(channel, attempt, T + 100)


STEPS: Sequence[events.Engine] = [
    *(attempted(channel, n) for channel in CHANNELS for n in (1, 2)),
    *(events.NudgeDelivered(channel, None, n) for channel in CHANNELS for n in (1, 2)),
    *(
        events.DeliveryFailed(channel, n, "e", 500, at)
        for channel in CHANNELS
        for n in (0, 1)
        for at in (None, 9)
    ),
    *(events.DeliveryUnknown(channel, 1, "e", at) for channel in CHANNELS for at in (None, 9)),
    events.NudgeDelivered("toast", 2),
    events.NudgeClosed("dismissed", "s", "u"),
]


def offered(*channels: str) -> events.NudgeOffered:
    message = {"body": "Hi", "tours": [], "options": [], "channels": list(channels)}
    return events.NudgeOffered("t", "u", T, T + 600, session.DEFAULT_TIMINGS, message, {"summary": "s"})


def event(number: int, stream: str, value: events.Engine) -> NewEvent:
    clear, _ = codec.encode(value)
    head = ("acme", stream, value.TYPE, value.VERSION, ENGINE, f"e{number}", T, T, T, None, None, False)
    return NewEvent(*head, "b", None, None, "engine", "r1", "1-x", orjson.dumps(clear), None, None)


async def write(ledger: Ledger, told: Sequence[tuple[str, events.Engine]], together: bool) -> None:
    """Append the events with their rows: in one group, or one by one."""
    new = [event(number, stream, value) for number, (stream, value) in enumerate(told)]
    rows = await append_events(ledger, "acme", new)
    written = [Written(row, facts.fact(row).event) for row in rows]
    for group in [written] if together else [[each] for each in written]:
        async with ledger.transaction() as conn:
            await inline.apply(conn, inline.changes(group, ()))


async def table(ledger: Ledger) -> list[dict[str, Any]]:
    t = tables.deliveries
    async with ledger.reader() as conn:
        found = await conn.execute(sa.select(t).order_by(t.c.nudge_id, t.c.channel))
        return [dict(row) for row in found.mappings()]


def test_an_offer_makes_a_row_for_each_channel_that_is_called(ledger: Ledger, run: Run) -> None:
    told = [("session-s", offered("toast", "webhook", "rasa", "rasa")), ("session-s", offered("toast"))]
    run(write(ledger, told, True))
    rows = run(table(ledger))
    assert [(r["channel"], r["status"], r["attempt"], r["next_at"]) for r in rows] == [
        ("rasa", "due", 0, T),
        ("webhook", "due", 0, T),
    ]
    assert all(
        (r["nudge_id"], r["session_id"], r["user_id"], r["expires_at"]) == ("e0", "s", "u", T + 600)
        for r in rows
    )


@given(st.lists(st.sampled_from(STEPS), max_size=8), st.integers(0, 8))
def test_the_fold_is_final_once_and_attempts_never_become_fewer(steps: list[events.Engine], cut: int) -> None:
    """Fold of the whole is fold of the rest onto the fold of a part; what is final stays as it is, unless a
    user asks for what surely did not arrive."""
    told = [Fact(n, T, T, f"e{n}", None, step) for n, step in enumerate(steps, 1)]
    state = NudgeState("n")
    for fact in told:
        before, state = state, nudge.evolve(state, fact)
        assert state.version == before.version + 1
        for channel in CHANNELS:
            was, now = before.standing(channel), state.standing(channel)
            assert now.attempt >= was.attempt
            asked = isinstance(fact.event, events.DeliveryAttempted) and was.status in nudge.AGAIN
            assert was.status in nudge.OPEN or asked or was == now
            assert (now.next_at is None) or now.status in nudge.OPEN
    assert nudge.fold(nudge.fold(NudgeState("n"), told[:cut]), told[cut:]) == state


@pytest.mark.parametrize("together", [True, False])
def test_the_rows_are_what_the_fold_says_whatever_the_grouping_and_a_rebuild_finds_the_same(
    ledger: Ledger, run: Run, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every history of two steps, each on a nudge of its own; the order inside a group must not get lost."""
    told: list[tuple[str, events.Engine]] = []
    histories = [(one, two) for one in STEPS for two in STEPS]
    for number in range(len(histories)):
        told.append(("session-s", offered(*CHANNELS)))
        told += [(f"nudge-e{number * 3}", step) for step in histories[number]]
    run(write(ledger, told, together))
    rows = run(table(ledger))
    assert len(rows) == 2 * len(histories)

    async def states() -> dict[str, NudgeState]:
        async with ledger.reader() as conn:
            streams = [("acme", f"nudge-e{number * 3}") for number in range(len(histories))]
            found = await reader.read_streams(conn, streams)
        return {
            stream[6:]: facts.folded_nudge(NudgeState(stream[6:]), r)[0] for (_, stream), r in found.items()
        }

    folded = run(states())
    for row in rows:
        standing = folded[row["nudge_id"]].standing(row["channel"])
        expected = standing.next_at if standing.attempt or standing.next_at or standing.status != "due" else T
        assert (row["status"], row["attempt"], row["next_at"]) == (
            standing.status,
            standing.attempt,
            expected,
        )
    monkeypatch.setattr(refill, "BATCH", 50)
    assert run(rebuild.rebuild(ledger, ["deliveries"], now=T)).changes == []


def test_lost_and_wrong_rows_come_back_and_a_rollback_takes_them_away_again(ledger: Ledger, run: Run) -> None:
    story: list[tuple[str, events.Engine]] = [("session-s", offered(*CHANNELS))] * 2
    story += [("nudge-e0", attempted("webhook", 1)), ("nudge-e0", events.NudgeDelivered("webhook", None, 1))]
    story += [("nudge-e1", events.NudgeClosed("answered", "s", "u"))]
    run(write(ledger, story, False))
    right = run(table(ledger))
    assert [r["status"] for r in right] == ["due", "delivered", "dropped", "dropped"]

    async def spoil() -> None:
        t = tables.deliveries
        async with ledger.transaction() as conn:
            await conn.execute(sa.delete(t).where(t.c.nudge_id == "e0", t.c.channel == "webhook"))
            await conn.execute(sa.update(t).where(t.c.nudge_id == "e1").values(status="due", next_at=T))

    run(spoil())
    wrong = run(table(ledger))
    report = run(rebuild.rebuild(ledger, now=T))
    assert sorted((c.projection, c.kind, c.key) for c in report.changes) == [
        ("deliveries", "added", ("acme", "e0", "webhook")),
        ("deliveries", "changed", ("acme", "e1", "rasa")),
        ("deliveries", "changed", ("acme", "e1", "webhook")),
        *((c.projection, c.kind, c.key) for c in report.changes if c.projection != "deliveries"),
    ]
    assert run(table(ledger)) == right
    run(rebuild.roll_back(ledger))
    assert run(table(ledger)) == wrong
