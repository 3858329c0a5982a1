"""`replay`: every recorded decision and transition derived again and compared."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import orjson

from api import replaying, workers
from api.commands import side_by_side
from api.commands.common import Add, Refused, database, existing_ledger, say
from api.commands.progress import Progress
from api.replaying import Share
from api.settings import Settings
from domain.instants import text
from projections.replaying.divergence import Divergence, Report


def add(command: Add) -> None:
    """Register the command."""
    parser = command("replay", _replay, "derive every recorded decision again and compare")
    parser.epilog = (
        "Every recorded request and timer is judged, the last ones too. What a timer should have brought "
        "after a session's last event is not: nothing in the ledger says whether anybody was there to look."
    )
    parser.add_argument("--product", help="this product only")
    parser.add_argument("--session", help="report this session only")
    parser.add_argument("--from", dest="start", type=int, default=1, help="first position")
    parser.add_argument("--to", dest="end", type=int, help="last position; default: the newest")
    parser.add_argument("--processes", type=int, help="default: one, and on a large ledger one for each core")
    parser.add_argument("--json", action="store_true", help="JSON lines: each divergence, then the counts")
    database(parser)


def _replay(settings: Settings, options: argparse.Namespace) -> int:
    if options.processes is not None and options.processes < 1:
        raise Refused("--processes must be 1 or more")
    started = time.perf_counter()
    planned = asyncio.run(_planned(settings, options))
    with Progress("replay", replaying.total(planned)) as progress:
        try:
            report = replaying.run(planned, progress)
        except workers.WorkFailed as error:
            raise Refused(f"replay: {error}") from None
    _say_json(report) if options.json else _say_text(report)
    sys.stderr.write(f"replay: {time.perf_counter() - started:.1f} s, processes: {len(planned)}\n")
    return 1 if report.divergences else 0


async def _planned(settings: Settings, options: argparse.Namespace) -> list[Share]:
    async with existing_ledger(settings) as ledger:
        return await replaying.plan(
            ledger,
            product=options.product,
            session_id=options.session,
            start=options.start,
            end=options.end,
            shares=options.processes,
        )


def _say_text(report: Report) -> None:
    for found in report.divergences:
        say(f"DIVERGES  position {found.position}  {found.product} {found.stream}  {text(found.at)}")
        say(f"  {found.what} {found.event_id}: {found.kind}")
        for line in side_by_side.lines(found.recorded, found.derived):
            say(f"  {line}")
        say("")
    say(
        f"checked {report.decisions} decisions, {report.timeouts} timeouts, {report.transitions} transitions "
        f"and {report.silent} silent evaluations: {len(report.divergences)} diverge, "
        f"{report.unknown} cannot be known, {report.erased} erased"
    )


def _say_json(report: Report) -> None:
    for found in report.divergences:
        say(orjson.dumps(_row(found)).decode())
    counts = {
        name: getattr(report, name)
        for name in ("decisions", "timeouts", "transitions", "silent", "unknown", "erased")
    }
    say(orjson.dumps({"kind": "summary", **counts, "divergences": len(report.divergences)}).decode())


def _row(found: Divergence) -> dict[str, object]:
    fields = found._asdict()
    return {"kind": "divergence", "difference": fields.pop("kind"), **fields, "at": text(found.at)}
