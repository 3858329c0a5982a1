"""Actions a second from HTTP to durable, ten triggers evaluated; beside this machine's limits and a peer.

Measured: `nudgeledger serve`, a process on one core, under closed-loop keep-alive connections from another
core; every answer comes after the commit. Ten actions a request, one action a request, and ten with random
event ids. Against, in the same run: the database alone taking the same rows under the same unique keys; the
same HTTP stack answering the same bodies without storing; the eventsourcing library's recorder, ten events a
call; and a FastAPI service over that library, without triggers and without idempotency.
"""

from __future__ import annotations

import asyncio
import tempfile

from tests.benchmarks import configs, databases, limits, servers
from tests.benchmarks.databases import Kind
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report, spread

HTTP = "the same HTTP stack, parsing only, 10 a request"


def run(options: Options) -> None:
    kinds = databases.kinds(options)
    title = "ingest: actions a second, durable, ten triggers evaluated"
    report = Report(title, *(kind.durability for kind in kinds))
    report.line(f"load      {options.connections} connections, closed loop, {options.seconds:g} s a case")
    report.section("HTTP")
    with servers.uvicorn("tests.benchmarks.bare:app") as server:
        _case(report, server, HTTP, options, 10)
        _case(report, server, HTTP.replace("10 a", "1 a"), options, 1)
    for kind in kinds:
        report.section(kind.name)
        _database(report, kind, options)


def _database(report: Report, kind: Kind, options: Options) -> None:
    ten, one = f"nudgeledger, {kind.name}, 10 a request", f"nudgeledger, {kind.name}, 1 a request"
    random = f"nudgeledger, {kind.name}, 10 a request, random ids"
    with databases.served(kind) as url:
        with servers.nudgeledger(url, configs.ten_triggers()) as server:
            _case(report, server, ten, options, 10)
        if kind.name == "SQLite":
            raw, peers = _sqlite_limits(report, url, options)
        else:
            raw, peers = _postgresql_limits(report, url, options), []
    for name, batch, ids in ((one, 1, "ordered"), (random, 10, "random"))[: 1 if options.quick else 2]:
        with databases.served(kind) as url, servers.nudgeledger(url, configs.ten_triggers()) as server:
            _case(report, server, name, options, batch, ids)
    report.line("ratios")
    for other in (raw, HTTP, *(peer for peer in peers if "1 a request" not in peer), random):
        if other in report.figures:
            report.ratio(ten, other, "aim: 1.7 or more" if "FastAPI" in other else "")
    report.ratio(one, HTTP.replace("10 a", "1 a"))
    for peer in peers:
        if "1 a request" in peer:
            report.ratio(one, peer, "aim: 4 or more")


def _case(
    report: Report, server: servers.Server, name: str, options: Options, batch: int, ids: str = "ordered"
) -> None:
    found = servers.load(server, options.connections, options.seconds, batch, 0.0, ids)
    report.figure(name, found["actions_per_s"], note=spread(found))
    report.line(
        f"    cores used: server {found['server_cpu']:.2f}, generator {found['generator_cpu']:.2f};"
        f" {found['cpu_us']:.1f} µs of the server's an action"
    )
    met = found["sessions"] / found["warm_s"]
    report.line(f"    before that, first contact: {met:,.0f} new sessions a second")


def _sqlite_limits(report: Report, url: str, options: Options) -> tuple[str, list[str]]:
    created, template = limits.sqlite_template(url)
    seconds = options.seconds / 2
    for size in (1, 10, 100, 640):
        with tempfile.TemporaryDirectory() as folder:
            rate = limits.sqlite(f"{folder}/raw.db", created, template, size, seconds)
        name = f"sqlite3 alone, {size} rows a transaction"
        report.figure(name, rate, note=f"rows of {template.size} bytes, three unique keys")
    recorder = "eventsourcing's recorder, 10 events a call"
    with tempfile.TemporaryDirectory() as folder:
        rate = limits.eventsourcing_recorder(f"{folder}/peer.db", template.size - 80, 10, seconds)
    report.figure(recorder, rate, note="no HTTP, no triggers; one unique key")
    peers = [recorder]
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/peer.db"
        with servers.uvicorn("tests.benchmarks.peer:app", PEER_DATABASE=place) as server:
            for batch in (10,) if options.quick else (10, 1):
                name = f"FastAPI + eventsourcing, {batch} a request"
                _case(report, server, name, options, batch)
                peers.append(name)
    return "sqlite3 alone, 640 rows a transaction", peers


def _postgresql_limits(report: Report, url: str, options: Options) -> str:
    for copy in (False, True):
        name = f"PostgreSQL alone, 640 rows a transaction, {'COPY' if copy else 'INSERT'}"
        report.figure(name, asyncio.run(limits.postgresql(url, 640, options.seconds / 2, copy=copy)))
    return "PostgreSQL alone, 640 rows a transaction, INSERT"
