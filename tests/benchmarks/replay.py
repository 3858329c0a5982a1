"""Events a second that a ledger gives back: read, decoded, folded, and its decisions derived again.

Measured, on one core, over a ledger of a realistic mix that was filled through the service: reading the rows
in pages of 2,000; the same and decoding them; the same and folding every session, page by page; and the
command `nudgeledger replay --processes 1`, which executes every recorded turn again. Against, in the same
run: reading alone, and the eventsourcing library rebuilding aggregates of two hundred events.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from domain import session
from domain.envelope import Recorded
from domain.session import SessionState
from eventstore import reader
from eventstore.engine import open_ledger
from projections import facts
from tests.benchmarks import databases, peer, servers, traffic
from tests.benchmarks.databases import Kind
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report

PAGE = 2_000
PEER_EVENTS = 20_000  # at most: its aggregates take longer to write than to rebuild

Work = Callable[[Sequence[Recorded]], None]


def run(options: Options) -> None:
    kinds = databases.kinds(options)
    report = Report("replay: events a second", *(kind.durability for kind in kinds))
    for kind in kinds:
        report.section(kind.name)
        _database(report, kind, options)


def _database(report: Report, kind: Kind, options: Options) -> None:
    read, decode, fold = (
        f"{kind.name}: {name}" for name in ("rows read", "read and decoded", "read, decoded and folded")
    )
    command = f"{kind.name}: nudgeledger replay"
    with databases.scratch(kind) as url:
        started = time.perf_counter()
        command_line = [sys.executable, "-m", "tests.benchmarks.filling", url, str(options.events)]
        subprocess.run(command_line, cwd=servers.ROOT, check=True)
        took = time.perf_counter() - started
        head = asyncio.run(_head(url))
        report.line(f"{head:,} events, filled in {took:.1f} s through the service")
        folder = _Folder()
        for name, work in ((read, _nothing), (decode, _decoded), (fold, folder)):
            best = max(head / asyncio.run(_passed(url, work)) for _ in range(2))
            report.figure(name, best, note="the better of two")
        steps = sum(state.version for state in folder.states.values())
        report.line(f"    {len(folder.states):,} sessions in {steps:,} steps")
        seconds, said = _replayed(url)
        report.figure(command, head / seconds, note=said)
    rebuilt = "eventsourcing, aggregates rebuilt"
    if rebuilt not in report.figures:
        rate = _peer_rebuild(min(options.events, PEER_EVENTS))
        report.figure(rebuilt, rate, note="SQLite, 200 events each")
    report.line("ratios")
    for other in (read, decode, rebuilt):
        report.ratio(fold, other, "aim for the first: 250,000 events a second" if other == read else "")
    for other in (read, decode, rebuilt):
        report.ratio(command, other)


async def _head(url: str) -> int:
    ledger = open_ledger(url)
    try:
        async with ledger.reader() as conn:
            return await reader.head(conn)
    finally:
        await ledger.close()


async def _passed(url: str, work: Work) -> float:
    """Seconds for the whole ledger, page by page."""
    ledger = open_ledger(url)
    try:
        async with ledger.reader() as conn:
            await reader.read_all(conn, limit=PAGE)
            started = time.perf_counter()
            position = 0
            while rows := await reader.read_all(conn, after=position, limit=PAGE):
                work(rows)
                position = rows[-1].position
            return time.perf_counter() - started
    finally:
        await ledger.close()


def _nothing(rows: Sequence[Recorded]) -> None:
    pass


def _decoded(rows: Sequence[Recorded]) -> None:
    facts.facts(rows)


class _Folder:
    """Folds every session's rows as they come."""

    def __init__(self) -> None:
        self.states: dict[str, SessionState] = {}

    def __call__(self, rows: Sequence[Recorded]) -> None:
        if rows[0].position == 1:
            self.states.clear()
        by_stream: dict[str, list[Recorded]] = {}
        for row in rows:
            if row.stream.startswith("session-"):
                by_stream.setdefault(row.stream, []).append(row)
        for stream, mine in by_stream.items():
            state = self.states.get(stream) or SessionState(stream.removeprefix("session-"))
            self.states[stream] = session.fold(state, facts.facts(mine))


def _replayed(url: str) -> tuple[float, str]:
    """Seconds of the command, and its last line."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "replay", "--processes", "1", "--database-url", url],
        cwd=servers.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    return seconds, done.stdout.strip().splitlines()[-1]


def _peer_rebuild(events: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        app = peer.application(f"{folder}/peer.db", cached=False)
        ids = []
        for number in range(max(1, events // traffic.SIZE)):
            one = peer.Session(f"s{number}")
            for i in range(traffic.SIZE):
                one.act(
                    f"e{number}-{i}", "u1", "1779188839.0", "Save changes", "https://app.example.com/projects"
                )
            app.save(one)
            ids.append(one.id)
        started = time.perf_counter()
        steps = sum(app.repository.get(each).version for each in ids)
        rate = steps / (time.perf_counter() - started)
        app.close()
        return rate
