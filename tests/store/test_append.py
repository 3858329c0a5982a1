"""What an append promises: versions, sequences, idempotency, expected versions, groups."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from domain.errors import Unreadable
from eventstore import appender, chain, reader
from eventstore.appender import ANY, Appender, Conflict, Unit, append_events
from eventstore.engine import Ledger
from tests.conftest import Run
from tests.store.given import event


async def everything(ledger: Ledger) -> list[tuple[int, str, int, str, int]]:
    async with ledger.reader() as conn:
        rows = await reader.read_all(conn, limit=100_000)
    return [(r.position, r.product, r.product_seq, r.stream, r.version) for r in rows]


async def append(ledger: Ledger, *units: Unit, after: int | None = None) -> list[appender.Appended]:
    async with ledger.transaction() as conn:
        return await Appender(ledger).append(conn, units, after=after)


def test_positions_sequences_and_versions_have_no_gaps(ledger: Ledger, run: Run) -> None:
    run(append_events(ledger, "acme", [event("session-a"), event("user-u"), event("session-a")]))
    run(append_events(ledger, "other", [event("session-a", product="other")]))
    run(append_events(ledger, "acme", [event("user-u")]))
    assert run(everything(ledger)) == [
        (1, "acme", 1, "session-a", 1),
        (2, "acme", 2, "user-u", 1),
        (3, "acme", 3, "session-a", 2),
        (4, "other", 1, "session-a", 1),
        (5, "acme", 4, "user-u", 2),
    ]


def test_what_is_read_is_what_was_appended(ledger: Ledger, run: Run) -> None:
    full = event(data='{"title": "Größe ✓"}'.encode())._replace(
        clock_suspect=True, sealed=b"\x00\xff", key_id="k", correlation_id="", causation_id="c", sent_raw="1"
    )

    async def scenario() -> None:
        written = await append_events(ledger, "acme", [full, event()])
        async with ledger.reader() as conn:
            by_stream = await reader.read_stream(conn, "acme", "session-a")
            assert by_stream == written
            assert by_stream == await reader.read_all(conn)
            assert by_stream == await reader.read_product(conn, "acme")
            assert by_stream == await reader.read_positions(conn, [1, 2, 3])
        assert chain.without_place(by_stream[0]) == full
        assert [row.clock_suspect for row in by_stream] == [True, False]
        assert all(type(row.clock_suspect) is bool and type(row.data) is bytes for row in by_stream)

    run(scenario())


def test_the_same_request_again_changes_nothing_and_returns_the_original(ledger: Ledger, run: Run) -> None:
    events = [event(), event(), event("user-u")]
    first = run(append_events(ledger, "acme", events))
    assert run(append_events(ledger, "acme", events, {"session-a": 0})) == first
    assert len(run(everything(ledger))) == 3


def test_a_request_that_partly_exists_appends_the_rest(ledger: Ledger, run: Run) -> None:
    old, new = event(), event()
    (first,) = run(append_events(ledger, "acme", [old]))
    again = run(append_events(ledger, "acme", [new, old, new]))
    assert [row.position for row in again] == [2, 1, 2]
    assert again[1] == first
    assert len(run(everything(ledger))) == 2


def test_expected_versions_any_none_and_exact(ledger: Ledger, run: Run) -> None:
    run(append_events(ledger, "acme", [event()], {"session-a": 0}))
    with pytest.raises(Conflict, match="session-a"):
        run(append_events(ledger, "acme", [event()], {"session-a": 0}))
    run(append_events(ledger, "acme", [event()], {"session-a": 1}))
    with pytest.raises(Conflict):
        run(append_events(ledger, "acme", [event()], {"session-a": 3}))
    run(append_events(ledger, "acme", [event()], {"session-a": ANY}))
    run(append_events(ledger, "acme", [event()]))
    assert [row[4] for row in run(everything(ledger))] == [1, 2, 3, 4]


def test_products_and_odd_stream_names_never_touch_each_other(ledger: Ledger, run: Run) -> None:
    """Two products with one session id; a session called `product` beside the product's own stream."""
    for product in ("acme", "other"):
        for stream in ("session-product", "product", "session-session-x", "session-x"):
            new = event(stream, product=product, event_id=f"e-{stream}")
            run(append_events(ledger, product, [new], {stream: 0}))

    async def scenario() -> None:
        async with ledger.reader() as conn:
            for product in ("acme", "other"):
                for stream in ("session-product", "product", "session-session-x", "session-x"):
                    (row,) = await reader.read_stream(conn, product, stream)
                    assert (row.product, row.stream, row.version) == (product, stream, 1)
                rows = await reader.read_product(conn, product)
                assert [row.product_seq for row in rows] == [1, 2, 3, 4]
                assert chain.verify(rows) == []
            names = await reader.stream_names(conn, "acme", "session-")
            assert names == ["session-product", "session-session-x", "session-x"]

    run(scenario())


