"""Events out of one ledger and into another: verbatim, resumable; nothing is decided or sent on the way."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from api import cli, log
from api.clock import Clock
from api.hub import Connection
from api.service import Service
from api.settings import Settings
from api.transfer import backfilling, cloudevents, decision, exporting, importing
from domain.envelope import Recorded, session_stream
from domain.errors import InvalidInput, NotFound
from domain.instants import SECOND, text
from eventstore import chain, keys, reader, signing, statements, verifying
from eventstore.appender import append_events
from eventstore.engine import Ledger, open_ledger
from eventstore.verifying import Sound
from projections import rederive, tables
from tests.api.inside import START, FakeClock, post, serving, stored
from tests.api.serving import action, config, fact, saves
from tests.conftest import Run
from tests.store.given import event

Other = Callable[[], Ledger]


@pytest.fixture
def other(ledger_url: str, request: pytest.FixtureRequest, run: Run) -> Iterator[Ledger]:
    """An empty ledger in the other database."""
    name = "postgres_url" if ledger_url.startswith("sqlite") else "sqlite_url"
    opened = open_ledger(request.getfixturevalue(name))
    yield opened
    run(opened.close())


async def fill(ledger: Ledger, product: str = "acme", sessions: int = 2, **changes: Any) -> None:
    """Offers, an answered and a timed-out one, personal fields, merged ids, and what is not ASCII."""
    clock = FakeClock()
    async with serving(ledger, clock) as service:
        await service.put_config(product, config(product, **changes))
        for n in range(sessions):
            clock.instant += 10 * SECOND
            await post(service, product, *saves(f"s{n}", f"u{n}"))
            clock.instant += SECOND
            await post(
                service, product, fact("user_identified", f"s{n}", f"u{n}", previous_id="anon", email="ä@b.c")
            )
        await post(service, product, fact("chat_message", "s0", "u0", role="user", text="Wie geht’s?"))
        clock.instant += 3600 * SECOND
        await post(service, product, action("s0", "Fin", "u0"), action("s1", "Fin", "u1"))


async def exported(ledger: Ledger, product: str = "acme", after: int = 0) -> bytes:
    out = io.BytesIO()
    async with ledger.reader() as conn:
        await exporting.write(conn, product, out, after=after)
    return out.getvalue()


async def imported(ledger: Ledger, file: bytes) -> int:
    lines = file.splitlines(keepends=True)
    product = importing.check(lines)
    async with ledger.reader() as conn:
        after = await importing.place(conn, product, lines)
    return await importing.write(ledger, product, lines, after)


async def rows_of(ledger: Ledger, product: str = "acme") -> list[Recorded]:
    async with ledger.reader() as conn:
        return await reader.read_product(conn, product, limit=100_000)


async def replayed(ledger: Ledger) -> tuple[int, int]:
    """(decisions, divergences), each decision derived again from what the ledger holds."""
    async with ledger.reader() as conn:
        inputs = rederive.Inputs(conn, "acme")
        found = [
            row
            for row in await reader.read_product(conn, "acme", limit=9999)
            if row.type in rederive.DECISIONS
        ]
        again = [await rederive.reproduced(inputs, row) for row in found]
    return len(again), again.count(False)


def replayed_whole(ledger: Ledger) -> None:
    """The command finds nothing that today's code would do otherwise; also no silence."""
    settings = Settings(database_url=ledger.url)
    options = cli._parser().parse_args(["replay", "--processes", "1", "--database-url", ledger.url])
    assert options.run(settings, options) == 0


def unplaced(rows: list[Recorded]) -> list[tuple[Any, ...]]:
    return [row[1:] for row in rows]


# --- lines ---------------------------------------------------------------------------------------


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
ODD = [b"{}", b'{ "a": 1}', b'{"a":1,"a":2}', b'{"a":1.0}', b'{"a":1e5}', b'{"n":123456789012345678901}',
       '{"t":"ä\\u00e4\u2028"}'.encode(), b'{"t":"a\\nb"}', b'{"z":-0.0}', b"[1,2]", b"not JSON"]  # fmt: skip
