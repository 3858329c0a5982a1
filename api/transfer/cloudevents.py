"""An event of the ledger as a CloudEvents 1.0 JSON line, and back, byte for byte.

The stored data stands in the line as it is. Where reading and writing JSON would not give the same bytes
again, it goes as `data_base64`. Columns that CloudEvents has no word for are extension attributes; instants
in them are RFC 3339. Attributes that are NULL are left out. `position` is not among them: it belongs to
the ledger and not to the event.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import orjson

from domain import instants
from domain.envelope import Recorded
from domain.errors import Fault, InvalidInput

SPECVERSION = "1.0"
_SOURCE = "/products/"
_MOST = 2**63 - 1  # what the ledger's columns hold


class Column(NamedTuple):
    """How a column is written as an attribute, and read again; `read` raises ValueError."""

    attribute: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    required: bool = True


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("must be text")
    if "\0" in value:
        raise ValueError("holds NUL (U+0000)")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError("must be a whole number from 0")
    return value


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def _instant(value: Any) -> int:
    return instants.parse(_text(value))


def _hash(value: Any) -> bytes:
    if not re.fullmatch("[0-9a-f]{64}", _text(value)):
        raise ValueError("must be 64 hexadecimal digits")
    return bytes.fromhex(value)


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except binascii.Error:
        raise ValueError("must be base64") from None


def _product(value: Any) -> str:
    if not _text(value).startswith(_SOURCE) or len(value) == len(_SOURCE):
        raise ValueError(f"must be {_SOURCE}<product>")
    return unquote(value.removeprefix(_SOURCE))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _same(value: Any) -> Any:
    return value


# Every column of the ledger but `position` and `data`, in the order of a line.
COLUMNS: dict[str, Column] = {
    "event_id": Column("id", _same, _text),
    "product": Column("source", lambda product: _SOURCE + quote(product, safe=""), _product),
    "type": Column("type", _same, _text),
    "stream": Column("subject", _same, _text),
    "occurred_at": Column("time", instants.text, _instant),
    "product_seq": Column("productseq", _same, _integer),
    "version": Column("version", _same, _integer),
    "schema_version": Column("schemaversion", _same, _integer),
    "origin": Column("origin", _same, _text),
    "at": Column("at", instants.text, _instant),
    "recorded_at": Column("recordedat", instants.text, _instant),
    "occurred_raw": Column("occurredraw", _same, _text, False),
    "sent_raw": Column("sentraw", _same, _text, False),
    "clock_suspect": Column("clocksuspect", _same, _boolean),
    "batch_id": Column("batchid", _same, _text),
    "correlation_id": Column("correlationid", _same, _text, False),
    "causation_id": Column("causationid", _same, _text, False),
    "source": Column("via", _same, _text),
    "config_revision": Column("configrevision", _same, _text, False),
    "engine_version": Column("engineversion", _same, _text),
    "sealed": Column("sealed", _base64, _bytes, False),
    "key_id": Column("keyid", _same, _text, False),
    "content_hash": Column("contenthash", bytes.hex, _hash),
    "chain_hash": Column("chainhash", bytes.hex, _hash),
}
_PLACES = [(Recorded._fields.index(name), column) for name, column in COLUMNS.items()]
_ATTRIBUTES = frozenset(column.attribute for column in COLUMNS.values())
_FIXED = frozenset(("specversion", "datacontenttype", "data", "data_base64"))


def attributes(row: Recorded) -> dict[str, Any]:
    """All but the data."""
    found: dict[str, Any] = {"specversion": SPECVERSION}
    for place, column in _PLACES:
        value = row[place]
        if value is not None:
            found[column.attribute] = column.write(value)
    found["datacontenttype"] = "application/json"
    return found


def is_plain(data: bytes) -> bool:
    """Whether reading and writing this JSON gives the same bytes again."""
    try:
        return orjson.dumps(orjson.loads(data)) == data
    except orjson.JSONDecodeError:
        return False


def line(row: Recorded) -> bytes:
    """The event as one line, with its end."""
    head = orjson.dumps(attributes(row))[:-1]
    if is_plain(row.data):
        return b'%b,"data":%b}\n' % (head, row.data)
    return b'%b,"data_base64":"%b"}\n' % (head, base64.b64encode(row.data))


def parse(value: Any, extra: frozenset[str] = frozenset()) -> Recorded:
    """The event of an object; its position is 0. `extra`: further attributes that it may have.

    Raises InvalidInput with every fault, each at its attribute.
    """
    if type(value) is not dict:
        raise InvalidInput([Fault("", "must be an object")])
    faults = [
        Fault(name, "is no attribute of an exported event")
        for name in value
        if name not in _ATTRIBUTES and name not in _FIXED and name not in extra
    ]
    if value.get("specversion") != SPECVERSION:
        faults.append(Fault("specversion", f"must be {SPECVERSION}"))
    read: dict[str, Any] = {"position": 0}
    for name, column in COLUMNS.items():
        given = value.get(column.attribute)
        if given is None:
            if column.required:
                faults.append(Fault(column.attribute, "is required"))
            read[name] = None
            continue
        try:
            read[name] = column.read(given)
        except ValueError as error:
            faults.append(Fault(column.attribute, str(error)))
    if ("data" in value) == ("data_base64" in value):
        faults.append(Fault("data", "one of data and data_base64 is required"))
    elif "data" in value:
        read["data"] = orjson.dumps(value["data"])
    else:
        try:
            read["data"] = _bytes(value["data_base64"])
        except ValueError as error:
            faults.append(Fault("data_base64", str(error)))
    if faults:
        raise InvalidInput(faults)
    return Recorded(**read)


def parse_line(text: bytes) -> Recorded:
    """The event of a line. Raises InvalidInput with every fault, each at its attribute."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput([Fault("", f"malformed JSON: {error.msg}")]) from None
    return parse(value)
