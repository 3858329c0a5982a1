"""`why`, `why-not`: an explanation as readable text."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson

from api.clock import Clock
from api.commands import readable
from api.commands.common import Add, Refused, database, existing_ledger, say
from api.explaining import Explaining
from api.predicates import Registry
from api.settings import Settings
from domain import instants
from domain.envelope import ENGINE, session_stream
from eventstore import reader
from eventstore.engine import Ledger
from projections import lookups


def add(command: Add) -> None:
    """Register the commands."""
    asking = command("why", _why, "why a nudge was offered or held back")
    asking.add_argument("id", help="of the decision or the nudge")
    missing = command("why-not", _why_not, "why a trigger did not fire in a session")
    missing.add_argument("--session", required=True)
    missing.add_argument("--trigger", required=True)
    missing.add_argument("--at", help="instant, RFC 3339 with offset or UNIX seconds (now)")
    for parser in (asking, missing):
        parser.add_argument("--product", help="may be left out where only one product has it")
        parser.add_argument("--json", action="store_true", help="the answer of the API instead of text")
        database(parser)


def _why(settings: Settings, options: argparse.Namespace) -> int:
    async def run() -> dict[str, Any]:
        async with _explaining(settings) as (ledger, explaining):

            async def has(product: str) -> bool:
                async with ledger.reader() as conn:
                    return bool(await reader.find_ids(conn, product, ENGINE, [options.id]))

            product = await _product(ledger, options.product, has, f"decision {options.id!r}")
            return await explaining.decision(product, options.id)

    return _tell(asyncio.run(run()), options)


def _why_not(settings: Settings, options: argparse.Namespace) -> int:
    at = _instant(options.at)

    async def run() -> dict[str, Any]:
        async with _explaining(settings) as (ledger, explaining):

            async def has(product: str) -> bool:
                key = (product, session_stream(options.session))
                async with ledger.reader() as conn:
                    return (await reader.versions(conn, [key])).get(key, 0) > 0

            product = await _product(ledger, options.product, has, f"session {options.session!r}")
            return await explaining.why_not(product, options.session, options.trigger, at)

    return _tell(asyncio.run(run()), options)


@contextlib.asynccontextmanager
async def _explaining(settings: Settings) -> AsyncIterator[tuple[Ledger, Explaining]]:
    predicates = Registry(settings.predicate_budget_ms / 1000)
    async with existing_ledger(settings) as ledger:
        try:
            yield ledger, Explaining(ledger, Clock(), predicates)
        finally:
            predicates.close()


async def _product(
    ledger: Ledger, named: str | None, has: Callable[[str], Awaitable[bool]], what: str
) -> str:
    """The product meant: the one named, else the only one that has it. Raises Refused."""
    async with ledger.reader() as conn:
        known = await lookups.products(conn)
    if named is not None:
        if named not in known:
            raise Refused(f"no product {named!r}")
        return named
    found = [product for product in known if await has(product)]
    if not found:
        raise Refused(f"no {what} in this ledger")
    if len(found) > 1:
        raise Refused(f"{what} is in several products ({', '.join(found)}): say which by --product")
    return found[0]


def _instant(value: str | None) -> int | None:
    if value is None:
        return None
    try:
        at = instants.parse(value)
    except ValueError as error:
        raise Refused(f"--at: {error}") from None
    if at > Clock().now():
        raise Refused("--at: lies in the future: nothing is known of it yet")
    return at


def _tell(told: dict[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        say(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        for line in readable.explanation(told):
            say(line)
    return 0
