"""`replay`: every recorded decision derived again and compared."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import orjson

from api.commands.common import Add, database, existing_ledger, say
from api.settings import Settings
from eventstore import reader
from projections import replay


def add(command: Add) -> None:
    """Register the command."""
    replaying = command("replay", _replay, "derive every recorded decision again and compare")
    replaying.add_argument("--product")
    replaying.add_argument("--session")
    replaying.add_argument("--from", dest="start", type=int, default=1, help="first position")
    replaying.add_argument("--to", dest="end", type=int, help="last position")
    database(replaying)


def _replay(settings: Settings, options: argparse.Namespace) -> int:
    return asyncio.run(_replayed(settings, options))


async def _replayed(settings: Settings, options: argparse.Namespace) -> int:
    started = time.perf_counter()
    report = replay.Report()
    async with existing_ledger(settings) as ledger, ledger.reader() as conn:
        head = await reader.head(conn)
        end = min(options.end or head, head)
        found = replay.replay(
            conn, product=options.product, session_id=options.session, start=options.start, end=end
        )
        async for position, so_far in found:
            report = so_far
            if sys.stderr.isatty():
                sys.stderr.write(f"\rreplay: position {position} of {end}")
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    for divergence in report.divergences:
        where = f"{divergence.product} {divergence.stream} position {divergence.position}"
        say(f"DIVERGES  {where}: {divergence.what}")
        say(f"  recorded {orjson.dumps(divergence.recorded).decode()}")
        say(f"  derived  {orjson.dumps(divergence.derived).decode()}")
    say(
        f"checked {report.decisions} decisions and {report.timeouts} timeouts: "
        f"{len(report.divergences)} diverge, {report.unknown} cannot be known, {report.erased} erased "
        f"({time.perf_counter() - started:.1f} s)"
    )
    return 1 if report.divergences else 0
