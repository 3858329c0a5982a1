"""`rebuild`: the projections derived anew beside the live ones, and switched where they differ."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import orjson

from api.clock import Clock
from api.commands.common import Add, database, existing_ledger, say
from api.commands.progress import Progress
from api.predicates import Registry
from api.settings import Settings
from projections.rebuilding import rebuild
from projections.rebuilding.differing import PROJECTIONS, Change
from projections.rebuilding.rebuild import Report
from projections.rebuilding.retrying import Poison


def add(command: Add) -> None:
    """Register the command."""
    rebuilding = command("rebuild", _rebuild, "derive the tables anew beside the live ones and repair them")
    rebuilding.add_argument(
        "projections", nargs="*", metavar="PROJECTION", help=f"{', '.join(PROJECTIONS)} (all)"
    )
    how = rebuilding.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="compare and list, change nothing")
    how.add_argument("--rollback", action="store_true", help="put back what the last rebuild changed")
    rebuilding.add_argument("--restart", action="store_true", help="do not go on where a run was cancelled")
    database(rebuilding)


def _rebuild(settings: Settings, options: argparse.Namespace) -> int:
    return asyncio.run(_rolled_back(settings) if options.rollback else _rebuilt(settings, options))


async def _rebuilt(settings: Settings, options: argparse.Namespace) -> int:
    predicates = Registry(settings.predicate_budget_ms / 1000)
    try:
        async with existing_ledger(settings) as ledger:
            with _Stages() as stages:
                report = await rebuild.rebuild(
                    ledger,
                    options.projections or None,
                    now=Clock().now(),
                    on_progress=stages.show,
                    dry_run=options.dry_run,
                    restart=options.restart,
                    predicates=predicates.run,
                )
    finally:
        predicates.close()
    _tell(report)
    return 0


class _Stages(contextlib.ExitStack):
    """A line of progress for each thing that is done, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._stage = ""
        self._progress = Progress("rebuild")

    def show(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage = stage
            self._progress = self.enter_context(Progress(f"rebuild: {stage}", total))
        self._progress.total = total
        self._progress(done)


async def _rolled_back(settings: Settings) -> int:
    async with existing_ledger(settings) as ledger:
        done = await rebuild.roll_back(ledger)
    _list(done.put_back, "put back")
    _list(done.kept, "changed since, kept")
    say(f"put back {_count(done.put_back)}; {_count(done.kept)} changed since and stay as they are")
    return 0


def _tell(report: Report) -> None:
    _list(report.changes, "")
    for live, anew, name in ((c.live, c.anew, c.projection) for c in report.comparisons):
        verdict = "equal" if live == anew else "differ"
        say(f"{name:<10} live {live.rows:>9} rows {live.hexadecimal[:16]}")
        say(f"{'':<10} anew {anew.rows:>9} rows {anew.hexadecimal[:16]}  {verdict}")
    for each in report.poisoned:
        say(f"POISON  {_place(each)}: {each.error}")
    for each in report.healed:
        say(f"healed  {_place(each)}")
    what = "changed" if report.switched else "would change"
    say(f"{what} {_count(report.changes)}, as of position {report.position}; nothing was delivered")


def _list(changes: Sequence[Change], note: str) -> None:
    for (product, session_id), rows in groupby(changes, key=lambda c: (c.product, c.session_id)):
        say(f"{product} session {session_id}{': ' + note if note else ''}")
        for change in rows:
            name = "/".join(str(part) for part in change.key if part not in (product, session_id))
            where = f"{change.projection} {name}".rstrip()
            say(f"  {change.kind:<8} {where}{_columns(change)}")


def _columns(change: Change) -> str:
    listed = ", ".join(
        f"{name} {_shown(old)} -> {_shown(new)}" for name, (old, new) in change.columns.items()
    )
    return f": {listed}" if listed else ""


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode()


def _count(changes: Iterable[Change]) -> str:
    listed = list(changes)
    sessions = len({(change.product, change.session_id) for change in listed})
    return f"{len(listed)} rows of {sessions} sessions"


def _place(each: Poison) -> str:
    return f"{each.projection} position {each.position}: {each.product} {each.stream} {each.type}"
