"""`backtest`: what a config would have decided, over an events file or over a window of the ledger."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from api import backtest_request, backtests, events_file, simulating, workers
from api.backtests import Prepared
from api.clock import Clock
from api.commands.common import Add, Refused, database, existing_ledger, faults_of, read, read_config, say
from api.commands.progress import Progress
from api.predicates import Registry
from api.settings import Settings
from domain import config_parse
from domain.envelope import PRODUCT_STREAM
from domain.errors import Fault, InvalidInput
from domain.instants import SECOND
from eventstore import reader
from projections import configs, lookups, version
from projections.backtesting import backtest

_OPTIONS = {"from": "--from", "to": "--to", "until_s": "--until"}  # by what a request calls them


def add(command: Add) -> None:
    """Register the command."""
    parser = command("backtest", _backtest, "what a config would have decided over recorded events")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--events", type=Path, help="JSON lines, instead of a ledger")
    parser.add_argument("--product", help="whose events in the ledger, beside its config in force")
    parser.add_argument("--from", dest="start", metavar="FROM", help="RFC 3339 with offset or UNIX seconds")
    parser.add_argument("--to", dest="end", metavar="TO", help="the last instant; one to come is now")
    parser.add_argument("--until", type=float, default=0.0, help="seconds to run past the last event (0)")
    parser.add_argument("--processes", type=int, help="default: as many as the window is worth")
    database(parser)


def _backtest(settings: Settings, options: argparse.Namespace) -> int:
    window = [options.product, options.start, options.end]
    if options.events is not None and [*window, options.processes] == [None] * 4:
        return _over_file(settings, options)
    if options.events is not None or None in window:
        raise Refused("backtest: say either --events, or --product, --from and --to")
    return _over_ledger(settings, options)


# --- an events file ----------------------------------------------------------------------------------


def _over_file(settings: Settings, options: argparse.Namespace) -> int:
    started = time.perf_counter()
    raw = read_config(options.config)
    with faults_of(options.config):
        parsed = config_parse.parse(raw)
    with faults_of(options.events):
        batches = backtest.batches(events_file.read(read(options.events).splitlines()))
    if not 0 <= options.until < 1e9:
        raise Refused("--until is a number of seconds, 0 or more")
    revision = configs.Revision(f"r1-{configs.digest(raw)}", 0, 0, raw)
    predicates = Registry(settings.predicate_budget_ms / 1000)
    rules = configs.ruleset(parsed.product_id, revision, predicates.run)
    until = round(options.until * SECOND)
    for row in backtest.run(parsed.product_id, rules, batches, until):
        if row["kind"] == "summary":
            row["seconds"] = time.perf_counter() - started
        sys.stdout.buffer.write(backtest.line(row))
    sys.stdout.buffer.flush()
    return 0


# --- the ledger --------------------------------------------------------------------------------------


def _over_ledger(settings: Settings, options: argparse.Namespace) -> int:
    if options.processes is not None and options.processes < 1:
        raise Refused("--processes must be 1 or more")
    raw = read_config(options.config)
    with faults_of(options.config):
        backtest_request.check(raw, options.product)
    prepared = asyncio.run(_prepared(settings, options, raw))
    with Progress("backtest", prepared.total) as progress:
        try:
            outcome = simulating.carry_out(prepared.plan, processes=options.processes, on_progress=progress)
        except workers.WorkFailed as error:
            raise Refused(f"backtest: {error}") from None
    say(orjson.dumps(outcome.result).decode())
    return 0


async def _prepared(settings: Settings, options: argparse.Namespace, raw: Any) -> Prepared:
    body = {"config": raw, "from": options.start, "to": options.end, "until_s": options.until}
    try:
        asked = backtest_request.parse(body, options.product, Clock().now())
    except InvalidInput as error:
        faults = [Fault(_OPTIONS.get(fault.path, fault.path), fault.detail) for fault in error.faults]
        raise InvalidInput(faults) from None
    predicates = Registry(settings.predicate_budget_ms / 1000)
    engine = version.engine(predicates.versions())
    predicates.close()
    async with existing_ledger(settings) as ledger, ledger.reader() as conn:
        if options.product not in await lookups.products(conn):
            raise Refused(f"no product {options.product!r}")
        state = configs.fold(await reader.read_stream(conn, options.product, PRODUCT_STREAM))
        return await backtests.prepare(conn, ledger.url, settings, options.product, state, engine, asked)
