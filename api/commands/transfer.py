"""`export`, `import`, `backfill`: CloudEvents lines."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.commands.common import Add, Refused, database, existing_ledger, faults_of, ledger_of, say
from api.commands.progress import Progress
from api.settings import Settings
from api.transfer import backfilling, decision, exporting, importing
from eventstore import signing, verifying
from eventstore.engine import Ledger
from projections import lookups
from projections.rebuilding import rebuild


def add(command: Add) -> None:
    """Register the commands."""
    out = command(
        "export", _export, "write a product's events as CloudEvents lines, or one decision as a file"
    )
    out.add_argument("--product", help="needed where the ledger holds several")
    out.add_argument("--out", type=Path, help="file to write or, where an export broke off, to go on with")
    out.add_argument(
        "--keys",
        type=Path,
        help="also write the data keys, into a file of their own that only you may read. Without it nobody "
        "can read the personal fields of the export. With it they can be read for ever, also those of "
        "people who are erased later: keep it apart, and destroy it when it has served",
    )
    out.add_argument("--decision", metavar="ID", help="this decision alone, for `verify-decision`")
    database(out)
    taking = command(
        "import", _import, "take an export into an empty product: verbatim, nothing is evaluated"
    )
    taking.add_argument("file", type=Path)
    taking.add_argument("--product", help="whose events the file must hold")
    taking.add_argument("--keys", type=Path, help="the data keys that were exported with it")
    database(taking)
    filling = command("backfill", _backfill, "record outside events of long ago as history, unevaluated")
    filling.add_argument("file", type=Path)
    filling.add_argument("--product", required=True)
    database(filling)


@contextlib.contextmanager
def _opened(path: Path, mode: str = "rb") -> Iterator[IO[bytes]]:
    try:
        file = path.open(mode)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    with file:
        yield file


# --- export --------------------------------------------------------------------------------------


def _export(settings: Settings, options: argparse.Namespace) -> int:
    if options.decision is not None and options.keys is not None:
        raise Refused("--keys goes with all of a product's events, not with one decision")
    return asyncio.run(_exported(settings, options))


async def _exported(settings: Settings, options: argparse.Namespace) -> int:
    async with existing_ledger(settings) as ledger:
        async with ledger.reader() as conn:
            product = await _the_product(conn, options.product)
        if options.decision is not None:
            await _export_decision(ledger, product, options.decision, options.out)
            return 0
        async with ledger.reader() as conn:
            total = (await verifying.newest(conn, product)).product_seq
            if options.keys is not None:  # first, so that an unwritable file is said before anything is out
                await exporting.write_keys(conn, product, options.keys)
            with Progress("export", total) as progress:
                if options.out is None:
                    await exporting.write(conn, product, sys.stdout.buffer, on_progress=progress)
                else:
                    await _export_file(conn, product, options.out, progress)
            if options.keys is not None:  # and again: people may have come meanwhile
                count = await exporting.write_keys(conn, product, options.keys)
                _note(options, f"{count} data keys in {options.keys}: they open what is sealed, for ever")
    return 0


async def _export_file(conn: AsyncConnection, product: str, path: Path, progress: Progress) -> None:
    with _opened(path, "a+b") as file:
        with faults_of(path):
            after = await exporting.resume(conn, product, file)
        count = await exporting.write(conn, product, file, after=after, on_progress=progress)
        os.fsync(file.fileno())
    say(f"{path}: {count} events of {product} written" + (f", behind {after} that it held" if after else ""))


def _note(options: argparse.Namespace, line: str) -> None:
    if options.out is not None:  # else standard output holds the events
        say(line)


async def _export_decision(ledger: Ledger, product: str, decision_id: str, out: Path | None) -> None:
    async with ledger.reader() as conn:
        content = await decision.gather(conn, product, decision_id)
    whole = decision.signed(content, await signing.key_of(ledger, product, Clock().now()))
    if out is None:
        sys.stdout.buffer.write(whole)
        sys.stdout.buffer.flush()
        return
    with _opened(out, "wb") as file:
        file.write(whole)
    say(f"{out}: decision {decision_id}; check it with `nudgeledger verify-decision {out}`")


async def _the_product(conn: AsyncConnection, named: str | None) -> str:
    known = await lookups.products(conn)
    if named is not None:
        if named not in known:
            raise Refused(f"no product {named!r}")
        return named
    if len(known) != 1:
        raise Refused(f"name a --product: the ledger holds {', '.join(known) or 'none'}")
    return known[0]


# --- import --------------------------------------------------------------------------------------


def _import(settings: Settings, options: argparse.Namespace) -> int:
    with _opened(options.file) as file:
        with faults_of(options.file), Progress("check") as progress:
            product = importing.check(file, options.product, progress)
        keys = []
        if options.keys is not None:
            with _opened(options.keys) as lines, faults_of(options.keys):
                keys = importing.read_keys(lines, product)
        return asyncio.run(_imported(settings, product, file, keys))


async def _imported(settings: Settings, product: str, file: IO[bytes], keys: list[exporting.DataKey]) -> int:
    async with ledger_of(settings) as ledger:
        async with ledger.reader() as conn:
            file.seek(0)
            after = await importing.place(conn, product, file)
        added = await importing.write_keys(ledger, product, keys)
        file.seek(0)
        with Progress("import") as progress:
            count = await importing.write(ledger, product, file, after, progress)
        await rebuild.rebuild(ledger, now=Clock().now())  # the projections, from what is there now
    behind = f", behind {after} that were there" if after else ""
    say(f"{product}: {count} events imported{behind}; {added} data keys added")
    return 0


# --- backfill ------------------------------------------------------------------------------------


def _backfill(settings: Settings, options: argparse.Namespace) -> int:
    clock = Clock()
    with _opened(options.file) as file:
        with faults_of(options.file), Progress("check") as progress:
            total = 0
            for total, _ in backfilling.read(file, clock.now()):
                progress(total)
        file.seek(0)
        return asyncio.run(_backfilled(settings, options.product, file, clock, total))


async def _backfilled(settings: Settings, product: str, file: IO[bytes], clock: Clock, total: int) -> int:
    from api.service import Service

    async with existing_ledger(settings) as ledger:
        service = Service(ledger, settings, clock)
        await service.product(product)
        await service.recorder.start()
        try:
            with Progress("backfill", total) as progress:
                counts = await backfilling.write(service.recorder, clock, product, file, progress)
        finally:
            await service.stop()
    say(
        f"{product}: {counts['accepted']} events recorded as history, {counts['duplicates']} were there"
        + (f", {counts['conflicting']} of them with other content" if counts["conflicting"] else "")
    )
    return 0
