"""What evaluating a criterion yields: the verdict with its reasons, for every later explanation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Verdict = bool | None  # None is unknown (Kleene logic); only True fires
EVIDENCE = 20  # event ids kept of a finding: the newest


class Finding(NamedTuple):
    """One criterion's verdict at one instant."""

    type: str
    verdict: Verdict
    observed: Any = None  # what was seen: a number, a text or a small object
    required: str = ""  # what would be true, in words
    evidence: tuple[str, ...] = ()  # ids of the events that decided, oldest first
    next_change: int | None = None  # next instant at which time alone may change the verdict
    conditions: tuple[Finding, ...] = ()
    id: str | None = None
    name: str | None = None
    detail: str | None = None  # why a verdict is unknown, or which row matched


def as_json(finding: Finding) -> dict[str, Any]:
    """The finding as an explanation holds it. An unknown verdict is null."""
    row: dict[str, Any] = {"type": finding.type, "verdict": finding.verdict}
    if finding.id is not None:
        row["id"] = finding.id
    if finding.name is not None:
        row["name"] = finding.name
    if finding.conditions:
        row["conditions"] = [as_json(child) for child in finding.conditions]
        return row
    row["observed"] = finding.observed
    row["required"] = finding.required
    row["evidence"] = list(finding.evidence)
    if finding.detail is not None:
        row["detail"] = finding.detail
    return row


def from_json(row: Mapping[str, Any]) -> Finding:
    """The finding that an explanation holds. When time would change it is not recorded."""
    return Finding(
        row["type"],
        row["verdict"],
        row.get("observed"),
        row.get("required", ""),
        tuple(row.get("evidence", ())),
        conditions=tuple(map(from_json, row.get("conditions", ()))),
        id=row.get("id"),
        name=row.get("name"),
        detail=row.get("detail"),
    )


def wake(finding: Finding, positive: bool = True) -> int | None:
    """The next instant at which time alone may turn this criterion from not true to true.

    Under NOT, what counts is a leaf that may turn false. Changes the other way can never make a trigger
    fire, so nobody needs to wake for them.
    """
    if finding.conditions:
        inner = not positive if finding.type == "NOT" else positive
        instants = [w for child in finding.conditions if (w := wake(child, inner)) is not None]
        return min(instants) if instants else None
    return None if finding.verdict is positive else finding.next_change