DATA = st.binary(max_size=30) | st.sampled_from(ODD) | JSON.map(orjson.dumps)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
INSTANT = st.integers(0, 4_000_000_000 * SECOND)
NUMBER, HASH, OPTIONAL = st.integers(1, 2**53), st.binary(min_size=32, max_size=32), st.none() | TEXT
ROWS = st.builds(
    Recorded,
    st.just(0), TEXT, NUMBER, TEXT, NUMBER, TEXT, st.integers(0, 99), TEXT, TEXT, INSTANT, INSTANT, INSTANT,
    OPTIONAL, st.none() | st.just(""), st.booleans(), TEXT, OPTIONAL, OPTIONAL, TEXT, OPTIONAL, TEXT, DATA,
    st.none() | st.binary(max_size=20), OPTIONAL, HASH, HASH,
)  # fmt: skip


@given(ROWS)
def test_an_event_comes_back_from_its_line_byte_for_byte(row: Recorded) -> None:
    line = cloudevents.line(row)
    assert line.count(b"\n") == 1
    assert cloudevents.parse_line(line) == row


def test_a_line_is_a_cloudevent_with_our_columns_as_extensions(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    first = json.loads(run(exported(ledger)).splitlines()[3])
    row = run(rows_of(ledger))[3]
    assert row.sealed is not None
    assert all(name.isalnum() and name.islower() for name in first if name != "data_base64")
    assert {
        name: first[name] for name in ("specversion", "id", "source", "type", "subject", "time", "data")
    } == {
        "specversion": "1.0",
        "id": row.event_id,
        "source": "/products/acme",
        "type": "action",
        "subject": "session-s0",
        "time": text(row.occurred_at),
        "data": json.loads(row.data),
    }
    assert (first["at"], first["recordedat"], first["via"]) == (text(row.at), text(row.recorded_at), "host")
    assert base64.b64decode(first["sealed"]) == row.sealed
    assert (first["contenthash"], first["chainhash"]) == (row.content_hash.hex(), row.chain_hash.hex())


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"source": "/shops/acme"}, "source"),
        ({"time": "yesterday"}, "time"),
        ({"at": 12}, "at"),
        ({"version": "1"}, "version"),
        ({"version": True}, "version"),
        ({"clocksuspect": 0}, "clocksuspect"),
        ({"sealed": "***"}, "sealed"),
        ({"contenthash": "AB"}, "contenthash"),
        ({"subject": None}, "subject"),
        ({"id": "a\0b"}, "id"),
        ({"data_base64": "e30="}, "data"),
        ({"shade": 1}, "shade"),
    ],
)
def test_an_attribute_that_is_wrong_is_named(change: dict[str, Any], path: str) -> None:
    good = json.loads(
        cloudevents.line(Recorded(0, "acme", 1, "session-a", 1, *event()[2:], bytes(32), bytes(32)))
    )
    with pytest.raises(InvalidInput) as refused:
        cloudevents.parse(good | change)
    assert [fault.path for fault in refused.value.faults] == [path]


# --- export --------------------------------------------------------------------------------------


def resumed(run: Run, ledger: Ledger, before: bytes) -> bytes:
    async def scenario() -> bytes:
        file = io.BytesIO(before)
        async with ledger.reader() as conn:
            after = await exporting.resume(conn, "acme", file)
            await exporting.write(conn, "acme", file, after=after)
        return file.getvalue()

    result: bytes = run(scenario())
    return result


