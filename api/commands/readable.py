"""An explanation as text that a person reads in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Row = dict[str, Any]

_MARKS = {True: "✓", False: "✗", None: "?"}
_GROUPS = {"AND": "all of", "OR": "any of", "NOT": "none of"}


def explanation(told: Row) -> Iterator[str]:
    """The lines of an explanation, the sentence first."""
    yield told["summary"]
    yield ""
    yield from _head(told)
    if told["criteria"] is not None:
        yield from _titled("Criteria", _criteria(told["criteria"]))
    yield from _titled("Gates", _gates(told["gates"]))
    yield from _titled("Would have fired if", told["would_fire_if"])
    yield from _titled("Other causes", (f"{c['text']}  [{c['cause']}]" for c in told["causes"]))
    yield from _titled("Other triggers", map(_other, told["other_triggers"]))
    yield from _titled("Tours", map(_tour, told["tours"]))
    if told["known_now"] is not None:
        yield from _titled("Known now", _known_now(told["known_now"]))
    yield from _titled("Trace", _trace(told["trace"]))


def _titled(title: str, lines: Any) -> Iterator[str]:
    """A section; nothing where it has no lines."""
    listed = list(lines)
    if listed:
        yield ""
        yield title
        yield from (f"  {line}" for line in listed)


def _head(told: Row) -> Iterator[str]:
    name = f"{told['name']} ({told['trigger_id']})" if told["name"] else told["trigger_id"]
    outcome = told["outcome"] if told["reason"] == "ok" else f"{told['outcome']}, {told['reason']}"
    rows = [
        ("trigger", name),
        ("outcome", outcome),
        ("session", told["session_id"]),
        ("user", told["user_id"] or "unknown"),
        ("at", told["at"]),
        ("state", _state(told["state"])),
        ("config", told["config_revision"] or "none"),
        ("decision", told["decision_id"]),
        ("reproduced", _reproduced(told)),
    ]
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        if value is not None:
            yield f"{label:<{width}}  {value}"


def _state(state: Row) -> str:
    cooling = f", cooling down until {state['cooldown_until']}" if state["cooldown_active"] else ""
    return f"{state['current_state']}{cooling}"


def _reproduced(told: Row) -> str | None:
    if told["decision_id"] is None:
        return None
    said = {True: "yes", False: "NO: the same facts come to something else today", None: "cannot be known"}
    return said[told["reproduced"]]


def _criteria(node: Row, depth: int = 0) -> Iterator[str]:
    name = f"{node['name']}: " if node.get("name") else ""
    if "conditions" in node:
        yield f"{'  ' * depth}{_MARKS[node['verdict']]} {name}{_GROUPS[node['type']]}"
        for child in node["conditions"]:
            yield from _criteria(child, depth + 1)
        return
    yield f"{'  ' * depth}{_MARKS[node['verdict']]} {node['text']}"


def _gates(gates: Sequence[Row]) -> Iterator[str]:
    seen: set[str] = set()
    for gate in gates:
        whose = " of this trigger" if gate["gate"] in seen else ""  # the product's limit comes before
        seen.add(gate["gate"])
        closed = "" if gate["open"] else f"  {gate['reason']}"
        yield f"{_MARKS[gate['open']]} {gate['gate']}{whose}{closed}"


def _other(other: Row) -> str:
    outranked = "  outranked" if other["outranked"] else ""
    return f"{_MARKS[other['verdict']]} {other['trigger_id']}{outranked}"


def _tour(tour: Row) -> str:
    return f"{_MARKS[tour['offered']]} {tour['id']}{'' if tour['offered'] else '  ' + tour['reason']}"


def _known_now(known: Row) -> Iterator[str]:
    count = len(known["late_events"])
    events = "1 later event" if count == 1 else f"{count} later events"
    yield f"With {events} about the time before: {known['outcome']}. {known['summary']}"
    yield from _criteria(known["criteria"])


def _trace(steps: Sequence[Row]) -> Iterator[str]:
    width = max((len(step["step"]) for step in steps), default=0)
    for step in steps:
        yield f"{step['at']}  {step['step']:<{width}}  {step['text']}"
