"""What was recorded and what is derived, in two columns, a line for each field in which they differ."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

NAME, COLUMN = 34, 44  # characters
ABSENT = "-"


def lines(recorded: Mapping[str, Any] | None, derived: Mapping[str, Any] | None) -> Iterator[str]:
    """The table; where one side is missing, the other is told whole."""
    left, right = dict(_flat(recorded)), dict(_flat(derived))
    yield _line("", "recorded", "derived now")
    for name in _in_order(left, right):
        before, now = left.get(name, ABSENT), right.get(name, ABSENT)
        if before == now and not name.endswith("summary"):
            continue
        columns = [textwrap.wrap(side, COLUMN) or [""] for side in (before, now)]
        for number, (one, other) in enumerate(itertools.zip_longest(*columns, fillvalue="")):
            yield _line(name if number == 0 else "", one, other)


def _in_order(left: Mapping[str, str], right: Mapping[str, str]) -> list[str]:
    """Every name, those of the left first; the sentence that sums it up before all."""
    names = [*left, *(name for name in right if name not in left)]
    return sorted(names, key=lambda name: not name.endswith("summary"))


def _line(name: str, one: str, other: str) -> str:
    return f"{name:<{NAME}} {one:<{COLUMN}} {other}".rstrip()


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested objects and lists by their paths, as text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, _joined(name, str(key)))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            label = item.get("gate") or item.get("trigger_id") if isinstance(item, Mapping) else None
            yield from _flat(item, f"{name}[{label or number}]")
    elif value is not None or name:
        yield name, value if isinstance(value, str) else orjson.dumps(value).decode()


def _joined(name: str, key: str) -> str:
    return key if name in ("", "explanation") else f"{name}.{key}"
