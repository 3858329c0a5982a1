"""Events a second of a backtest: ten triggers over recorded events, in virtual time.

Measured: the command over an events file, a process of its own, from start to the last line; and a backtest
over the same traffic in a ledger, which simulates two configs side by side, in one process and in as many as
there are cores. Against, in the same run: reading the file's lines as JSON alone, and checking them as events
without evaluating anything; reading the ledger's rows and decoding them alone.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

import orjson

from api import events_file, simulating, workers
from api.simulating import Plan
from domain.instants import MINUTE, SECOND
from eventstore import reader
from eventstore.engine import open_ledger
from projections import facts
from projections.backtesting import window
from projections.backtesting.window import Window
from projections.configs import Revision, digest
from tests.benchmarks import configs, databases, servers, traffic
from tests.benchmarks.databases import Kind
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report


def run(options: Options) -> None:
    kinds = databases.kinds(options)
    report = Report("backtest: recorded events a second, ten triggers evaluated after each batch")
    _file(report, options)
    for kind in kinds:
        _ledger(report, kind, options)


def _file(report: Report, options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        events, config = Path(folder) / "events.jsonl", Path(folder) / "config.json"
        config.write_text(json.dumps(configs.deciding()))
        with events.open("wb") as file:
            for second, batch in traffic.batches(options.events):
                for event in batch:
                    file.write(orjson.dumps(event | {"received_at": f"{second + 1}.000000"}) + b"\n")
        report.section(f"{options.events:,} events, {events.stat().st_size / 1e6:,.0f} MB")
        lines = events.read_bytes().splitlines()
        started = time.perf_counter()
        for line in lines:
            orjson.loads(line)
        report.figure("lines parsed as JSON", options.events / (time.perf_counter() - started))
        started = time.perf_counter()
        deque(events_file.read(lines), maxlen=0)
        report.figure("lines checked as events", options.events / (time.perf_counter() - started))
        del lines
        started = time.perf_counter()
        command = [sys.executable, "-m", "api.cli", "backtest", "--until", "60"]
        command += ["--config", str(config), "--events", str(events)]
        done = subprocess.run(command, cwd=servers.ROOT, capture_output=True, check=True)
        elapsed = time.perf_counter() - started
    summary = orjson.loads(done.stdout.splitlines()[-1])
    offered, withheld = (sum(summary[name].values()) for name in ("offered", "withheld"))
    found = f"{summary['sessions']:,} sessions, {offered:,} offered, {withheld:,} withheld"
    report.figure("nudgeledger backtest, start to end", options.events / elapsed, note=found)
    own = max(summary["seconds"], 1e-9)
    note = f"{own:.1f} of {elapsed:.1f} s; the others are the interpreter's start"
    report.figure("nudgeledger backtest, its own seconds", options.events / own, note=note)
    for other in ("lines parsed as JSON", "lines checked as events"):
        report.ratio("nudgeledger backtest, its own seconds", other)


class _Read(NamedTuple):
    window: Window
    rows: int
    seconds: float  # to read and decode them all


def _ledger(report: Report, kind: Kind, options: Options) -> None:
    report.section(f"{options.events:,} events in a ledger, {kind.name}")
    with databases.scratch(kind) as url:
        filling = [sys.executable, "-m", "tests.benchmarks.filling", url, str(options.events)]
        subprocess.run(filling, cwd=servers.ROOT, check=True)
        read = asyncio.run(_read(url))
        raw = configs.deciding()
        revision = Revision(f"r1-{digest(raw)}", 0, 0, raw)
        alone = f"{kind.name}: rows read and decoded, nothing else"
        note = f"{read.rows:,} rows, with what the engine concluded"
        report.figure(alone, options.events / read.seconds, note=note)
        names = []
        for processes in sorted({1, workers.processes()}):
            plan = Plan(url, read.window, MINUTE, revision, revision, "", 1.0)
            started, used = time.perf_counter(), time.process_time()
            outcome = simulating.carry_out(plan, processes=processes)
            elapsed, own = time.perf_counter() - started, time.process_time() - used
            names.append(f"{kind.name}: two configs over the ledger, {_of(processes)}")
            found = outcome.result["candidate"]
            note = f"{found['offered']:,} offered, {sum(found['withheld'].values()):,} withheld, each"
            report.figure(names[-1], options.events / elapsed, note=note)
            if processes == 1:
                report.figure(f"{kind.name}: the same, by its own processor time", options.events / own)
        for name in names:
            report.ratio(name, alone)
        report.ratio(names[0], "nudgeledger backtest, its own seconds", "that simulates one config")


def _of(processes: int) -> str:
    return "one process" if processes == 1 else f"{processes} processes"


async def _read(url: str) -> _Read:
    ledger = open_ledger(url)
    try:
        async with ledger.reader() as conn:
            start = traffic.START * SECOND
            found = await window.locate(conn, configs.PRODUCT, start, 2 * start)
            started = time.perf_counter()
            after = rows = 0
            while page := await reader.read_product(
                conn, configs.PRODUCT, after_seq=after, limit=window.PAGE
            ):
                facts.facts(page)
                after, rows = page[-1].product_seq, rows + len(page)
            return _Read(found, rows, time.perf_counter() - started)
    finally:
        await ledger.close()