def test_the_same_id_from_outside_and_engine_are_two_events(ledger: Ledger, run: Run) -> None:
    run(append_events(ledger, "acme", [event(event_id="x"), event(event_id="x", origin="engine")]))
    assert len(run(everything(ledger))) == 2


def test_a_group_keeps_what_can_stand_and_refuses_the_rest_without_a_trace(ledger: Ledger, run: Run) -> None:
    run(append_events(ledger, "acme", [event("session-a"), event("session-b", event_id="taken")]))
    answers = run(
        append(
            ledger,
            Unit("acme", {"session-a": 1, "user-u": 0}, [event("session-a"), event("user-u")]),
            Unit("acme", {"session-b": 0}, [event("session-b"), event("user-v")]),  # moved
            Unit("acme", {"session-a": 2, "user-u": 1}, [event("session-a")]),  # counts the first unit
            Unit("acme", {"user-v": 0}, [event("user-v")]),  # the second would have written it
            Unit("acme", {"user-v": 0}, [event("session-z")]),  # only read it
            Unit("acme", {}, [event("session-c", event_id="taken")]),  # the id exists
            Unit("acme", {"session-z": 0}, []),  # session-z fell with the fifth
            Unit("acme", {"user-u": 1}, []),
            Unit("other", {"session-b": 0}, [event("session-b", product="other")]),
            Unit("acme", {}, [event("session-z")]),  # writes behind what fell, whatever the version
        )
    )
    assert [answer.recorded is not None for answer in answers] == [
        True, False, True, False, False, False, False, True, True, False
    ]  # fmt: skip
    assert answers[1].conflict == {("acme", "session-b")}
    assert answers[3].conflict == {("acme", "user-v")}
    assert answers[5].conflict == {("acme", "taken")}
    assert run(everything(ledger))[2:] == [
        (3, "acme", 3, "session-a", 2),
        (4, "acme", 4, "user-u", 1),
        (5, "acme", 5, "session-a", 3),
        (6, "other", 1, "session-b", 1),
    ]


@pytest.mark.parametrize("others", [0, 1, 3000])
def test_a_promise_about_a_position_is_checked_against_what_came_later(
    ledger: Ledger, run: Run, others: int
) -> None:
    """Also where so much came later that versions and ids are asked for instead of read."""
    run(append_events(ledger, "acme", [event("session-a"), event("session-b")]))
    later = [event("session-b", event_id=f"later-{n}") for n in range(others)]
    if later:
        run(append_events(ledger, "acme", later))
    kept, moved, known = run(
        append(
            ledger,
            Unit("acme", {"session-a": 1, "user-u": ANY}, [event("session-a"), event("user-u")]),
            Unit("acme", {"session-b": 1}, [event("session-b")]),
            Unit("acme", {}, [event("session-c", event_id="later-0")]),
            after=2,
        )
    )
    assert kept.recorded is not None
    assert [row.version for row in kept.recorded] == [2, 1]
    assert (moved.recorded is None, known.recorded is None) == (others > 0, others > 0)
    assert moved.conflict == ({("acme", "session-b")} if others else set())
    assert known.conflict == ({("acme", "later-0")} if others else set())