def test_an_export_that_broke_off_anywhere_is_continued(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    whole = run(exported(ledger))
    first = whole.index(b"\n") + 1
    second = whole.index(b"\n", first) + 1
    for cut in (0, 1, first - 1, first, first + 7, second, len(whole) - 1, len(whole)):
        assert resumed(run, ledger, whole[:cut]) == whole, cut


def test_a_file_that_is_no_beginning_of_this_export_is_left_as_it_is(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    run(append_events(ledger, "other", [event(product="other")]))
    whole = run(exported(ledger))
    foreign = run(exported(ledger, "other"))
    forged = json.loads(whole.splitlines()[1]) | {"chainhash": "00" * 32}
    for before, path in (
        (foreign, "last line: source"),
        (b"my notes\n", "last line"),
        (b"my notes", "line 1"),
        (whole + b"{", "line "),
        (orjson.dumps(forged) + b"\n", "line 2: chainhash"),
    ):
        file = io.BytesIO(before)

        async def resume(file: io.BytesIO = file) -> None:
            async with ledger.reader() as conn:
                await exporting.resume(conn, "acme", file)

        with pytest.raises(InvalidInput) as refused:
            run(resume())
        assert refused.value.faults[0].path.startswith(path)
        assert file.getvalue() == before


# --- import --------------------------------------------------------------------------------------


def test_an_export_of_one_database_is_the_same_history_in_the_other(
    ledger: Ledger, other: Ledger, run: Run
) -> None:
    run(fill(ledger))
    run(append_events(other, "before", [event(product="before")]))  # positions differ, hashes do not
    file = run(exported(ledger))
    count = run(imported(other, file))
    assert unplaced(run(rows_of(other))) == unplaced(run(rows_of(ledger)))
    assert count == len(run(rows_of(ledger)))
    assert run(exported(other)) == file
    assert run(stored(other, "acme"))  # the chain holds
    decisions, diverging = run(replayed(other))
    assert (decisions >= 3, diverging) == (True, 0)
    assert run(imported(other, file)) == 0  # again changes nothing
    assert unplaced(run(rows_of(other))) == unplaced(run(rows_of(ledger)))


def test_an_import_that_broke_off_goes_on_and_one_that_grew_too(
    ledger: Ledger, other: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "PAGE", 3)
    run(fill(ledger))
    file = run(exported(ledger))
    lines = file.splitlines(keepends=True)
    assert run(imported(other, b"".join(lines[:7]))) == 7
    assert run(imported(other, file)) == len(lines) - 7
    assert run(imported(other, b"".join(lines[:7]))) == 0  # less than is there: nothing to do
    assert run(exported(other)) == file


@pytest.mark.parametrize(("later", "sent"), [(25, 1), (120, 0)])
def test_nobody_who_listens_is_sent_what_was_imported(
    ledger: Ledger, other: Ledger, run: Run, later: int, sent: int
) -> None:
    """An offer that another process recorded just now is sent; imported ones were recorded earlier."""
    run(fill(ledger))
    lines = run(exported(ledger)).splitlines(keepends=True)
    second = max(n for n, line in enumerate(lines) if b'"nudge_offered"' in line)
    file = b"".join(lines[: second + 1])  # what came an hour later would move the clock

    async def scenario() -> int:
        clock = FakeClock(START + later * SECOND)
        async with serving(other, clock) as service:
            await service.recorder.book("acme")
            listening = Connection("acme", "u1", True)
            await service.listen(listening, None)
            count = await imported(other, file)
            service.recorder.look()
            while service.recorder.position < count:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # the streams are woken after that
            frames = [listening.frames.get_nowait() for _ in range(listening.frames.qsize())]
            return sum(b"event: proactive" in (frame or b"") for frame in frames)

    assert run(scenario()) == sent


def test_an_import_into_another_history_is_refused(ledger: Ledger, other: Ledger, run: Run) -> None:
    run(fill(ledger))
    run(append_events(other, "acme", [event()]))
    before = run(rows_of(other))
    with pytest.raises(importing.Refused, match="are not those of the file"):
        run(imported(other, run(exported(ledger))))
    assert run(rows_of(other)) == before


def test_a_file_that_was_changed_is_refused_with_its_line_and_nothing_is_written(
    ledger: Ledger, other: Ledger, run: Run
) -> None:
    run(fill(ledger))
    lines = run(exported(ledger)).splitlines(keepends=True)
    fifth = json.loads(lines[4])

    def with_fifth(**changes: Any) -> list[bytes]:
        return [*lines[:4], orjson.dumps(fifth | changes) + b"\n", *lines[5:]]

    for file, path in (
        (with_fifth(data=fifth["data"] | {"title": "Forged"}), "line 5: chainhash"),
        (with_fifth(recordedat=text(START)), "line 5: chainhash"),
        (with_fifth(sealed=base64.b64encode(b"x" * 40).decode()), "line 5: chainhash"),
        (with_fifth(type="no_such_type"), "line 5: type"),
        (with_fifth(source="/products/evil"), "line 5: source"),
        (with_fifth(origin="elsewhere"), "line 5: origin"),
        (with_fifth(subject="basket-1"), "line 5: subject"),
        ([*lines[:4], *lines[5:]], "line 5: chainhash"),
        ([*lines[:4], lines[5], lines[4], *lines[6:]], "line 5: chainhash"),
        ([*lines[:5], lines[4], *lines[5:]], "line 6: chainhash"),
        (lines[1:], "line 1: chainhash"),
        ([*lines[:4], b"{\n"], "line 5"),
        ([*lines[:-1], lines[-1][:-40]], f"line {len(lines)}"),
        ([], ""),
    ):
        with pytest.raises(InvalidInput) as refused:
            importing.check(file)
        assert refused.value.faults[0].path == path
    with pytest.raises(InvalidInput, match="not 'beta'"):
        importing.check(lines, "beta")


def test_an_id_that_stands_twice_is_refused_before_anything_is_written(ledger: Ledger, run: Run) -> None:
    """The chain of a forged file may be right all the same."""
    run(
        append_events(
            ledger, "acme", [event("session-a", event_id="e-1"), event("session-b", event_id="e-2")]
        )
    )
    lines = run(exported(ledger)).splitlines(keepends=True)
    first = cloudevents.parse_line(lines[0])
    new = event("session-b", event_id="e-1")
    content = chain.content_hash(new)
    link = chain.chain_hash(first.chain_hash, 2, 1, new.recorded_at, content)
    forged = cloudevents.line(Recorded(0, "acme", 2, "session-b", 1, *new[2:], content, link))
    with pytest.raises(InvalidInput) as refused:
        importing.check([lines[0], forged])
    assert refused.value.faults[0].path == "line 2: id"


def test_a_file_that_changes_between_check_and_write_is_refused(
    ledger: Ledger, other: Ledger, run: Run
) -> None:
    run(fill(ledger))
    lines = run(exported(ledger)).splitlines(keepends=True)
    forged = [*lines[:4], lines[4].replace(b"Save changes", b"Save chances"), *lines[5:]]
    assert forged != lines
    with pytest.raises(importing.Refused, match="or the file did"):
        run(importing.write(other, "acme", forged, 0))
    assert run(rows_of(other)) == []


def test_keys_travel_apart_and_only_with_them_can_personal_fields_be_read(
    ledger: Ledger, other: Ledger, run: Run, tmp_path: Path
) -> None:
    run(fill(ledger))
    file, path = run(exported(ledger)), tmp_path / "keys"

    async def export_keys() -> int:
        async with ledger.reader() as conn:
            return await exporting.write_keys(conn, "acme", path)

    async def readable(where: Ledger) -> int:
        rows = [row for row in await rows_of(where) if row.key_id is not None]
        async with where.reader() as conn:
            found = await keys.load_keys(conn, [row.key_id for row in rows if row.key_id])
        return sum(row.key_id in found for row in rows)

    count = run(export_keys())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(tmp_path.glob("*.part"))
    assert b"key" not in file.replace(b'"keyid"', b"")
    run(imported(other, file))
    assert (run(readable(other)), run(readable(ledger)) > 0) == (0, True)
    wanted = importing.read_keys(path.read_bytes().splitlines(), "acme")
    assert run(importing.write_keys(other, "acme", wanted)) == count
    assert run(importing.write_keys(other, "acme", wanted)) == 0
    assert run(readable(other)) == run(readable(ledger))
    with pytest.raises(importing.Refused, match="another key"):
        run(importing.write_keys(other, "acme", [wanted[0]._replace(key_id="k", key="00" * 32)]))
    for line in (b"{}", b"[]", b"{", json.dumps(wanted[0]._asdict() | {"key": "00"}).encode()):
        with pytest.raises(InvalidInput, match="line 1"):
            importing.read_keys([line], "acme")
    with pytest.raises(InvalidInput, match="product"):
        importing.read_keys(path.read_bytes().splitlines(), "beta")


# --- backfill ------------------------------------------------------------------------------------


def old(n: int, subject: str = "session-old", user: str | None = "u9", **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"old-{n}",
        "source": "crm",
        "type": "action",
        "subject": subject,
        "time": f"2026-01-02T03:04:{n % 60:02d}Z",
        **({"userid": user} if user else {}),
        "data": {"type": "click", "title": "Save changes", "raw_url": "https://app.example/old?q=1"},
    } | changes


def in_lines(*events: dict[str, Any]) -> list[bytes]:
    return [json.dumps(event).encode() + b"\n" for event in events]


HISTORY = in_lines(
    *(old(n) for n in range(4)),
    old(4, type="user_identified", data={"previous_id": "anon-9", "email": "a@b.c"}),
    old(5, type="chat_message", data={"role": "user", "text": "hello"}),
    old(6, "user-u9", None, type="goal_reached", data={"goal_id": "bulk"}),
    old(7, "session-s0", "u0", correlationid="c-1", via="segment"),
)


def test_a_backfill_is_history_recorded_now_and_decides_nothing(ledger: Ledger, run: Run) -> None:
    async def scenario() -> tuple[list[Recorded], list[Recorded]]:
        await fill(ledger)
        before = await stored(ledger, "acme")
        clock = FakeClock(START + 7200 * SECOND)
        async with serving(ledger, clock) as service:
            first = await backfilling.write(service.recorder, clock, "acme", HISTORY)
            again = await backfilling.write(service.recorder, clock, "acme", HISTORY)
            assert (first["accepted"], first["duplicates"]) == (8, 0)
            assert (again["accepted"], again["duplicates"], again["conflicting"]) == (0, 8, 0)
            other = in_lines(old(0, data={"type": "click", "title": "Other"}))
            assert (await backfilling.write(service.recorder, clock, "acme", other))["conflicting"] == 1
        return before, (await stored(ledger, "acme"))[len(before) :]

    before, added = run(scenario())
    assert not {row.type for row in added} & {"nudge_offered", "nudge_withheld", "evaluation_failed"}
    outside = {row.event_id: row for row in added if row.origin == "outside"}
    assert len(outside) == 8
    assert all(row.at == row.recorded_at > before[-1].recorded_at for row in outside.values())
    first, last = outside["old-1"], outside["old-7"]
    assert (text(first.occurred_at), first.occurred_raw) == (
        "2026-01-02T03:04:01.000000Z",
        "2026-01-02T03:04:01Z",
    )
    assert (first.source, last.source, last.correlation_id) == ("backfill", "segment", "c-1")
    assert b"app.example/old?q=1" not in first.data
    assert first.sealed is not None
    replayed_whole(ledger)
    linked = [row.stream for row in added if row.type == "user_linked"]
    assert sorted(linked) == ["user-anon-9", "user-u9"]
    assert run(replayed(ledger))[1] == 0


def test_a_session_goes_on_behind_a_backfill_as_if_it_knew_its_past(ledger: Ledger, run: Run) -> None:
    """A pending timeout is recorded before the history; afterwards the session lives on and replays."""

    async def scenario() -> list[Recorded]:
        clock = FakeClock()
        async with serving(ledger, clock) as service:
            await service.put_config("acme", config("acme"))
            await post(service, "acme", *saves("s0", "u0"))
        clock.instant += 600 * SECOND  # the offer's timeout passed while nothing ran
        alone = Service(ledger, Settings(), clock)
        await alone.recorder.start()
        await backfilling.write(alone.recorder, clock, "acme", in_lines(old(1, "session-s0", "u0")))
        await alone.stop()
        clock.instant += 600 * SECOND
        async with serving(ledger, clock) as service:
            await post(service, "acme", *saves("s0", "u0"))
        return await stored(ledger, "acme")

    rows = [row for row in run(scenario()) if row.stream == session_stream("s0")]
    replayed_whole(ledger)
    kinds = [row.type for row in rows]
    assert kinds == ["action"] * 3 + ["nudge_offered", "interaction_timed_out", "action"] + ["action"] * 3 + [
        "nudge_offered"
    ]
    assert [row.at for row in rows] == sorted(row.at for row in rows)
    assert run(replayed(ledger)) == (2, 0)


def test_a_backfill_beside_a_running_service_loses_nothing_of_either(ledger: Ledger, run: Run) -> None:
    async def scenario() -> tuple[list[Recorded], int]:
        async with serving(ledger, Clock()) as service:
            await service.put_config("acme", config("acme"))
            second = open_ledger(ledger.url)
            async with serving(second, Clock()) as filling:

                async def traffic() -> int:
                    return sum(
                        [(await post(service, "acme", *saves("s0", "u0"))).accepted for _ in range(10)]
                    )

                history = in_lines(*(old(n, f"session-s{n % 3}", "u0") for n in range(60)))
                posted, counts = await asyncio.gather(
                    traffic(), backfilling.write(filling.recorder, filling.clock, "acme", history)
                )
                assert counts["accepted"] == 60
            await second.close()
        return await stored(ledger, "acme"), posted

    rows, posted = run(scenario())
    assert sum(row.origin == "outside" for row in rows) == 60 + posted == 90
    assert run(replayed(ledger))[1] == 0

    async def check() -> Any:
        async with ledger.reader() as conn:
            return await verifying.verify_product(conn, "acme", await verifying.begin(conn))

    assert isinstance(run(check()), Sound)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"id": ""}, "id"),
        ({"id": None}, "id"),
        ({"time": None}, "time"),
        ({"time": "soon"}, "time"),
        ({"subject": "nudge-1"}, "subject"),
        ({"subject": "session-"}, "subject"),
        ({"userid": 7}, "userid"),
        ({"type": "nudge_offered"}, "type"),
        ({"data": {"type": "click"}}, "data.title"),
        ({"data": None}, "data.type"),
        ({"specversion": "2.0"}, "specversion"),
        ({"subject": "user-u1", "userid": "u2"}, "userid"),
        ({"subject": "user-" + "x" * 201, "userid": None}, "subject"),
    ],
)
def test_a_line_of_history_that_is_wrong_is_named(change: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        list(backfilling.read(in_lines(old(1), old(2) | change), START))
    assert refused.value.faults[0].path == f"line 2: {path}"


# --- one decision --------------------------------------------------------------------------------


def decision_files(ledger: Ledger, run: Run, kind: str = "nudge_offered") -> list[bytes]:
    async def scenario() -> list[bytes]:
        found = [row for row in await rows_of(ledger) if row.type == kind]
        key = await signing.key_of(ledger, "acme", 1)
        async with ledger.reader() as conn:
            return [decision.signed(await decision.gather(conn, "acme", row.event_id), key) for row in found]

    files: list[bytes] = run(scenario())
    return files


def test_every_decision_file_is_whole_and_reproduces_its_decision(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    files = decision_files(ledger, run) + decision_files(ledger, run, "nudge_withheld")
    assert len(files) >= 3
    for raw in files:
        file = decision.read(raw)
        assert decision.broken(file) is None
        assert run(decision.again(file)).reproduced is True


def test_a_decision_file_holds_nothing_behind_what_was_read(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    file = decision.read(decision_files(ledger, run)[0])
    assert [row.version for row in file.streams["session-s0"]] == [1, 2, 3]
    assert file.config is not None
    assert file.config.type == "config_activated"


def test_any_change_to_a_decision_file_is_found(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))
    document = orjson.loads(decision_files(ledger, run)[1])
    key = run(signing.key_of(ledger, "acme", 1))

    def told(change: Callable[[dict[str, Any]], object], signed: bool = True) -> str | None:
        changed = json.loads(json.dumps(document))
        change(changed)
        unsigned = {name: changed[name] for name in changed if name not in signing.SIGNED}
        raw = decision.signed(unsigned, key) if signed else orjson.dumps(changed)
        return decision.broken(decision.read(raw))

    def stream(document: dict[str, Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = document["read"]["session-s1"]
        return rows

    assert told(lambda d: None) is None
    assert "signature" in (told(lambda d: d.update(exported_by="x"), False) or "")
    assert "content" in (told(lambda d: stream(d)[1]["data"].update(title="Forged")) or "")
    assert "chain is broken" in (told(lambda d: stream(d)[1].update(previouschainhash="00" * 32)) or "")
    assert "chain is broken" in (told(lambda d: stream(d)[1].update(recordedat=text(START))) or "")
    assert "not whole" in (told(lambda d: stream(d).pop()) or "")
    assert "not whole" in (told(lambda d: stream(d).pop(0)) or "")
    assert "is missing" in (told(lambda d: d.update(config=None)) or "")
    assert "named after" in (told(lambda d: d.update(decision_id="x")) or "")


def test_a_planted_bug_makes_a_decision_file_diverge(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(fill(ledger))
    file = decision.read(decision_files(ledger, run)[0])
    honest = rederive.decide
    monkeypatch.setattr(rederive, "decide", lambda *args: honest(*args)[1:])
    verdict = run(decision.again(file))
    assert verdict.reproduced is False
    assert verdict.recorded["trigger_id"] == "saves"
    assert verdict.derived is None


def test_rules_that_read_sealed_properties_cannot_be_known_offline(ledger: Ledger, run: Run) -> None:
    where = {"title_contains": "save", "properties": {"plan": "pro"}}
    rules = config("acme")["triggers"][0] | {
        "id": "absence",
        "criteria": {"type": "absent", "where": where, "within": "session"},
    }
    run(fill(ledger, triggers=[rules]))
    file = decision.read(decision_files(ledger, run)[0])
    assert decision.broken(file) is None
    verdict = run(decision.again(file))
    assert (verdict.reproduced, "properties" in (verdict.why or "")) == (None, True)


def test_what_is_no_decision_has_no_file(ledger: Ledger, run: Run) -> None:
    run(fill(ledger))

    async def gather(name: str) -> None:
        async with ledger.reader() as conn:
            await decision.gather(conn, "acme", name)

    config_event = run(rows_of(ledger))[1].event_id
    for name in ("nope", config_event):
        with pytest.raises(NotFound):
            run(gather(name))
    for raw in (b"{", b"[]", b"{}", b'{"format":"nudgeledger-decision/1"}'):
        with pytest.raises(InvalidInput):
            decision.read(raw)


# --- the commands --------------------------------------------------------------------------------


class Commands:
    """`nudgeledger …` in this process: starting one for each command takes too long."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = cli.main(arguments)
        return code, *self._capsys.readouterr()

    def done(self, *arguments: str) -> str:
        """What a command says that went well."""
        code, out, err = self(*arguments)
        assert (code, err) == (0, ""), out
        return out

    def refused(self, *arguments: str) -> str:
        """The one line of a command that was given something bad."""
        code, out, err = self(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("nudgeledger: ")
        assert err.count("\n") == 1, err
        return err


@pytest.fixture
def commands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr(log, "configure", lambda form: None)  # it would keep the captured stream for ever
    return Commands(capsys)


def test_the_commands_move_a_product_to_the_other_database(
    ledger: Ledger, ledger_url: str, other: Ledger, run: Run, tmp_path: Path, commands: Commands
) -> None:
    run(fill(ledger))
    here, there = ("--database-url", ledger_url), ("--database-url", other.url)
    file, secret, head = tmp_path / "acme.jsonl", tmp_path / "keys.jsonl", tmp_path / "head.json"
    head.write_text(commands.done("head", "--product", "acme", *here))
    assert "data keys" in commands.done("export", "--out", str(file), "--keys", str(secret), *here)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert "events imported" in commands.done("import", str(file), "--keys", str(secret), *there)
    assert "the ledger holds" in commands.done("verify", "--head", str(head), *there)
    code, told, _ = commands("replay", "--processes", "1", *there)
    assert (code, ": 0 diverge" in told) == (0, True), told
    assert unplaced(run(rows_of(other))) == unplaced(run(rows_of(ledger)))

    async def derived(where: Ledger) -> list[Any]:
        found: list[Any] = []
        async with where.reader() as conn:
            for table in (tables.sessions, tables.decisions, tables.nudges):
                columns = [c for c in table.c if c.name not in ("position", "next_due")]
                rows = await conn.execute(sa.select(*columns).order_by(*table.primary_key))
                found.append(sorted(map(repr, rows)))
        return found

    assert run(derived(other)) == run(derived(ledger))
    assert ": 0 events imported" in commands.done("import", str(file), *there)


def test_the_commands_refuse_what_is_bad_in_one_line(
    sqlite_ledger: Ledger, run: Run, tmp_path: Path, commands: Commands
) -> None:
    run(fill(sqlite_ledger))
    here = ("--database-url", sqlite_ledger.url)
    file = tmp_path / "file.jsonl"
    file.write_bytes(b'{"specversion": "1.0"\n')
    assert "file.jsonl: line 1: malformed JSON" in commands.refused("import", str(file), *here)
    assert "file.jsonl: last line: malformed JSON" in commands.refused("export", "--out", str(file), *here)
    assert "file.jsonl: malformed JSON" in commands.refused("verify-decision", str(file))
    assert "file.jsonl: line 1" in commands.refused("verify", "--head", str(file), *here)
    file.write_bytes(b"".join(in_lines(old(1), old(2, time="soon"))))
    assert "file.jsonl: line 2: time: " in commands.refused("backfill", str(file), "--product", "acme", *here)
    assert "no decision 'nope'" in commands.refused("export", "--decision", "nope", *here)
    assert len(run(rows_of(sqlite_ledger))) > 0


def test_the_commands_tell_a_broken_ledger_and_a_broken_decision(
    sqlite_ledger: Ledger, run: Run, tmp_path: Path, commands: Commands
) -> None:
    run(fill(sqlite_ledger))
    here = ("--database-url", sqlite_ledger.url)
    name = next(row.event_id for row in run(rows_of(sqlite_ledger)) if row.type == "nudge_offered")
    file = tmp_path / "decision.json"
    commands.done("export", "--decision", name, "--out", str(file), *here)
    assert "reproduced: " in commands.done("verify-decision", str(file))
    file.write_bytes(file.read_bytes().replace(b"Save changes", b"Save chances"))
    code, told, _ = commands("verify-decision", str(file))
    assert (code, "BROKEN  the signature" in told) == (1, True)

    async def tamper() -> None:
        async with sqlite_ledger.transaction() as conn:
            for trigger in await statements.fetch(
                conn, "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ):
                await statements.execute(conn, f'DROP TRIGGER "{trigger[0]}"')
            await statements.execute(conn, "UPDATE events SET data = x'7b7d' WHERE product_seq = 5")

    run(tamper())
    code, told, _ = commands("verify", *here)
    assert code == 1
    assert told.splitlines()[0] == (
        "BROKEN  product acme, sequence 5, session-s0 version 3, position 5: "
        "its content is not what was hashed"
    )
