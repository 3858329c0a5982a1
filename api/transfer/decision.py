"""One decision as a file of its own, and the check of such a file without any ledger.

The file holds the decision's event, every event that the decision read, the activation of the config it was
decided under, each with its hashes and the chain hash before it, all signed with the product's key. So
whoever has the file and knows the key can see that nothing in it was changed, and decide again.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.ext.asyncio import AsyncConnection

from api.transfer import cloudevents
from domain.envelope import PRODUCT_STREAM, Recorded
from domain.errors import Fault, InvalidInput
from eventstore import chain, reader, signing, statements
from projections import rederive
from projections.readable import Told
from projections.version import engine_version

FORMAT = "nudgeledger-decision/1"
_PREVIOUS = "previouschainhash"
_KEYS = frozenset(
    (
        "format",
        "product",
        "decision_id",
        "exported_by",
        "decision",
        "config",
        "read",
        "public_key",
        "signature",
    )
)


# --- out -----------------------------------------------------------------------------------------


async def gather(conn: AsyncConnection, product: str, decision_id: str) -> dict[str, Any]:
    """The file's content, not yet signed. Raises NotFound where there is no such decision."""
    row = await rederive.find(conn, product, decision_id)
    read: dict[str, int] = orjson.loads(row.data)["explanation"]["read"]
    streams: dict[str, list[dict[str, Any]]] = {}
    for stream, version in read.items():
        rows = await reader.read_stream(conn, product, stream, up_to=version)
        streams[stream] = await _with_links(conn, product, rows)
    config = await _activation(conn, product, row.config_revision)
    return {
        "format": FORMAT,
        "product": product,
        "decision_id": decision_id,
        "exported_by": engine_version(),
        "decision": (await _with_links(conn, product, [row]))[0],
        "config": (await _with_links(conn, product, [config]))[0] if config is not None else None,
        "read": streams,
    }


def signed(content: Mapping[str, Any], key: Ed25519PrivateKey) -> bytes:
    """The file."""
    return orjson.dumps(signing.sign(content, key), option=orjson.OPT_INDENT_2) + b"\n"


async def _activation(conn: AsyncConnection, product: str, revision: str | None) -> Recorded | None:
    if revision is None:
        return None
    rows = await reader.read_stream(conn, product, PRODUCT_STREAM)
    return next((row for row in rows if _revision_of(row) == revision), None)


def _revision_of(row: Recorded) -> str | None:
    return orjson.loads(row.data)["revision"] if row.type == "config_activated" else None


async def _with_links(conn: AsyncConnection, product: str, rows: Sequence[Recorded]) -> list[dict[str, Any]]:
    """Rows as attributes, each with the chain hash of the event before it in the product."""
    before = [row.product_seq - 1 for row in rows]
    found = await statements.fetch_by_list(
        conn,
        "SELECT e.product_seq, e.chain_hash FROM json_each($1) k CROSS JOIN events e "
        "ON e.product_seq = k.value AND e.product = $2",
        "SELECT e.product_seq, e.chain_hash FROM unnest($1::bigint[]) AS k (seq) "
        "JOIN events e ON e.product_seq = k.seq AND e.product = $2",
        before,
        product,
    )
    links = {0: chain.START} | {seq: bytes(link) for seq, link in found}
    return [{**_object(row), _PREVIOUS: links[row.product_seq - 1].hex()} for row in rows]


def _object(row: Recorded) -> dict[str, Any]:
    found = cloudevents.attributes(row)
    if cloudevents.is_plain(row.data):
        data = orjson.loads(row.data)
        try:
            rfc8785.dumps(data)  # what is signed must have a canonical form
        except ValueError:
            pass
        else:
            return {**found, "data": data}
    return {**found, "data_base64": base64.b64encode(row.data).decode()}


# --- in ------------------------------------------------------------------------------------------


class DecisionFile(NamedTuple):
    """A file as it was read; nothing of it is believed yet."""

    document: Mapping[str, Any]
    product: str
    decision: Recorded
    config: Recorded | None
    streams: Mapping[str, list[Recorded]]
    previous: Mapping[int, bytes]  # product sequence -> chain hash before it

    def rows(self) -> Iterable[Recorded]:
        yield self.decision
        if self.config is not None:
            yield self.config
        for rows in self.streams.values():
            yield from rows