def test_one_appender_goes_on_after_a_rollback_and_after_another_writer(ledger: Ledger, run: Run) -> None:
    """What it remembers of the head is dropped when it no longer holds."""
    ours = Appender(ledger)

    async def ours_append(*, fail: bool = False) -> None:
        async with ledger.transaction() as conn:
            await ours.append(conn, [Unit("acme", {}, [event(), event("user-u", kind="new_type")])])
            if fail:
                raise RuntimeError

    async def scenario() -> None:
        await ours_append()
        with pytest.raises(RuntimeError):
            await ours_append(fail=True)
        await append_events(ledger, "acme", [event(), event("user-u")])  # as many as were rolled back
        await ours_append()
        async with ledger.reader() as conn:
            rows = await reader.read_product(conn, "acme")
            assert [row.position for row in rows] == [1, 2, 3, 4, 5, 6]
            assert chain.verify(rows) == []

    run(scenario())


def test_a_unit_that_holds_an_id_twice_or_another_products_event_is_a_defect(
    ledger: Ledger, run: Run
) -> None:
    twice = event()
    for wrong in ([twice, twice], [event(product="other")]):
        with pytest.raises(ValueError):
            run(append(ledger, Unit("acme", {}, wrong)))
    assert run(everything(ledger)) == []


def test_many_streams_are_read_at_once(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        rows = await append_events(ledger, "acme", [event("session-a"), event("user-u"), event("session-a")])
        async with ledger.reader() as conn:
            keys = [("acme", "user-u"), ("acme", "session-a"), ("other", "session-a")]
            assert await reader.read_streams(conn, keys) == {
                ("acme", "user-u"): [rows[1]],
                ("acme", "session-a"): [rows[0], rows[2]],
                ("other", "session-a"): [],
            }
            assert await reader.versions(conn, keys) == dict(zip(keys, (1, 2, 0), strict=True))
            assert await reader.find_ids(conn, "acme", "outside", ["none", rows[1].event_id]) == {
                rows[1].event_id: rows[1]
            }
            assert await reader.find_ids(conn, "acme", "engine", [rows[1].event_id]) == {}
            assert await reader.read_stream(conn, "acme", "session-a", after_version=1) == [rows[2]]
            assert await reader.read_stream(conn, "acme", "session-a", up_to=1) == [rows[0]]
            assert await reader.read_stream(conn, "acme", "session-a", limit=1) == [rows[0]]
            assert await reader.read_all(conn, after=1, up_to=2) == [rows[1]]
            assert await reader.head(conn) == 3

    run(scenario())


def test_start_up_refuses_a_type_or_version_it_cannot_read(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        await append_events(
            ledger, "acme", [event(), event(kind="from_the_future")._replace(schema_version=7)]
        )
        async with ledger.reader() as conn:
            await reader.check_readable(conn, {("action", 1), ("from_the_future", 7), ("unused", 1)})
            with pytest.raises(Unreadable, match=r"from_the_future version 7$"):
                await reader.check_readable(conn, {("action", 1), ("from_the_future", 6)})

    run(scenario())


CHANGES = [
    "UPDATE events SET data = data WHERE position = 1",
    "DELETE FROM events WHERE position = 1",
    "DELETE FROM events",
    "INSERT INTO events SELECT * FROM events WHERE true ON CONFLICT (position) DO UPDATE SET data = '{}'",
]
OWN_CHANGES = {
    "sqlite": ["INSERT OR REPLACE INTO events SELECT * FROM events", "UPDATE OR IGNORE events SET at = 0"],
    "postgresql": ["TRUNCATE events", "TRUNCATE events CASCADE"],
}


def test_the_database_itself_refuses_to_change_events(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        rows = await append_events(ledger, "acme", [event(), event()])
        for statement in CHANGES + OWN_CHANGES[ledger.dialect]:
            with pytest.raises(sa.exc.DBAPIError, match="events are never changed"):
                async with ledger.transaction() as conn:
                    await conn.exec_driver_sql(statement)
        async with ledger.reader() as conn:
            assert await reader.read_all(conn) == rows

    run(scenario())


def test_readers_cannot_write(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        with pytest.raises(sa.exc.DBAPIError, match=r"readonly|read-only"):
            async with ledger.reader() as conn:
                await conn.exec_driver_sql("INSERT INTO products (product) VALUES ('acme')")

    run(scenario())
