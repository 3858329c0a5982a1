"""Poison events: named, set aside, the rest goes on; tried again by a rebuild after the fix."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from api.metrics import Figures
from domain import codec, events, session, user
from domain.envelope import OUTSIDE, Recorded
from domain.instants import SECOND
from domain.session import Fact, SessionState
from domain.user import UserState
from eventstore.engine import Ledger
from projections import facts, inline, lookups, poison, rederive, tables
from projections.rebuilding import rebuild
from tests.api.inside import START, FakeClock, post, serving, stored
from tests.api.serving import action, config, fact, saves
from tests.conftest import Run

PRODUCT = "acme"
NOW = START + 3600 * SECOND
SECRET = "what the user wrote"


def row(version: int, kind: str = "action", data: bytes = b'{"type":"click","title":"Save"}') -> Recorded:
    at = START + version
    head = (version, PRODUCT, version, "session-s", version, kind, 1, OUTSIDE, f"e{version}", at, at, at)
    return Recorded(
        *head, None, None, False, "b", None, None, "host", None, "1-x", data, None, None, b"", b""
    )


# --- folds ---------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["good", "unreadable", "unknown"]), max_size=12))
def test_a_fold_skips_what_it_cannot_apply_and_names_it(kinds: list[str]) -> None:
    """The state is that of the good events, at the version of the last, whatever stands between."""
    rows = []
    for version, kind in enumerate(kinds, 1):
        made = {
            "good": row(version),
            "unreadable": row(version, data=b"{"),
            "unknown": row(version, "no_such"),
        }
        rows.append(made[kind])
    state, poisoned = facts.folded_session(SessionState("s"), rows)
    bad = [version for version, kind in enumerate(kinds, 1) if kind != "good"]
    assert [(p.projection, p.version, p.stream) for p in poisoned] == [
        ("sessions", v, "session-s") for v in bad
    ]
    assert state.version == len(kinds)
    assert state.last_event_at == (START + len(kinds) if kinds else 0)
    assert [a.version for a in state.actions] == [v for v in range(1, len(kinds) + 1) if v not in bad]
    assert len(state.anomalies) == min(len(bad), 10)
    who, of_user = facts.folded_user(UserState("u"), rows)
    assert (who.version, [p.version for p in of_user]) == (len(kinds), bad)
    assert {p.projection for p in of_user} <= {"users"}


@given(st.integers(0, 8), st.integers(0, 8))
def test_a_fold_in_parts_skips_the_same(cut: int, bad: int) -> None:
    rows = [
        row(version, data=b"[]" if version == bad else b'{"type":"a","title":"t"}') for version in range(1, 9)
    ]
    whole, poisoned = facts.folded_session(SessionState("s"), rows)
    first, before = facts.folded_session(SessionState("s"), rows[:cut])
    both, after = facts.folded_session(first, rows[cut:])
    assert (both, before + after) == (whole, poisoned)


def test_what_is_noted_of_an_error_is_its_type_and_place_and_no_value() -> None:
    (found,) = facts.folded_session(SessionState("s"), [row(1, data=f'"{SECRET}"'.encode())])[1]
    assert SECRET not in found.error
    assert " in " in found.error and ", line " in found.error


# --- a running service ---------------------------------------------------------------------------


def broken(kind: type[events.Event]) -> Any:
    """An `evolve` that fails over one kind of event."""
    real = session.evolve

    def evolve(state: SessionState, fact: Fact) -> SessionState:
        if isinstance(fact.event, kind):
            raise KeyError(SECRET)
        return real(state, fact)

    return evolve


async def noted(ledger: Ledger) -> list[tuple[Any, ...]]:
    async with ledger.reader() as conn:
        rows = await poison.listed(conn)
    assert not any(SECRET in r["error"] for r in rows)
    return [(r["projection"], r["product"], r["stream"], r["type"], r["position"]) for r in rows]


def position(rows: list[Recorded], kind: str, stream: str) -> int:
    return next(r.position for r in rows if (r.type, r.stream) == (kind, stream))


def test_a_session_with_a_poison_event_loads_without_it_and_goes_on(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config(PRODUCT, config(PRODUCT))
            await post(service, PRODUCT, fact("reaction", "s", value="up"), action("s"))
        before = await stored(ledger, PRODUCT)
        bad = position(before, "reaction", "session-s")
        expected = [("sessions", PRODUCT, "session-s", "reaction", bad)]
        with monkeypatch.context() as planted:
            planted.setattr(session, "evolve", broken(events.Reaction))
            async with serving(ledger, FakeClock(START + SECOND)) as service:
                receipt = await post(service, PRODUCT, *saves("s", count=2), action("other"))
                assert receipt.accepted == 3 and len(receipt.decisions) == 1  # with the action before it
                assert service.recorder.counted["poisoned"] == 1
                figures = {m.name: m.samples[0].value for m in Figures(service).collect() if m.samples}
                assert figures["nudgeledger_poison_events"] == 1
                (decided,) = receipt.decisions
                for told in (
                    await service.decision(PRODUCT, decided["decision_id"]),
                    await service.why_not(PRODUCT, "s", "saves", None),
                    await service.why_not(PRODUCT, "s", "saves", START + SECOND // 2),
                ):
                    (cause,) = [c for c in told["causes"] if c["cause"] == "poisoned"]
                    assert cause["event_ids"] == [lost.event_id for lost in before if lost.position == bad]
                other = await service.why_not(PRODUCT, "other", "saves", None)
                assert "poisoned" not in [c["cause"] for c in other["causes"]]
            rows = [r for r in await stored(ledger, PRODUCT) if r.stream == "session-s"]
            assert lookups.session_of("s", rows).version == len(rows)
            report = await rebuild.rebuild(ledger, now=NOW)
            assert await noted(ledger) == expected
            assert [(p.projection, p.position) for p in report.poisoned] == [("sessions", bad)]
            assert report.healed == [] and report.changes == []
        report = await rebuild.rebuild(ledger, now=NOW, dry_run=True)
        assert [p.position for p in report.healed] == [bad] and await noted(ledger) == expected
        assert [p.position for p in (await rebuild.rebuild(ledger, ["nudges"], now=NOW)).healed] == []
        report = await rebuild.rebuild(ledger, now=NOW)
        assert [p.position for p in report.healed] == [bad] and report.poisoned == []
        assert await noted(ledger) == []

    run(story())


def test_a_fact_over_which_a_fold_fails_is_stored_and_named_and_its_neighbours_count(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        monkeypatch.setattr(session, "evolve", broken(events.Reaction))
        real = user.evolve
        monkeypatch.setattr(
            user, "evolve", lambda s, f: 1 / 0 if isinstance(f.event, events.GoalReached) else real(s, f)
        )
        async with serving(ledger, FakeClock()) as service:
            await service.put_config(PRODUCT, config(PRODUCT))
            goal = {k: v for k, v in fact("goal_reached", "", goal_id="g").items() if k != "session_id"}
            receipt = await post(service, PRODUCT, *saves("s"), fact("reaction", "s", value="up"), goal)
            assert receipt.accepted == 5 and len(receipt.decisions) == 1
            again = await post(service, PRODUCT, action("s"), fact("reaction", "s", value="up"))
            assert again.accepted == 2
            assert service.recorder.counted["poisoned"] == 3
        rows = await stored(ledger, PRODUCT)
        bad = [r for r in rows if r.type in ("reaction", "goal_reached")]
        projection = {"reaction": "sessions", "goal_reached": "users"}
        assert await noted(ledger) == [
            (projection[r.type], PRODUCT, r.stream, r.type, r.position) for r in bad
        ]
        assert len(bad) == 3
        assert (await rebuild.rebuild(ledger, now=NOW)).changes == []  # it skips the same
        monkeypatch.undo()
        report = await rebuild.rebuild(ledger, now=NOW)
        assert len(report.healed) == 3 and await noted(ledger) == []

    run(story())


@pytest.mark.parametrize(
    ("projection", "kind"),
    [("decisions", "nudge_offered"), ("nudges", "nudge_shown"), ("sessions", None)],
)
def test_a_row_that_cannot_be_made_costs_no_fact_and_no_other_row(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, projection: str, kind: str | None
) -> None:
    def failing(real: Any) -> Any:
        def writes_of(item: inline.Written) -> Any:
            if item.row.type == kind:
                raise ValueError(SECRET)
            return real(item)

        return writes_of

    def fails(*_: Any) -> Any:
        raise ValueError(SECRET)

    async def story() -> None:
        with monkeypatch.context() as planted:
            async with serving(ledger, FakeClock()) as service:
                await service.put_config(PRODUCT, config(PRODUCT))
                await post(service, PRODUCT, action("s"))
                if kind is None:
                    planted.setattr(inline, "session_row", fails)
                else:
                    writers = [(n, failing(real) if n == projection else real) for n, real in inline.WRITERS]
                    planted.setattr(inline, "WRITERS", writers)
                await post(service, PRODUCT, *saves("s"))
                nudge = (await service.session(PRODUCT, "s"))["open_nudge_id"]
                shown = fact("nudge_shown", "s", nudge_id=nudge, tab_id="t")
                assert (await post(service, PRODUCT, shown)).accepted == 1
                assert service.recorder.counted["poisoned"] >= 1
            rows = await stored(ledger, PRODUCT)
            found = await noted(ledger)
            assert {f[0] for f in found} == {projection}
            if kind is not None:
                assert [f[3:] for f in found] == [(kind, position(rows, kind, "session-s"))]
            async with ledger.reader() as conn:
                row = await lookups.nudge(conn, PRODUCT, nudge)
                decided = await conn.scalar(sa.select(sa.func.count()).select_from(tables.decisions))
            assert row is not None
            assert (row["shown_tab"] is None) == (projection == "nudges")
            assert (decided == len([r for r in rows if r.type in rederive.DECISIONS])) == (
                projection != "decisions"
            )
            report = await rebuild.rebuild(ledger, now=NOW, dry_run=True)
            assert {p.projection for p in report.poisoned} == {projection} and report.healed == []
        report = await rebuild.rebuild(ledger, now=NOW, restart=True)
        assert report.poisoned == [] and {p.position for p in report.healed} >= {f[4] for f in found}
        assert {(c.projection, c.session_id) for c in report.changes} == {(projection, "s")}
        assert await noted(ledger) == []
        assert len(await stored(ledger, PRODUCT)) == len(rows)

    run(story())


def test_an_event_that_a_rebuild_cannot_read_is_named_and_the_others_are_repaired(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with serving(ledger, FakeClock()) as service:
            await service.put_config(PRODUCT, config(PRODUCT))
            await post(service, PRODUCT, *saves("s"))
            await post(service, PRODUCT, *saves("t", "u_2"))
        rows = await stored(ledger, PRODUCT)
        bad = position(rows, "nudge_offered", "session-s")
        real = codec.decode

        def decode(kind: str, *rest: Any) -> events.Event:
            if kind == "nudge_offered" and rest[1]["trigger_id"] and rest[1]["user_id"] == "u_1":
                raise TypeError(SECRET)
            return real(kind, *rest)

        monkeypatch.setattr(codec, "decode", decode)
        async with ledger.transaction() as conn:
            await conn.execute(sa.delete(tables.nudges))
        report = await rebuild.rebuild(ledger, now=NOW)
        assert [(p.projection, p.position) for p in report.poisoned] == [
            ("decisions", bad), ("deliveries", bad), ("nudges", bad), ("sessions", bad)
        ]  # fmt: skip
        assert {(c.session_id, c.projection, c.kind) for c in report.changes} == {
            ("s", "sessions", "changed"), ("s", "decisions", "removed"), ("t", "nudges", "added")
        }  # fmt: skip
        monkeypatch.undo()
        report = await rebuild.rebuild(ledger, now=NOW)
        assert [p.position for p in report.healed] == [bad] * 4
        assert (await rebuild.rebuild(ledger, now=NOW, dry_run=True)).changes == []

    run(story())