def read(raw: bytes) -> DecisionFile:
    """Raises InvalidInput where these bytes are no decision file."""
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidInput([Fault("", f"malformed JSON: {error.msg}")]) from None
    if type(document) is not dict or document.get("format") != FORMAT:
        raise InvalidInput([Fault("format", f"must be {FORMAT}")])
    if missing := sorted(_KEYS - document.keys()):
        raise InvalidInput([Fault(name, "is required") for name in missing])
    if type(document["read"]) is not dict or type(document["product"]) is not str:
        raise InvalidInput([Fault("read", "must be an object of streams")])
    previous: dict[int, bytes] = {}
    decision = _row(document["decision"], "decision", previous)
    config = None if document["config"] is None else _row(document["config"], "config", previous)
    streams = {
        stream: [
            _row(value, f"read.{stream}[{i}]", previous) for i, value in enumerate(_list(stream, values))
        ]
        for stream, values in document["read"].items()
    }
    return DecisionFile(document, document["product"], decision, config, streams, previous)


def _list(stream: str, values: Any) -> list[Any]:
    if type(values) is not list:
        raise InvalidInput([Fault(f"read.{stream}", "must be a list of events")])
    return values


def _row(value: Any, path: str, previous: dict[int, bytes]) -> Recorded:
    try:
        row = cloudevents.parse(value, frozenset((_PREVIOUS,)))
        link = bytes.fromhex(value.get(_PREVIOUS, ""))
    except InvalidInput as error:
        raise InvalidInput([Fault(f"{path}.{f.path}", f.detail) for f in error.faults]) from None
    except (TypeError, ValueError):
        raise InvalidInput([Fault(f"{path}.{_PREVIOUS}", "must be 64 hexadecimal digits")]) from None
    previous[row.product_seq] = link
    return row


def broken(file: DecisionFile) -> str | None:
    """What in the file is not as the ledger wrote it or not complete; None: nothing."""
    if not signing.holds(file.document):
        return "the signature is not of this file"
    links: dict[int, bytes] = {}
    for row in file.rows():
        where = f"sequence {row.product_seq} ({row.stream} version {row.version})"
        if row.product != file.product:
            return f"{where}: is of product {row.product!r}"
        if chain.content_hash(chain.without_place(row)) != row.content_hash:
            return f"{where}: its content is not what was hashed"
        before = file.previous[row.product_seq]
        link = chain.chain_hash(before, row.product_seq, row.version, row.recorded_at, row.content_hash)
        if link != row.chain_hash:
            return f"{where}: the chain is broken"
        links[row.product_seq] = link
    for seq, before in file.previous.items():
        if links.get(seq - 1, before) != before:
            return f"sequence {seq}: does not continue from the event before, which the file holds too"
    return _incomplete(file)


def _incomplete(file: DecisionFile) -> str | None:
    decision = file.decision
    if decision.event_id != file.document["decision_id"] or decision.type not in rederive.DECISIONS:
        return "the event is not the decision that the file is named after"
    if decision.config_revision is not None and (
        file.config is None or _revision_of(file.config) != decision.config_revision
    ):
        return f"config revision {decision.config_revision} is missing"
    try:
        read = dict(orjson.loads(decision.data)["explanation"]["read"])
    except (KeyError, TypeError, ValueError):
        return "the decision does not say what it read"
    for stream, version in read.items():
        held = [(row.stream, row.version) for row in file.streams.get(stream, ())]
        if held != [(stream, n) for n in range(1, version + 1)]:
            return f"{stream} is not whole up to version {version}, which the decision read"
    return None


class _FromFile(rederive.Inputs):
    """What a decision file holds, in place of a ledger. It holds no data keys."""

    def __init__(self, file: DecisionFile) -> None:
        super().__init__(None, file.product)
        self._file = file

    async def read(self, stream: str) -> list[Recorded]:
        if stream == PRODUCT_STREAM:
            return [self._file.config] if self._file.config is not None else []
        return list(self._file.streams.get(stream, ()))

    async def keys(self, rows: Sequence[Told]) -> Mapping[str, bytes]:
        return {}


class Verdict(NamedTuple):
    """What the decision comes to when it is made again."""

    reproduced: bool | None  # None: cannot be known
    why: str | None  # it cannot be known
    recorded: Any
    derived: Any  # None: nothing under the decision's id


async def again(file: DecisionFile) -> Verdict:
    """Decide again, from nothing but the file. Only for one that is not `broken`."""
    row = file.decision
    recorded = orjson.loads(row.data)
    inputs = _FromFile(file)
    rules = await inputs.rules(row.config_revision)
    assert rules is not None  # the file is complete
    if rules.reads_properties and any(r.sealed for r in file.streams.get(row.stream, ())):
        return Verdict(None, "its rules read properties, which are sealed in the file", recorded, None)
    derived = await rederive.derive(inputs, row)
    same = None if derived is None else rederive.confirmed(derived, row)
    if derived is None or same is None:
        return Verdict(
            None, "its rules ask predicates, whose findings are not all in the file", recorded, None
        )
    mine = derived.events.get(row.event_id)
    return Verdict(same, None, recorded, None if mine is None else orjson.loads(mine))
