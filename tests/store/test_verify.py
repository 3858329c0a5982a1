"""The check of the ledger: whoever changes history behind the service's back is found out, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.envelope import Recorded
from eventstore import chain, signing, statements, verifying
from eventstore.appender import append_events
from eventstore.engine import Ledger
from eventstore.signing import Head
from eventstore.verifying import Broken, Sound
from tests.conftest import Run
from tests.store.given import event

N = 12  # events of acme, in three sessions


async def fill(ledger: Ledger) -> None:
    """Two products, their events in turns."""
    for n in range(N):
        await append_events(ledger, "acme", [event(f"session-{n % 3}", at=1_000 + n)])
        if n % 4 == 0:
            await append_events(ledger, "other", [event("user-1", product="other", at=1_000 + n)])


async def tamper(ledger: Ledger, *changes: str) -> None:
    """Change the ledger as somebody with the database's password would."""
    async with ledger.transaction() as conn:
        if ledger.dialect == "sqlite":
            triggers = await statements.fetch(conn, "SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in triggers:
                await statements.execute(conn, f'DROP TRIGGER "{name}"')
        else:
            await statements.execute(conn, "ALTER TABLE events DISABLE TRIGGER ALL")
        for change in changes:
            await statements.execute(conn, change)


async def check(ledger: Ledger, product: str = "acme") -> Sound | Broken:
    async with ledger.reader() as conn:
        return await verifying.verify_product(conn, product, await verifying.begin(conn))


async def sound(ledger: Ledger) -> Sound:
    result = await check(ledger)
    assert isinstance(result, Sound), result
    return result


async def broken(ledger: Ledger, product: str = "acme") -> Broken:
    result = await check(ledger, product)
    assert isinstance(result, Broken), result
    return result


async def head_of(ledger: Ledger) -> Head:
    async with ledger.reader() as conn:
        return await verifying.newest(conn, "acme")


def seq(n: int) -> str:
    return f"product = 'acme' AND product_seq = {n}"


def hex_bytes(ledger: Ledger, value: bytes) -> str:
    return f"x'{value.hex()}'" if ledger.dialect == "sqlite" else f"'\\x{value.hex()}'::bytea"


def test_a_ledger_that_nobody_touched_holds(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    result = run(sound(ledger))
    assert (result.events, result.chain_hash) == (N, run(head_of(ledger)).chain_hash)
    assert isinstance(run(check(ledger, "other")), Sound)


def test_a_flipped_byte_of_data_is_found_at_its_event(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    run(
        tamper(
            ledger,
            f"UPDATE events SET data = {hex_bytes(ledger, b'{ ')} WHERE {seq(5)}",
        )
    )
    found = run(broken(ledger))
    assert (found.product_seq, found.stream, found.version) == (5, "session-1", 2)
    assert found.position == 6
    assert "content" in found.what
    assert isinstance(run(check(ledger, "other")), Sound)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("recorded_at = recorded_at + 1", "chain"),
        ("at = at - 100", "content"),
        ("clock_suspect = NOT clock_suspect", "content"),
        ("correlation_id = ''", "content"),
        ("version = 77", "follows version 1"),
        ("event_id = 'e-other'", "content"),
    ],
)
def test_any_changed_column_is_found(ledger: Ledger, run: Run, change: str, what: str) -> None:
    run(fill(ledger))
    run(tamper(ledger, f"UPDATE events SET {change} WHERE {seq(5)}"))
    found = run(broken(ledger))
    assert found.product_seq == 5
    assert what in found.what


@pytest.mark.parametrize(
    "change", ["data = 'text'", "clock_suspect = 2", "clock_suspect = ''", "at = x'00'", "version = 'x'"]
)
def test_a_value_of_another_kind_is_a_finding_and_no_crash(
    sqlite_ledger: Ledger, run: Run, change: str
) -> None:
    """SQLite takes text where bytes belong, and anything for a truth value."""
    run(fill(sqlite_ledger))
    run(tamper(sqlite_ledger, f"UPDATE events SET {change} WHERE {seq(5)}"))
    found = run(broken(sqlite_ledger))
    assert (found.product_seq, found.what) == (5, "a column holds another kind of value")


@pytest.mark.parametrize("value", ["''", "x'ff'", "'5'"])
def test_a_sequence_that_is_no_number_leaves_a_gap_and_no_crash(
    sqlite_ledger: Ledger, run: Run, value: str
) -> None:
    run(fill(sqlite_ledger))
    run(tamper(sqlite_ledger, f"UPDATE events SET product_seq = CAST({value} AS BLOB) WHERE {seq(5)}"))
    found = run(broken(sqlite_ledger))
    assert (found.product_seq, found.what) == (6, "follows sequence 4")


def test_text_that_is_no_text_is_a_finding_and_no_crash(sqlite_ledger: Ledger, run: Run) -> None:
    run(fill(sqlite_ledger))
    run(tamper(sqlite_ledger, f"UPDATE events SET source = CAST(x'ff41' AS TEXT) WHERE {seq(5)}"))
    found = run(broken(sqlite_ledger))
    assert (found.product_seq, "not UTF-8" in found.what) == (5, True)
    assert found.position is not None


def test_a_removed_row_is_found_at_the_next(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    run(tamper(ledger, f"DELETE FROM events WHERE {seq(5)}"))
    found = run(broken(ledger))
    assert (found.product_seq, found.what) == (6, "follows sequence 4")


def test_a_removed_row_is_found_also_where_the_sequence_was_closed_again(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    changes = [f"DELETE FROM events WHERE {seq(5)}"]
    changes += [f"UPDATE events SET product_seq = {n - 1} WHERE {seq(n)}" for n in range(6, N + 1)]
    run(tamper(ledger, *changes))
    assert run(broken(ledger)).product_seq == 5


def test_a_cut_tail_is_found_against_the_signed_head_alone(ledger: Ledger, run: Run) -> None:
    async def against(head: Head) -> Broken | None:
        async with ledger.reader() as conn:
            return await verifying.verify_head(conn, head)

    run(fill(ledger))
    head = run(head_of(ledger))
    assert run(against(head)) is None
    run(append_events(ledger, "acme", [event("session-0", at=5_000)]))
    assert run(against(head)) is None  # it may grow
    run(tamper(ledger, "DELETE FROM events WHERE product = 'acme' AND product_seq > 10"))
    assert run(sound(ledger)).events == 10
    cut = run(against(head))
    assert cut is not None
    assert (cut.product_seq, "the tail was cut" in cut.what) == (11, True)


def test_a_tail_that_was_written_anew_is_not_the_signed_one(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    head = run(head_of(ledger))
    run(tamper(ledger, "DELETE FROM events WHERE product = 'acme' AND product_seq > 10"))
    run(append_events(ledger, "acme", [event("session-0", at=5_000 + n) for n in range(3)]))
    assert run(sound(ledger)).events == 13

    async def against() -> Broken | None:
        async with ledger.reader() as conn:
            return await verifying.verify_head(conn, head)

    found = run(against())
    assert found is not None
    assert (found.product_seq, found.what) == (N, "is not the event that the head was signed for")


@pytest.mark.parametrize("column", ["product_seq", "position", "data"])
def test_two_swapped_rows_are_found(ledger: Ledger, run: Run, column: str) -> None:
    run(fill(ledger))

    async def values() -> Sequence[Any]:
        async with ledger.reader() as conn:
            return await statements.fetch(
                conn,
                f"SELECT {column} FROM events WHERE product = 'acme' "
                "AND product_seq IN (4, 6) ORDER BY product_seq",
            )

    if column == "data":
        run(
            tamper(
                ledger,
                f"UPDATE events SET data = {hex_bytes(ledger, b'{}  ')} WHERE {seq(6)}",
            )
        )
    (first,), (second,) = run(values())
    assert first != second
    told = (lambda v: hex_bytes(ledger, bytes(v))) if column == "data" else str
    spare = told(b"spare") if column == "data" else "-1"
    a, b = (f"product = 'acme' AND event_id = '{i}'" for i in run(ids(ledger, 4, 6)))
    run(
        tamper(
            ledger,
            f"UPDATE events SET {column} = {spare} WHERE {a}",
            f"UPDATE events SET {column} = {told(first)} WHERE {b}",
            f"UPDATE events SET {column} = {told(second)} WHERE {a}",
        )
    )
    found = run(broken(ledger))
    assert found.product_seq in ((4,) if column != "position" else (5,))


async def ids(ledger: Ledger, *seqs: int) -> list[str]:
    async with ledger.reader() as conn:
        rows = await statements.fetch(conn, "SELECT event_id, product_seq FROM events WHERE product = 'acme'")
    by_seq = {seq: event_id for event_id, seq in rows}
    return [by_seq[seq] for seq in seqs]


def test_an_event_before_the_first_is_found(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    run(tamper(ledger, f"UPDATE events SET product_seq = -3 WHERE {seq(N)}"))
    assert run(broken(ledger)).product_seq == -3


def test_instants_that_go_back_are_found_although_every_hash_is_right(ledger: Ledger, run: Run) -> None:
    """What no honest writer appends."""
    run(append_events(ledger, "acme", [event("session-a", at=2_000), event("session-a", at=1_000)]))
    found = run(broken(ledger))
    assert (found.product_seq, found.what) == (2, "its instant lies before the stream's last")


def test_what_event_types_lacks_and_checkpoints_beyond_the_head_are_found(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))

    async def beyond() -> list[tuple[str, int]]:
        async with ledger.reader() as conn:
            return await verifying.checkpoints_beyond(conn, (await verifying.begin(conn)).head)

    assert run(beyond()) == []
    run(
        tamper(
            ledger, "DELETE FROM event_types", "INSERT INTO checkpoints (name, position) VALUES ('x', 999)"
        )
    )
    assert "not in event_types" in run(broken(ledger)).what
    assert run(beyond()) == [("x", 999)]


def test_a_position_that_holds_nothing_is_found_where_each_product_is_sound(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))

    async def gap() -> int | None:
        async with ledger.reader() as conn:
            scope = await verifying.begin(conn)
            held = 0
            for name in ("acme", "other"):
                result = await verifying.verify_product(conn, name, scope)
                assert isinstance(result, Sound)
                held += result.events
            return await verifying.first_gap(conn, scope.head, held)

    assert run(gap()) is None
    run(tamper(ledger, "DELETE FROM events WHERE product = 'other' AND product_seq = 3"))
    assert run(gap()) == 12


def test_streams_that_are_no_longer_remembered_are_looked_up(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "PAGE", 2)
    monkeypatch.setattr(verifying, "REMEMBERED", 1)
    run(fill(ledger))
    assert run(sound(ledger)).events == N
    run(
        tamper(
            ledger,
            "UPDATE events SET version = 30 WHERE stream = 'session-2' AND version = 3",
        )
    )
    found = run(broken(ledger))
    assert (found.stream, found.version) == ("session-2", 30)


def test_a_signature_holds_for_what_was_signed_and_nothing_else(ledger: Ledger, run: Run) -> None:
    key = run(signing.key_of(ledger, "acme", 7))
    again = run(signing.key_of(ledger, "acme", 8))
    other = run(signing.key_of(ledger, "other", 8))
    assert key.private_bytes_raw() == again.private_bytes_raw() != other.private_bytes_raw()
    signed = signing.sign({"product": "acme", "product_seq": 3}, key)
    assert signing.holds(signed)
    assert signing.holds(dict(reversed(signed.items())))  # the order of keys says nothing
    stranger = other.public_key().public_bytes_raw().hex()
    changes: list[dict[str, Any]] = [{"product_seq": 4}, {"more": 1}, {"public_key": stranger}]
    changes += [{"signature": "00" * 64}, {"signature": None}, {"public_key": "zz"}]
    for change in changes:
        assert not signing.holds(signed | change), change
    assert not signing.holds({"product": "acme"})


@given(st.lists(st.integers(0, 3), min_size=2, max_size=8), st.data())
def test_no_row_can_be_left_out_swapped_or_repeated(streams: list[int], data: st.DataObject) -> None:
    rows: list[Recorded] = []
    versions: dict[str, int] = {}
    previous = chain.START
    for seq, n in enumerate(streams, 1):
        new = event(f"session-{n}", at=seq)
        versions[new.stream] = version = versions.get(new.stream, 0) + 1
        content = chain.content_hash(new)
        previous = chain.chain_hash(previous, seq, version, seq, content)
        rows.append(Recorded(seq, "acme", seq, new.stream, version, *new[2:], content, previous))
    assert chain.verify(rows) == []
    place = data.draw(st.integers(0, len(rows) - 2))
    assert chain.verify([*rows[:place], *rows[place + 1 :]])
    assert chain.verify([*rows[:place], rows[place + 1], rows[place], *rows[place + 2 :]])
    assert chain.verify([*rows[: place + 1], *rows[place:]])
