"""How long an explanation takes: a recorded decision, and silence as of now and as of a past instant.

Measured over HTTP, one request at a time, in a session of ten thousand events (as many as `--events` where
that is less). Against, in the same run: reading and decoding that session's rows, and doing nothing else.
"""

from __future__ import annotations

import asyncio
import json
import time
from urllib.parse import quote

from structlog.testing import capture_logs

from api.ingest import native
from api.service import Service
from api.settings import Settings
from domain.instants import SECOND, text
from eventstore import reader
from eventstore.engine import open_ledger
from projections import facts
from tests.benchmarks import configs, databases, servers
from tests.benchmarks.databases import Kind
from tests.benchmarks.filling import Virtual
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report, percentiles, spread

EVENTS = 10_000
SESSION = "long"
STEP = 10  # events of a request
PAUSE = 5 * SECOND  # between requests
PATH = f"/v1/products/{configs.PRODUCT}"


def run(options: Options) -> None:
    kinds = databases.kinds(options)
    events = min(EVENTS, options.events)
    report = Report(f"explain: ms an answer, in a session of {events:,} events",
                    *(kind.durability for kind in kinds))  # fmt: skip
    for kind in kinds:
        report.section(kind.name)
        with databases.scratch(kind) as url:
            _database(report, kind, url, events, 5 if options.quick else 40)


def _database(report: Report, kind: Kind, url: str, events: int, times: int) -> None:
    with capture_logs():  # a line a decision is not wanted
        began, ended = asyncio.run(_fill(url, events))
    alone = f"{kind.name}: rows read and decoded, nothing else"
    report.figure(alone, asyncio.run(_read_alone(url)), "ms")
    with servers.nudgeledger(url, configs.deciding()) as server:
        listed = json.loads(servers.call(server.port, "GET", f"{PATH}/decisions?session_id={SESSION}"))
        newest = listed["decisions"][0]
        silent = f"{PATH}/sessions/{SESSION}/why-not?trigger_id=t0"
        middle = quote(text((began + ended) // 2))
        for name, path in (
            ("a recorded decision", f"{PATH}/decisions/{newest['decision_id']}"),
            ("why not, now", silent),
            ("why not, in the middle", f"{silent}&at={middle}"),
            ("every trigger, in the middle", f"{PATH}/sessions/{SESSION}/evaluation?at={middle}"),
            ("the whole timeline", f"{PATH}/sessions/{SESSION}/timeline"),
        ):
            took = []
            for _ in range(times + 1):
                started = time.perf_counter()
                servers.call(server.port, "GET", path)
                took.append(time.perf_counter() - started)
            found = percentiles(took[1:])  # the first one warms up
            label = f"{kind.name}: {name}, p50"
            report.figure(label, found["p50_ms"], "ms", spread(found))
            report.ratio(label, alone, "aim for the first: 50 ms" if "timeline" not in name else "")


async def _fill(url: str, events: int) -> tuple[int, int]:
    """One session, through the service, on a clock of its own; its first and last instant."""
    ledger = open_ledger(url)
    clock = Virtual()
    began = clock.instant
    service = Service(ledger, Settings(database_url=url), clock)
    try:
        await service.start()
        await service.put_config(configs.PRODUCT, configs.deciding())
        for first in range(0, events, STEP):
            clock.instant += PAUSE
            batch = [_event(number, clock.instant) for number in range(first, min(first + STEP, events))]
            await service.record(configs.PRODUCT, native.parse_batch({"events": batch}, clock.now()))
    finally:
        await service.stop()
        await ledger.close()
    return began, clock.instant


def _event(number: int, instant: int) -> dict[str, object]:
    title = ("Edit", "Save changes", "Open", "Close")[number % 4]
    url = f"https://app.example.com/projects/{number % 50}"
    return {
        "event_id": f"{instant}-{number:08d}",
        "type": "action",
        "session_id": SESSION,
        "user_id": "u_1",
        "data": {"type": "click", "title": title, "raw_url": url},
    }


async def _read_alone(url: str) -> float:
    ledger = open_ledger(url)
    try:
        async with ledger.reader() as conn:
            took = []
            for _ in range(5):
                started = time.perf_counter()
                facts.facts(await reader.read_stream(conn, configs.PRODUCT, f"session-{SESSION}"))
                took.append(time.perf_counter() - started)
            return min(took) * 1000
    finally:
        await ledger.close()
