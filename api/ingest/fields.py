"""Checks of single fields. Each gives the value, or adds a fault and gives something harmless in its place.

An optional field that is null counts as absent, and so does an optional text that is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from api.ingest import strict
from domain.errors import Fault

Data = dict[str, Any]

MAX_ID = 200

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")


def identifier(data: Data, key: str, path: str, faults: list[Fault]) -> str:
    """A required id: 1 to 200 characters without control characters."""
    if data.get(key) is None:
        faults.append(Fault(strict.join(path, key), "is required"))
    return optional_identifier(data, key, path, faults) or ""


def optional_identifier(data: Data, key: str, path: str, faults: list[Fault]) -> str | None:
    value = data.get(key)
    if value is None:
        return None
    if (
        type(value) is str
        and 0 < len(value) <= MAX_ID
        and (value.isprintable() or not _CONTROL.search(value))
    ):
        return value
    if type(value) is not str:
        detail = "must be text"
    elif not 0 < len(value) <= MAX_ID:
        detail = f"must have 1 to {MAX_ID} characters"
    else:
        detail = "must not hold control characters"
    faults.append(Fault(strict.join(path, key), detail))
    return None


def text(data: Data, key: str, path: str, faults: list[Fault], most: int) -> str:
    """A required text of 1 to `most` characters, not all of them white space."""
    value = data.get(key)
    if type(value) is str and len(value) <= most and value and not value.isspace():
        return value
    if value is None:
        detail = "is required"
    elif type(value) is not str:
        detail = "must be text"
    elif len(value) > most:
        detail = f"must have at most {most} characters, this has {len(value)}"
    else:
        detail = "must not be empty"
    faults.append(Fault(strict.join(path, key), detail))
    return ""


def optional_text(data: Data, key: str, path: str, faults: list[Fault], most: int) -> str | None:
    value = data.get(key)
    if value is None:
        return None
    if type(value) is str and len(value) <= most:
        return value or None
    long = type(value) is str
    detail = f"must have at most {most} characters, this has {len(value)}" if long else "must be text"
    faults.append(Fault(strict.join(path, key), detail))
    return None


def choice(
    data: Data, key: str, path: str, faults: list[Fault], values: tuple[str, ...], required: bool = False
) -> str | None:
    """One of `values`."""
    value = data.get(key)
    if value is None and not required:
        return None
    if type(value) is str and value in values:
        return value
    detail = "is required: " if value is None else "must be "
    faults.append(Fault(strict.join(path, key), detail + " or ".join(values)))
    return None


def mapping(data: Data, key: str, path: str, faults: list[Fault]) -> Mapping[str, Any] | None:
    value = data.get(key)
    if value is None:
        return None
    if type(value) is dict:
        return value
    faults.append(Fault(strict.join(path, key), "must be an object"))
    return None


def step(data: Data, path: str, faults: list[Fault]) -> str | int | None:
    """A tour's step: its name or its number."""
    value = data.get("step")
    if value is None or type(value) is int:
        return value
    if type(value) is str and 0 < len(value) <= 500:
        return value
    faults.append(Fault(strict.join(path, "step"), "must be a number or text of 1 to 500 characters"))
    return None
