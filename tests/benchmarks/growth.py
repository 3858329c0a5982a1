"""What things cost as the ledger grows: from ten thousand events to `--events`, tenfold from size to size.

At each size, on SQLite unless a URL names another database: bytes an event; taking more events; explaining a
decision and a silence; and going through the whole ledger with `verify`, `replay` and `rebuild`, in one
process each. What grows with the ledger shows as a falling rate or a rising time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks import configs, databases, servers
from tests.benchmarks.databases import Kind
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report, percentiles

SMALLEST = 10_000
PATH = f"/v1/products/{configs.PRODUCT}"
COMMANDS = (("verify",), ("replay", "--processes", "1"), ("rebuild", "--dry-run"))


def sizes(events: int) -> list[int]:
    """Ten thousand, tenfold and so on up to `events`; `events` alone where that is less."""
    found = [min(SMALLEST, events)]
    while found[-1] * 10 <= events:
        found.append(found[-1] * 10)
    return found


def run(options: Options) -> None:
    kind = databases.kinds(options)[0]
    report = Report("growth: cost by the size of the ledger", kind.durability)
    labels = []
    for size in sizes(options.events):
        label = f"{size:,} events"
        labels.append(label)
        report.section(label)
        with databases.scratch(kind) as url:
            _size(report, kind, url, size, label, 5 if options.quick else 30)
    report.line("the greatest over the smallest")
    for name in [n.removeprefix(f"{labels[0]}: ") for n in report.figures if n.startswith(labels[0])]:
        report.ratio(f"{labels[-1]}: {name}", f"{labels[0]}: {name}")


def _size(report: Report, kind: Kind, url: str, size: int, label: str, times: int) -> None:
    filling = [sys.executable, "-m", "tests.benchmarks.filling", url, str(size)]
    started = time.perf_counter()
    subprocess.run(filling, cwd=servers.ROOT, check=True)
    report.figure(f"{label}: filled through the service", size / (time.perf_counter() - started))
    if kind.name == "SQLite":
        report.figure(f"{label}: bytes an event", _bytes(url) / size, "B")
    with servers.nudgeledger(url, configs.deciding()) as server:
        listed = json.loads(servers.call(server.port, "GET", f"{PATH}/decisions?limit=1000"))["decisions"]
        each = max(1, len(listed) // times)
        some = listed[::each][:times] or [None] * times
        _answers(report, f"{label}: a recorded decision", server, [
            f"{PATH}/decisions/{row['decision_id']}" for row in some if row
        ])  # fmt: skip
        _answers(report, f"{label}: why not, then", server, [
            f"{PATH}/sessions/{row['session_id']}/why-not?trigger_id=t0&at={row['at']}" for row in some if row
        ])  # fmt: skip
        _answers(report, f"{label}: taking an event", server, [f"{PATH}/events"] * times)
    for command in COMMANDS:
        report.figure(f"{label}: nudgeledger {' '.join(command)}", size / _seconds(url, command))


def _answers(report: Report, name: str, server: servers.Server, paths: list[str]) -> None:
    """The median of what each of the requests took, one after the other."""
    took = []
    for number, path in enumerate(paths):
        body = _event(number) if path.endswith("/events") else None
        started = time.perf_counter()
        servers.call(server.port, "POST" if body else "GET", path, body)
        took.append(time.perf_counter() - started)
    report.figure(f"{name}, p50", percentiles(took)["p50_ms"], "ms")


def _event(number: int) -> dict[str, object]:
    data = {"type": "click", "title": "Save changes", "raw_url": "https://app.example.com/projects/1"}
    event = {"type": "action", "session_id": f"new{number}", "user_id": f"n{number}", "data": data}
    return {"events": [event]}


def _seconds(url: str, command: tuple[str, ...]) -> float:
    """Of a command, its start included."""
    arguments = [sys.executable, "-m", "api.cli", *command, "--database-url", url]
    started = time.perf_counter()
    done = subprocess.run(arguments, cwd=servers.ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr or done.stdout[-2000:])
    return time.perf_counter() - started


def _bytes(url: str) -> int:
    path = Path(databases.file_of(url))
    return sum(f.stat().st_size for f in path.parent.glob(f"{path.name}*"))
