"""JSON in, without the parts on which two readers could disagree.

Refused, each with its path: malformed text, NUL, lone surrogates, duplicate keys, NaN and infinities,
integers beyond 2^53 either way, nesting deeper than 32.

Good input takes the short way: orjson, a few searches in the bytes, one walk over the value. Whatever
those cannot clear goes the long way: the standard library's parser and an exact walk with paths.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

import orjson

from domain.errors import Fault, InvalidInput

MAX_DEPTH = 32
MAX_INTEGER = 2**53
MAX_FAULTS = 100  # more would help nobody to mend the input

_KEY = re.compile(rb'"[ \t\n\r]*:')
_NUL_OR_SURROGATE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")


def loads(body: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises InvalidInput with the path of each fault."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return _exact(body, str(error))
    keys = _count_keys(value)
    # Every key of the text matches `"\s*:` once, so the number of matches is at least the number of keys
    # written; as many keys in the value as matches leaves no room for one that was overwritten.
    if keys is None or keys != _matches(body) or (b"\\" in body and _NUL_OR_SURROGATE.search(body)):
        return _exact(body, None)
    return value


def salvaged(body: bytes) -> tuple[Any, list[Fault]]:
    """The value, and what of it could not be taken: null stands there, or the text without what was wrong.

    For sources that drop what they are refused. Raises InvalidInput for what is no JSON at all.
    """
    try:
        return loads(body), []
    except InvalidInput:
        faults: list[Fault] = []
        return _sound(_checked(_raw(body), "", 1, faults)), faults[:MAX_FAULTS]


def _sound(value: Any) -> Any:
    """Without NUL and halves of surrogate pairs, in texts and in keys."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_sound(item) for item in value]
    if isinstance(value, dict):
        return {_sound(key): _sound(item) for key, item in value.items()}
    return value


def _matches(body: bytes) -> int:
    # Searching for one byte is many times faster than for two, so that comes first.
    if (
        b" :" in body
        or (b"\n" in body and b"\n:" in body)
        or (b"\t" in body and b"\t:" in body)
        or (b"\r" in body and b"\r:" in body)
    ):
        return len(_KEY.findall(body))
    return body.count(b'":')  # the same number where no white space stands before a colon


def _count_keys(value: object) -> int | None:
    """How many keys the value holds; None where depth or a number needs the exact look."""
    keys = 0
    depth = 0
    level: list[Any] = [value]
    while level:
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                continue
            if kind is dict or kind is list:
                if depth == MAX_DEPTH:
                    return None
                if kind is dict:
                    keys += len(item)
                    below.extend(item.values())
                else:
                    below.extend(item)
            elif kind is int:
                if not -MAX_INTEGER <= item <= MAX_INTEGER:
                    return None
            elif kind is float and not -MAX_INTEGER < item < MAX_INTEGER:
                return None  # orjson reads integers beyond 64 bits as floats
        depth += 1
        level = below
    return keys


# --- the long way ------------------------------------------------------------------------------------


class _Object(NamedTuple):
    """An object as it was written, duplicates included. Not a list, which is what an array becomes."""

    pairs: list[tuple[str, Any]]


class _Refused(NamedTuple):
    """Stands where a value was that cannot be taken."""

    detail: str


def _integer(text: str) -> int | _Refused:
    # Length first: Python refuses to read integers of thousands of digits.
    if len(text) <= 17 and -MAX_INTEGER <= (value := int(text)) <= MAX_INTEGER:
        return value
    return _Refused("integers beyond 2^53 lose digits on the way: send it as text")


def _float(text: str) -> float | _Refused:
    value = float(text)
    return value if math.isfinite(value) else _Refused("the number is too large")


def _constant(text: str) -> _Refused:
    return _Refused(f"{text} is not JSON")


def _exact(body: bytes, refusal: str | None) -> Any:
    """The value, or InvalidInput. `refusal` is what orjson found wrong, for what this look lets pass."""
    faults: list[Fault] = []
    value = _checked(_raw(body), "", 1, faults)
    if refusal is not None and not faults:
        faults.append(Fault("", f"malformed JSON: {refusal}"))
    if faults:
        raise InvalidInput(faults[:MAX_FAULTS])
    return value


def _raw(body: bytes) -> Any:
    """What stands in the text, wrong parts marked. Raises InvalidInput where it cannot be read at all."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput([Fault("", f"not UTF-8 at byte {error.start}")]) from None
    try:
        return json.loads(
            text, object_pairs_hook=_Object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidInput([Fault("", f"malformed JSON at {where}: {error.msg}")]) from None
    except RecursionError:
        raise InvalidInput([Fault("", f"nested deeper than {MAX_DEPTH}")]) from None


def _checked(raw: Any, path: str, depth: int, faults: list[Fault]) -> Any:
    if isinstance(raw, str):
        _check_text(raw, path, "the text", faults)
        return raw
    if isinstance(raw, _Refused):
        faults.append(Fault(path, raw.detail))
        return None
    if not isinstance(raw, (_Object, list)):
        return raw
    if depth > MAX_DEPTH:
        faults.append(Fault(path, f"nested deeper than {MAX_DEPTH}"))
        return None
    if isinstance(raw, list):
        return [_checked(item, f"{path}[{i}]", depth + 1, faults) for i, item in enumerate(raw)]
    value: dict[str, Any] = {}
    for key, item in raw.pairs:
        below = join(path, key)
        _check_text(key, below, "the key", faults)
        if key in value:
            faults.append(Fault(below, "the key is given twice"))
        value[key] = _checked(item, below, depth + 1, faults)
    return value


def _check_text(text: str, path: str, what: str, faults: list[Fault]) -> None:
    if "\0" in text:
        faults.append(Fault(path, f"{what} holds NUL (U+0000)"))
    try:
        text.encode()
    except UnicodeEncodeError:
        faults.append(Fault(path, f"{what} holds half of a surrogate pair"))


def join(path: str, key: str) -> str:
    """`path.key`, with a key from outside made short and printable."""
    shown = key if key.isprintable() else ascii(key)[1:-1]
    if len(shown) > 60:
        shown = shown[:60] + "…"
    return f"{path}.{shown}" if path else shown
