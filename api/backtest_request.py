"""What is asked of a backtest: a config, a window, how long virtual time runs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from api import config_text
from domain import config_parse, instants
from domain.errors import Fault, InvalidConfig, InvalidInput
from domain.instants import DAY, SECOND

KEYS = ("config", "config_text", "from", "to", "until_s")
MOST_UNTIL = 31 * DAY


class Asked(NamedTuple):
    """A request that makes sense."""

    config: Any  # as parsed, before defaults
    start: int  # µs, the first instant of the window
    end: int  # µs, the last one
    until: int = 0  # µs past it


def parse(body: Any, product: str, now: int) -> Asked:
    """The request of a body. A window that ends in the future ends now.

    Raises InvalidInput with every fault's path; those of the config lie under `config`.
    """
    if not isinstance(body, Mapping):
        raise InvalidInput([Fault("", "must be a JSON object")])
    faults = [Fault(key, f"unknown key; known are {', '.join(KEYS)}") for key in body if key not in KEYS]
    raw = _config(body, product, faults)
    start, end = _instant(body, "from", faults), _instant(body, "to", faults)
    until = _until(body, faults)
    if start is not None and end is not None and start >= end:
        faults.append(Fault("from", "must lie before `to`"))
    elif start is not None and start >= now:
        faults.append(Fault("from", "lies in the future"))
    if faults or start is None or end is None:
        raise InvalidInput(faults)
    return Asked(raw, start, min(end, now), until)


def check(raw: Any, product: str) -> None:
    """Raises InvalidConfig with every fault of a config that is meant for the product."""
    parsed = config_parse.parse(raw)
    if parsed.product_id != product:
        raise InvalidConfig([Fault("product_id", f"is {parsed.product_id!r}, but the path says {product!r}")])


def _config(body: Mapping[str, Any], product: str, faults: list[Fault]) -> Any:
    if ("config" in body) == ("config_text" in body):
        faults.append(Fault("config", "is required: as an object, or as YAML or JSON in `config_text`"))
        return None
    raw = body.get("config")
    if "config_text" in body:
        text = body["config_text"]
        if not isinstance(text, str):
            faults.append(Fault("config_text", "must be text"))
            return None
        try:
            raw = config_text.parse(text.encode(), is_json=text.lstrip()[:1] == "{")
        except InvalidInput as error:
            faults += [
                Fault(f"config_text: {f.path}" if f.path else "config_text", f.detail) for f in error.faults
            ]
            return None
    try:
        check(raw, product)
    except InvalidInput as error:
        faults += [Fault(f"config.{f.path}" if f.path else "config", f.detail) for f in error.faults]
    return raw


def _instant(body: Mapping[str, Any], name: str, faults: list[Fault]) -> int | None:
    if name not in body:
        faults.append(Fault(name, "is required: an instant"))
        return None
    try:
        return instants.parse(body[name])
    except ValueError as error:
        faults.append(Fault(name, str(error)))
        return None


def _until(body: Mapping[str, Any], faults: list[Fault]) -> int:
    value = body.get("until_s", 0)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 <= value * SECOND <= MOST_UNTIL
    ):
        faults.append(Fault("until_s", f"must be a number of seconds from 0 to {MOST_UNTIL // SECOND}"))
        return 0
    return round(value * SECOND)
