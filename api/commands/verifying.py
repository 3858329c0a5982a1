"""`verify`, `head`, `verify-decision`: the ledger itself."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import Clock
from api.commands.common import Add, Refused, database, existing_ledger, faults_of, read, say
from api.commands.progress import Progress
from api.settings import Settings
from api.transfer import decision, lines
from domain import instants
from domain.errors import Fault, InvalidInput
from eventstore import signing, verifying
from eventstore.signing import Head
from eventstore.verifying import Broken, Sound
from projections import lookups
from projections.version import engine_version


def add(command: Add) -> None:
    """Register the commands."""
    checking = command("verify", _verify, "check the ledger: sequences, versions, hashes, checkpoints")
    checking.add_argument("--product", help="this product only")
    checking.add_argument(
        "--head", type=Path, help="what `head` printed earlier: the ledger must still hold all of that"
    )
    database(checking)
    telling = command(
        "head", _head, "print the signed place of each product's newest event; keep it elsewhere"
    )
    telling.add_argument("--product", help="this product only")
    database(telling)
    deciding = command("verify-decision", _verify_decision, "check an exported decision, without any ledger")
    deciding.add_argument("file", type=Path)
    deciding.add_argument("--public-key", help="what must have signed it, as `head` prints it")


# --- verify --------------------------------------------------------------------------------------


def _verify(settings: Settings, options: argparse.Namespace) -> int:
    heads = _heads(options.head) if options.head is not None else []
    return asyncio.run(_verified(settings, options.product, heads))


def _heads(path: Path) -> list[tuple[Head, str]]:
    """The heads of a file, each with the public key that signed it."""
    found: list[tuple[Head, str]] = []
    with faults_of(path):
        for number, text in lines.numbered(read(path).splitlines()):
            with lines.at_line(number):
                found.append(_signed_head(text))
        if not found:
            raise InvalidInput([Fault("", "holds no signed head")])
    return found


def _signed_head(text: bytes) -> tuple[Head, str]:
    try:
        value = orjson.loads(text)
        head = Head(
            str(value["product"]),
            int(value["product_seq"]),
            bytes.fromhex(value["chain_hash"]),
            instants.parse(value["recorded_at"]),
        )
    except KeyError as error:
        raise InvalidInput([Fault(str(error.args[0]), "is required")]) from None
    except (TypeError, ValueError):
        raise InvalidInput([Fault("", "is no signed head as `head` prints them")]) from None
    if not signing.holds(value):
        raise InvalidInput([Fault("signature", "is not of this head")])
    return head, value["public_key"]


async def _verified(settings: Settings, product: str | None, heads: Sequence[tuple[Head, str]]) -> int:
    async with existing_ledger(settings) as ledger, ledger.reader() as conn:
        scope = await verifying.begin(conn)
        known = await lookups.products(conn)
        if product is not None and product not in known:
            raise Refused(f"no product {product!r}")
        results: list[Sound | Broken] = []
        with Progress("verify", scope.head if product is None else None) as progress:
            for name in known if product is None else [product]:
                so_far = sum(result.events for result in results if isinstance(result, Sound))
                results.append(await verifying.verify_product(conn, name, scope, progress.behind(so_far)))
        results += await _against(conn, heads, product)
        if product is None:
            results += await _whole(conn, scope, results)
    broken = [result for result in results if isinstance(result, Broken)]
    for fault in sorted(broken, key=lambda fault: (fault.position is None, fault.position or 0)):
        say(f"BROKEN  {_where(fault)}: {fault.what}")
    for sound in results:
        if isinstance(sound, Sound):
            say(f"{sound.product}: {sound.events} events, head {sound.chain_hash.hex()}")
    if not broken:
        say(f"the ledger holds: {sum(r.events for r in results if isinstance(r, Sound))} events checked")
    return 1 if broken else 0


async def _against(
    conn: AsyncConnection, heads: Sequence[tuple[Head, str]], product: str | None
) -> list[Broken]:
    """What of the signed heads the ledger does not hold any more."""
    found: list[Broken] = []
    for head, public_key in heads:
        if product is not None and head.product != product:
            continue
        fault = await verifying.verify_head(conn, head)
        if fault is not None:
            found.append(fault)
        elif await signing.public_key(conn, head.product) != public_key:
            say(f"{head.product}: the head was signed with another ledger's key, {public_key}")
    return found


async def _whole(
    conn: AsyncConnection, scope: verifying.Scope, results: Sequence[Sound | Broken]
) -> list[Broken]:
    """What is wrong with the ledger as a whole. Gaps are looked for where every product is sound."""
    found = [
        Broken("", f"checkpoint {name} is at position {position}, the ledger ends at {scope.head}")
        for name, position in await verifying.checkpoints_beyond(conn, scope.head)
    ]
    if all(isinstance(result, Sound) for result in results):
        held = sum(result.events for result in results if isinstance(result, Sound))
        gap = await verifying.first_gap(conn, scope.head, held)
        if gap is not None:
            found.append(Broken("", "holds no event: it was removed", position=gap))
    return found


def _where(fault: Broken) -> str:
    parts = [f"product {fault.product}"] if fault.product else ["ledger"]
    if fault.product_seq is not None:
        parts.append(f"sequence {fault.product_seq}")
    if fault.stream is not None:
        parts.append(f"{fault.stream} version {fault.version}")
    if fault.position is not None:
        parts.append(f"position {fault.position}")
    return ", ".join(parts)


# --- head ----------------------------------------------------------------------------------------


def _head(settings: Settings, options: argparse.Namespace) -> int:
    return asyncio.run(_headed(settings, options.product))


async def _headed(settings: Settings, product: str | None) -> int:
    async with existing_ledger(settings) as ledger:
        async with ledger.reader() as conn:
            known = await lookups.products(conn)
        if product is not None and product not in known:
            raise Refused(f"no product {product!r}")
        for name in known if product is None else [product]:
            key = await signing.key_of(ledger, name, Clock().now())
            async with ledger.reader() as conn:
                head = await verifying.newest(conn, name)
            say(orjson.dumps(signing.sign(_head_json(head), key)).decode())
    return 0


def _head_json(head: Head) -> dict[str, Any]:
    return {
        "product": head.product,
        "product_seq": head.product_seq,
        "chain_hash": head.chain_hash.hex(),
        "recorded_at": instants.text(head.recorded_at),
    }


# --- verify-decision -----------------------------------------------------------------------------


def _verify_decision(settings: Settings, options: argparse.Namespace) -> int:
    with faults_of(options.file):
        file = decision.read(read(options.file))
    say(f"decision {file.document['decision_id']} of product {file.product}")
    wrong = decision.broken(file)
    if wrong is not None:
        say(f"BROKEN  {wrong}")
        return 1
    say(f"signed with {file.document['public_key']}")
    if options.public_key is not None and options.public_key.lower() != file.document["public_key"].lower():
        say("BROKEN  that is not the key that was asked for")
        return 1
    row = file.decision
    say(f"recorded {instants.text(row.recorded_at)}, {row.type}, {row.stream} version {row.version}")
    say(f"decided by engine {row.engine_version}, now by {engine_version()}")
    verdict = asyncio.run(decision.again(file))
    if verdict.reproduced is None:
        say(f"cannot be known: {verdict.why}")
        return 2
    if verdict.reproduced:
        say("reproduced: the same inputs give the same decision")
        return 0
    say("diverges")
    say(f"  recorded {orjson.dumps(verdict.recorded).decode()}")
    say(f"  derived  {orjson.dumps(verdict.derived).decode()}")
    return 1
