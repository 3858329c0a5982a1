"""Events a second of `nudgeledger backtest`: ten triggers over a file of recorded events, in virtual time.

Measured: the command, a process of its own, from start to the last line. Against, in the same run: reading
the file's lines as JSON alone, and checking them as events without evaluating anything.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import orjson

from api import events_file
from tests.benchmarks import configs, servers, traffic
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report


def run(options: Options) -> None:
    report = Report("backtest: recorded events a second, ten triggers evaluated after each batch")
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
