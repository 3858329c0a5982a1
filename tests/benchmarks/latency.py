"""From sending the third save to reading the nudge on the user's stream, under half of the greatest load.

Measured: `nudgeledger serve` on one core; first its greatest load (closed loop, ten actions a request), then
half of that as an open loop, while users with open streams save three times each and wait for their nudge.
The clock runs from before the third POST is written until the frame `event: proactive` is read, so it holds
parsing, ten triggers, the durable commit and the stream. Against: the same without any other load, the
POST's own answer, and the published host loop, which polls (its figures as published, not measured here).
"""

from __future__ import annotations

from tests.benchmarks import configs, databases, servers
from tests.benchmarks.databases import Kind
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report, spread

PUBLISHED_MS = {"p50_ms": 5_100.0, "p99_ms": 10_200.0}
USER_PAUSE = 4.0  # seconds before the same user is probed again: longer than every timing of the config


def run(options: Options) -> None:
    kinds = databases.kinds(options)
    report = Report("latency: from POST to the SSE frame of its nudge", *(k.durability for k in kinds))
    for kind in kinds:
        report.section(kind.name)
        _database(report, kind, options)


def _database(report: Report, kind: Kind, options: Options) -> None:
    rate = min(options.probes_per_s, options.streams / USER_PAUSE)
    with databases.served(kind) as url, servers.nudgeledger(url, configs.with_probe()) as server:
        most = servers.load(server, options.connections, options.seconds / 2, 10)
        report.figure(f"greatest load, {kind.name}", most["actions_per_s"], "/s", spread(most))
        report.line(f"{options.streams} streams open, {rate:g} probes a second")
        _print(report, f"{kind.name}, no other load", _probed(server, options, rate, 0.0))
        loaded = _probed(server, options, rate, most["actions_per_s"] / 2)
        report.figure(f"load meanwhile, {kind.name}", loaded["actions_per_s"])
        _print(report, f"{kind.name}, half load", loaded)
    report.line("ratios")
    for part, aim in (("p50", "5 ms"), ("p99", "25 ms")):
        nudge = f"nudge, {kind.name}, half load, {part}"
        report.ratio(nudge, f"nudge, {kind.name}, no other load, {part}", f"aim for the first: {aim}")
        report.ratio(nudge, f"answer, {kind.name}, half load, {part}")
        published = f"the published host loop (it polls), {part}"
        report.published(published, PUBLISHED_MS[f"{part}_ms"])
        report.ratio(published, nudge)


def _print(report: Report, name: str, found: dict[str, float]) -> None:
    for what, prefix in (("answer", "answer_"), ("nudge", "")):
        for part in ("p50", "p99"):
            note = f"max {found[f'{prefix}max_ms']:.1f} ms" if part == "p99" else ""
            report.figure(f"{what}, {name}, {part}", found[f"{prefix}{part}_ms"], "ms", note)
    report.line(f"    {found['probes']:.0f} probes, {found['lost']:.0f} without a nudge within five seconds")


def _probed(server: servers.Server, options: Options, rate: float, actions_per_s: float) -> dict[str, float]:
    """Probe while a load runs; the load begins earlier and ends later."""
    if not actions_per_s:
        return servers.only(servers.start("probe", server.port, options.streams, options.seconds, rate))
    seconds = options.seconds + 2
    load = servers.lines(
        servers.start("load", server.port, options.connections, seconds, 10, actions_per_s / 10)
    )
    next(load)  # warm
    found = servers.only(servers.start("probe", server.port, options.streams, options.seconds, rate))
    (meanwhile,) = load
    return {"actions_per_s": meanwhile["actions_per_s"]} | found
