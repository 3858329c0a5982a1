"""What sessions cost that nobody uses: memory each, and processor time while nothing happens.

Measured: `nudgeledger serve` takes four actions of each of many users' sessions in large requests; then its
anonymous resident memory beside what it was before, and the processor time that it uses in idle seconds. Once
with every session kept in memory; and, where there are more, once with the service's default, which keeps
the newest 20,000 and reads others back from the ledger. Against: the published host loop (its figures as
published, not measured here): 37 to 47 kB a session, and a walk over all of them every ten seconds.
"""

from __future__ import annotations

import json
import time

from tests.benchmarks import configs, databases, machine, servers
from tests.benchmarks.load import PAGES, TITLES, action, ordered_ids
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report

ACTIONS = 4
REQUEST = 250  # sessions
PUBLISHED_KB = (37.0, 47.0)
PUBLISHED_PASS = 0.31 / 10_000 / 10  # seconds of processor a session and second
DEFAULT_CACHE = 20_000


def run(options: Options) -> None:
    kind = databases.kinds(options)[0]
    report = Report("idle: sessions that nobody uses", kind.durability)
    caches = [options.sessions] + ([DEFAULT_CACHE] if options.sessions > DEFAULT_CACHE else [])
    for cached in caches:
        report.section(f"{options.sessions:,} sessions of {ACTIONS} actions, {cached:,} kept in memory")
        _measure(report, kind, options, cached)


def _measure(report: Report, kind: databases.Kind, options: Options, cached: int) -> None:
    with (
        databases.served(kind) as url,
        servers.nudgeledger(url, configs.ten_triggers(), NUDGELEDGER_CACHED_SESSIONS=str(cached)) as server,
    ):
        pid = server.process.pid
        for warm in range(2):
            _post(server.port, -REQUEST * (warm + 1))
        before = machine.resident(pid)
        started = time.perf_counter()
        for first in range(0, options.sessions, REQUEST):
            _post(server.port, first, min(REQUEST, options.sessions - first))
        took = time.perf_counter() - started
        report.figure("new sessions", options.sessions / took, note=f"{took:.1f} s for all of them")
        time.sleep(min(2.0, options.idle_seconds))  # the last checkpoint is not idleness
        used = machine.cpu_seconds(pid)
        time.sleep(options.idle_seconds)
        used = machine.cpu_seconds(pid) - used
        grown = max(0, machine.resident(pid) - before)
    memory = f"memory a session, {cached:,} kept"
    note = f"{before / 1e6:.0f} MB before, {grown / 1e6:.0f} MB more"
    report.figure(memory, grown / options.sessions / 1000, "kB", note)
    note = f"of a core: {used:.2f} s in {options.idle_seconds:g} s"
    report.figure("processor while idle", used / options.idle_seconds * 100, "%", note)
    for kb in PUBLISHED_KB:
        name = f"the published host loop's {kb:g} kB a session"
        report.published(name, kb)
        report.ratio(memory, name)
    polling = PUBLISHED_PASS * options.sessions * 100
    loop = f"the published loop's passes over {options.sessions:,} sessions"
    report.line(f"{loop} would take {polling:.1f} % of a core")


def _post(port: int, first: int, sessions: int = REQUEST) -> None:
    instant = f"{time.time():.6f}"
    ids = iter(ordered_ids(0, sessions * ACTIONS))
    listed = [
        action(next(ids), f"idle-{number}", f"user-{number}", instant, TITLES[i % 7], PAGES[number % 5])
        for number in range(first, first + sessions)
        for i in range(ACTIONS)
    ]
    body = json.loads(f'{{"events":[{",".join(listed)}]}}')
    servers.call(port, "POST", f"/v1/products/{configs.PRODUCT}/events", body)
