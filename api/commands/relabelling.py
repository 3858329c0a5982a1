"""`relabel`: labels that were wrong, corrected by events."""

from __future__ import annotations

import argparse
import asyncio

from api import labels
from api.clock import Clock
from api.commands.common import Add, Refused, database, existing_ledger, say
from api.commands.progress import Progress
from api.settings import Settings
from domain.envelope import session_stream
from eventstore import reader
from eventstore.engine import Ledger
from projections import lookups


def add(command: Add) -> None:
    """Register the command."""
    correcting = command(
        "relabel", _relabel, "show which actions this version labels otherwise, and correct them"
    )
    correcting.add_argument("--product", required=True)
    correcting.add_argument("--session", help="this session only")
    correcting.add_argument("--apply", action="store_true", help="append the corrections as events")
    database(correcting)


def _relabel(settings: Settings, options: argparse.Namespace) -> int:
    return asyncio.run(_relabelled(settings, options.product, options.session, options.apply))


async def _relabelled(settings: Settings, product: str, session_id: str | None, apply: bool) -> int:
    looked = labels.Looked()
    wanted: list[labels.Change] = []
    async with existing_ledger(settings) as ledger:
        await _require(ledger, product, session_id)
        with Progress("relabel") as progress:
            async with ledger.reader() as conn:
                async for change in labels.changes(conn, product, looked, session_id, progress):
                    say(_line(change))
                    wanted.append(change)
        say(
            f"{looked.actions} actions of sources that are labelled here: {len(wanted)} would change, "
            f"{looked.without_body} without a kept body, {looked.erased} erased"
        )
        if not apply or not wanted:
            return 0
        count = await _apply(ledger, settings, product, wanted)
    say(f"{count} corrections appended. Decisions taken earlier keep the label they saw, so `replay` stays")
    say("as it was; `why-not` says what would be decided now, `backtest` what the window would give.")
    return 0


async def _apply(ledger: Ledger, settings: Settings, product: str, wanted: list[labels.Change]) -> int:
    from api.service import Service

    clock = Clock()
    service = Service(ledger, settings, clock)
    await service.recorder.start()
    try:
        return await labels.apply(service.recorder, clock, product, wanted)
    finally:
        await service.stop()


async def _require(ledger: Ledger, product: str, session_id: str | None) -> None:
    async with ledger.reader() as conn:
        if product not in await lookups.products(conn):
            raise Refused(f"no product {product!r}")
        if session_id is not None and not await reader.read_stream(
            conn, product, session_stream(session_id), limit=1
        ):
            raise Refused(f"no session {session_id!r} in product {product!r}")


def _line(change: labels.Change) -> str:
    """`session-ps_1 version 7: title "Edit" -> "Save changes"`."""
    told = [
        f"{name} {old!r} -> {new!r}"
        for name, old, new in zip(change.before._fields, change.before, change.after, strict=True)
        if old != new
    ]
    return f"{change.session_id} version {change.version}: {', '.join(told)}"
