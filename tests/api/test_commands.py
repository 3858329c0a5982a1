"""The command line, run as a user runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml

from domain.envelope import NewEvent
from eventstore.appender import ANY, Appender, Unit
from eventstore.engine import open_ledger
from tests.api.conftest import Launch
from tests.api.inside import stored
from tests.api.serving import COMMAND, ROOT, command, config, saves, until

TABLES = ("backtests", "backtest_decisions", "decisions", "sessions")


@pytest.fixture
def ledger_url(one_url: str) -> str:
    return one_url


def one_line(text: str) -> str:
    assert text.startswith("nudgeledger: ")
    assert text.count("\n") == 1, text
    return text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_serve_binds_loopback_only_and_says_why(sqlite_url: str, host: str) -> None:
    done = command("serve", "--host", host, "--port", "1", "--database-url", sqlite_url)
    assert done.returncode == 2
    assert "without authentication anybody" in one_line(done.stderr)


def test_serve_refuses_authentication_that_is_not_there(sqlite_url: str) -> None:
    done = command("serve", "--auth", "on", "--database-url", sqlite_url)
    assert done.returncode == 2
    assert "not built yet" in one_line(done.stderr)


def test_serve_says_that_its_port_is_taken(sqlite_url: str, launch: Launch) -> None:
    server = launch(sqlite_url)
    done = command("serve", "--port", str(server.port), "--database-url", sqlite_url)
    assert done.returncode == 2
    assert str(server.port) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_product_is_added_once_and_its_secrets_are_kept_as_hashes(ledger_url: str, tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    file.write_text(yaml.safe_dump(config("acme")))
    done = command("product", "add", "acme", "--config", str(file), "--database-url", ledger_url)
    assert done.returncode == 0, done.stderr
    lines = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines()[:4])
    assert lines.keys() == {"product", "server key", "webhook secret", "browser-token secret"}
    again = command("product", "add", "acme", "--database-url", ledger_url)
    assert again.returncode == 2
    assert "exists already" in one_line(again.stderr)
    rows = asyncio.run(_stored(ledger_url))
    assert [r.type for r in rows] == ["engine_activated", "config_activated"]
    assert not any(secret.encode() in r.data for r in rows for secret in list(lines.values())[1:])


def test_a_bad_config_adds_no_product(sqlite_url: str, tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    file.write_text(yaml.safe_dump(config("acme", timezone="Europe/Nowhere")))
    done = command("product", "add", "acme", "--config", str(file), "--database-url", sqlite_url)
    assert done.returncode == 2
    assert "acme.yaml: timezone" in one_line(done.stderr)
    assert command("product", "add", "acme", "--database-url", sqlite_url).returncode == 0
    assert command("product", "add", "a/b", "--database-url", sqlite_url).returncode == 2


def test_migrate_makes_the_schema_and_may_be_repeated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    for _ in range(2):
        done = command("migrate", "--database-url", url)
        assert (done.returncode, done.stderr) == (0, "")
    assert command("replay", "--database-url", url).returncode == 0


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite://"])
def test_a_wrong_database_url_is_one_line(url: str) -> None:
    done = command("migrate", "--database-url", url)
    assert done.returncode == 2
    one_line(done.stderr)


def test_bad_input_to_backtest_is_one_line_and_nothing_else(tmp_path: Path) -> None:
    rules, events = tmp_path / "rules.yaml", tmp_path / "events.jsonl"
    rules.write_text(yaml.safe_dump(config("acme")))
    events.write_text(
        '{"type": "action", "session_id": "s", "occurred_at": 1, "data": {"type": "x", "title": "t"}}\n'
        '{"type": 7}\n'
    )
    done = command("backtest", "--config", str(rules), "--events", str(events))
    assert (done.returncode, done.stdout) == (2, "")
    assert "events.jsonl" in done.stderr.splitlines()[0]
    assert "2" in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr
    rules.write_text("schema: 1\nproduct_id: acme\nbogus: 1\n")
    done = command("backtest", "--config", str(rules), "--events", str(events))
    assert (done.returncode, done.stdout) == (2, "")
    assert "rules.yaml: bogus" in one_line(done.stderr)
    missing = command("backtest", "--config", str(rules), "--events", str(tmp_path / "none"))
    assert (missing.returncode, missing.stdout) == (2, "")


def test_a_backtest_of_a_window_gives_what_the_service_gives_and_writes_nothing(
    sqlite_url: str, launch: Launch, tmp_path: Path
) -> None:
    server = launch(sqlite_url)
    server.put(config("acme"))
    for save in saves("s1"):
        server.post("acme", save)
    raw = config("acme")
    raw["triggers"][0]["criteria"]["at_least"] = 2
    window = {"from": "2020-01-01T00:00:00Z", "to": server.session("acme", "s1")["at"]}
    base = "/v1/products/acme/backtests"
    name = server.http.post(base, json={"config": raw, **window}).json()["backtest_id"]
    job = until(lambda: found if (found := server.get(f"{base}/{name}"))["status"] == "done" else None)
    server.stop()
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(raw))
    before = asyncio.run(_jobs_and_events(sqlite_url))
    given = ("--product", "acme", "--config", str(file), "--database-url", sqlite_url)
    for more in ((), ("--processes", "2")):
        done = command("backtest", *given, "--from", window["from"], "--to", window["to"], *more)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == job["result"]
    assert job["result"]["candidate"]["offered"] == 1
    assert asyncio.run(_jobs_and_events(sqlite_url)) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "either --events, or --product"),
        (("--product", "acme", "--from", "2"), "either --events, or --product"),
        (("--product", "acme", "--from", "1", "--to", "2", "--events", "f"), "either --events, or --product"),
        (("--events", "f", "--processes", "2"), "either --events, or --product"),
        (("--product", "acme", "--from", "2", "--to", "1"), "--from: must lie before `to`"),
        (("--product", "acme", "--from", "monday", "--to", "1"), "--from: "),
        (("--product", "acme", "--from", "1", "--to", "2", "--until", "-1"), "--until: "),
        (("--product", "acme", "--from", "1", "--to", "2", "--processes", "0"), "--processes"),
        (("--product", "acme", "--from", "1", "--to", "2"), "no product 'acme'"),
        (("--product", "other", "--from", "1", "--to", "2"), "rules.yaml: product_id"),
    ],
)
def test_a_backtest_that_makes_no_sense_is_one_line(
    sqlite_url: str, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(config("acme")))
    done = command("backtest", "--config", str(file), "--database-url", sqlite_url, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in one_line(done.stderr)


async def _jobs_and_events(url: str) -> list[object]:
    ledger = open_ledger(url)
    try:
        async with ledger.reader() as conn:
            counts = [await conn.scalar(sa.text(f"SELECT count(*) FROM {name}")) for name in TABLES]
        return [*counts, await stored(ledger, "acme")]
    finally:
        await ledger.close()


async def _stored(url: str, product: str = "acme") -> list[NewEvent]:
    ledger = open_ledger(url)
    try:
        return list(await stored(ledger, product))  # type: ignore[arg-type]
    finally:
        await ledger.close()


async def _append(url: str, event: NewEvent) -> None:
    ledger = open_ledger(url)
    try:
        async with ledger.transaction() as conn:
            (done,) = await Appender(ledger).append(conn, [Unit(event.product, {event.stream: ANY}, [event])])
            assert done.recorded is not None
    finally:
        await ledger.close()


def test_replay_finds_a_planted_divergence(sqlite_url: str, launch: Launch) -> None:
    server = launch(sqlite_url)
    server.put(config("acme"))
    server.post("acme", *saves("s"))
    server.stop()
    clean = command("replay", "--database-url", sqlite_url)
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert "checked 1 decisions" in clean.stdout
    rows = asyncio.run(_stored(sqlite_url))
    offer = next(r for r in rows if r.type == "nudge_offered")
    values = {name: getattr(offer, name) for name in NewEvent._fields}
    forged = NewEvent(**values | {"stream": "session-elsewhere", "event_id": "forged"})
    asyncio.run(_append(sqlite_url, forged))
    found = command("replay", "--database-url", sqlite_url)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "DIVERGES" in found.stdout
    assert "1 diverge" in found.stdout
    only = command("replay", "--session", "s", "--product", "acme", "--database-url", sqlite_url)
    assert only.returncode == 0, only.stdout


def test_serve_refuses_a_history_that_it_cannot_read(ledger_url: str) -> None:
    event = NewEvent(
        product="acme",
        stream="session-s",
        type="dreamt_of",
        schema_version=9,
        origin="outside",
        event_id="e",
        at=1,
        recorded_at=1,
        occurred_at=1,
        occurred_raw=None,
        sent_raw=None,
        clock_suspect=False,
        batch_id="b",
        correlation_id=None,
        causation_id=None,
        source="host",
        config_revision=None,
        engine_version="1",
        data=b"{}",
        sealed=None,
        key_id=None,
    )
    asyncio.run(_append(ledger_url, event))
    done = command("serve", "--port", "1", "--database-url", ledger_url)
    assert done.returncode == 2
    assert "dreamt_of" in one_line(done.stderr)
    assert "9" in done.stderr


def test_serve_refuses_a_postgresql_schema_that_is_not_the_newest(postgres_url: str) -> None:
    asyncio.run(_forget_version(postgres_url))
    done = command("serve", "--port", "1", "--database-url", postgres_url)
    assert done.returncode == 2
    assert "nudgeledger migrate" in one_line(done.stderr)


async def _forget_version(url: str) -> None:
    ledger = open_ledger(url)
    try:
        async with ledger.transaction() as conn:
            await conn.exec_driver_sql("DROP TABLE alembic_version")
    finally:
        await ledger.close()


def test_an_unreachable_database_is_one_line() -> None:
    done = command("serve", "--port", "1", "--database-url", "postgresql://postgres@127.0.0.1:9/none")
    assert done.returncode == 2
    assert "Connect call failed" in one_line(done.stderr)


@pytest.mark.parametrize("name", ["verify", "replay", "rebuild", "head"])
def test_a_file_that_is_no_database_is_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are notes and no database\n" * 100)
    refused = command(name, "--database-url", f"sqlite:///{path}")
    assert refused.returncode == 2
    assert refused.stderr == "nudgeledger: the database: file is not a database\n"


def test_a_postgresql_database_that_does_not_exist_is_one_line(postgres_url: str) -> None:
    refused = command("verify", "--database-url", f"{postgres_url}_none")
    assert refused.returncode == 2
    assert refused.stderr.endswith('_none" does not exist\n')
    assert refused.stderr.count("\n") == 1


def test_what_cannot_be_written_is_one_line(sqlite_url: str, tmp_path: Path, launch: Launch) -> None:
    launch(sqlite_url).put(config("acme"))
    keys = tmp_path / "none" / "keys"
    out = str(tmp_path / "out")
    refused = command("export", "--keys", str(keys), "--out", out, "--database-url", sqlite_url)
    assert refused.returncode == 2
    assert refused.stderr == f"nudgeledger: {keys}.part: No such file or directory\n"
    assert not Path(out).exists()


def test_an_interrupted_command_ends_at_once_and_without_a_trace(sqlite_url: str, tmp_path: Path) -> None:
    """It waits for a reader of its file, for ever: nothing but the signal ends it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    running = subprocess.Popen(
        [*COMMAND, "import", str(pipe), "--database-url", sqlite_url], stderr=subprocess.PIPE, cwd=ROOT
    )
    with pipe.open("wb"):  # the command has opened it: it is past its imports
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=10)[1] == b""
    assert running.returncode == 130
