"""Criteria as a host wrote them, turned into nodes of `domain.config`.

`read` notes every fault in the `Faults` it is given and returns a stand-in for what it could not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from domain.config import (
    Absent,
    ActionCount,
    Count,
    CurrentPage,
    Dwell,
    Group,
    Leaf,
    Node,
    PingPong,
    Predicate,
    SectionMatch,
    Sequence,
    Where,
)
from domain.config_fields import Faults, Row, child, nearest, once
from domain.instants import DAY

MAX_LEVELS: Final = 16  # of groups and leaves inside each other
MAX_STEPS: Final = 20  # of a sequence
MAX_WITHIN: Final = DAY
OPERATORS: Final = ("AND", "OR", "NOT")
HISTORY_TYPES: Final = ("first_time", "returned_after", "stopped", "workflow")

_WHERE: Final = ("type", "title_contains", "title_equals", "url_contains", "url_prefix", "properties")
_COMMON: Final = ("id", "name")
NOTHING: Final = Group("AND", ())  # stands in for a node that could not be read


class Scan:
    """What one trigger's tree gathers while it is read."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.ids: set[str] = set()
        self.section_leaves: list[str] = []  # paths of the leaves that need sections and a playbook


def read(raw: object, path: str, scan: Scan, level: int = 1) -> Node:
    """The node at `path`, `level` nodes below the top (which is 1)."""
    faults = scan.faults
    if not isinstance(raw, dict):
        faults.add(path, "must be an object with operator (a group) or type (a leaf)")
        return NOTHING
    if level > MAX_LEVELS:
        faults.add(path, f"criteria are nested deeper than {MAX_LEVELS} levels")
        return NOTHING
    if "operator" in raw and "type" in raw:
        faults.add(path, "is either a group (operator, conditions) or a leaf (type), not both")
        return NOTHING
    if "operator" in raw or "conditions" in raw:
        row = Row(raw, path, faults, ("operator", "conditions", *_COMMON))
        node_id, name = _names(row, scan)
        operator = row.choice("operator", OPERATORS, required=True)
        if row.need("conditions"):
            below = row.items("conditions", least=1)
            conditions = tuple(read(item, at, scan, level + 1) for at, item in below)
            return Group(operator or "AND", conditions, node_id, name)
        return NOTHING
    if "type" not in raw:
        faults.add(path, "needs operator (a group) or type (a leaf)")
        return NOTHING
    kind = raw["type"]
    if not isinstance(kind, str) or kind not in LEAVES:
        faults.add(child(path, "type"), _unknown_type(kind))
        return NOTHING
    row = Row(raw, path, faults, ("type", *_COMMON, *LEAVES[kind].fields))
    node_id, name = _names(row, scan)
    if kind == "section_playbook_match":
        scan.section_leaves.append(child(path, "type"))
    return LEAVES[kind].build(row, node_id, name)


def _names(row: Row, scan: Scan) -> tuple[str | None, str | None]:
    node_id = row.ident("id")
    if node_id is not None:
        once(node_id, child(row.path, "id"), scan.ids, scan.faults, "the id")
    return node_id, row.text("name")


def _unknown_type(kind: object) -> str:
    if not isinstance(kind, str):
        return "must be text: " + ", ".join(LEAVES)
    if kind in HISTORY_TYPES:
        return f"{kind} needs the user's history, which this version does not have"
    return f"unknown type{nearest(kind, LEAVES)} (known: {', '.join(LEAVES)})"


# --- where ------------------------------------------------------------------------------------------


def where(raw: object, path: str, faults: Faults) -> Where:
    """At least one field; texts case-folded, properties in the order of their names."""
    row = Row(raw, path, faults, _WHERE)
    if row.sound and not row.keys():
        faults.add(path, f"must have at least one of {', '.join(_WHERE)}")
    return Where(
        type=row.texts("type"),
        title_contains=row.texts("title_contains"),
        title_equals=row.texts("title_equals"),
        url_contains=row.texts("url_contains"),
        url_prefix=row.texts("url_prefix"),
        properties=_properties(row),
    )


def _properties(row: Row) -> tuple[tuple[str, tuple[str | int | float, ...]], ...]:
    properties = row.row("properties", None)
    if properties is None:
        return ()
    if not properties.keys():
        row.fault("properties", "must name at least one property")
    found = []
    for name in sorted(properties.keys()):  # the revision does not see the order of keys
        raw = properties.raw(name)
        alternatives = raw if isinstance(raw, list) else [raw]
        if not alternatives:
            properties.fault(name, "must not be an empty list")
        values: list[str | int | float] = []
        for value in alternatives:
            if isinstance(value, (str, int, float)):
                values.append(value.casefold() if isinstance(value, str) else value)
            else:
                properties.fault(name, "must be text, a number or a truth value, or a list of such values")
                break
        found.append((name, tuple(values)))
    return tuple(found)


def _needed_where(row: Row) -> Where:
    if not row.need("where"):
        return Where()
    return where(row.raw("where"), child(row.path, "where"), row.faults)


def _within(row: Row) -> int | None:
    return row.duration("within_s", None, most=MAX_WITHIN)


# --- leaves -----------------------------------------------------------------------------------------


def _count(row: Row, node_id: str | None, name: str | None) -> Leaf:
    least, most = row.integer("at_least", None, least=0), row.integer("at_most", None, least=0)
    if not row.has("at_least") and not row.has("at_most"):
        row.faults.add(row.path, "needs at_least or at_most")
    elif least is not None and most is not None and least > most:
        row.fault("at_most", "must not be less than at_least")
    return Count(_needed_where(row), least, most, _within(row), node_id, name)


def _absent(row: Row, node_id: str | None, name: str | None) -> Leaf:
    if row.has("within") and row.has("within_s"):
        row.fault("within", "give either within_s or within: session, not both")
    session = row.choice("within", ("session",)) is not None
    return Absent(_needed_where(row), _within(row), session, node_id, name)


def _sequence(row: Row, node_id: str | None, name: str | None) -> Leaf:
    row.need("steps")
    steps = tuple(where(raw, at, row.faults) for at, raw in row.items("steps", least=2, most=MAX_STEPS))
    without: tuple[Where, ...] = ()
    if isinstance(row.raw("without"), list):
        without = tuple(where(raw, at, row.faults) for at, raw in row.items("without", least=1))
    elif row.has("without"):
        without = (where(row.raw("without"), child(row.path, "without"), row.faults),)
    strict = row.choice("contiguity", ("relaxed", "strict")) == "strict"
    return Sequence(steps, _within(row), without, strict, node_id, name)


def _current_page(row: Row, node_id: str | None, name: str | None) -> Leaf:
    if not row.has("url_contains") and not row.has("url_prefix"):
        row.faults.add(row.path, "needs url_contains or url_prefix")
    return CurrentPage(row.texts("url_contains"), row.texts("url_prefix"), node_id, name)


def _action_count(row: Row, node_id: str | None, name: str | None) -> Leaf:
    return ActionCount(row.integer("at_least", 0, least=0, required=True), node_id, name)


def _ping_pong(row: Row, node_id: str | None, name: str | None) -> Leaf:
    default = PingPong()
    return PingPong(
        row.integer("min_cycles", default.min_cycles),
        row.integer("hesitation_min_distinct", default.hesitation_min_distinct),
        node_id,
        name,
    )


def _dwell(row: Row, node_id: str | None, name: str | None) -> Leaf:
    default = Dwell()
    return Dwell(
        row.duration("dwell_threshold_seconds", default.threshold),
        row.integer("user_page_dwell_max_actions", default.max_actions),
        node_id,
        name,
    )


def _section_match(row: Row, node_id: str | None, name: str | None) -> Leaf:
    return SectionMatch(node_id, name)


def _predicate(row: Row, node_id: str | None, name: str | None) -> Leaf:
    return Predicate(row.ident("predicate", required=True) or "", node_id, name)


class LeafType(NamedTuple):
    fields: tuple[str, ...]
    build: Callable[[Row, str | None, str | None], Leaf]  # of a row, its id and its name


LEAVES: Final[Mapping[str, LeafType]] = {
    "count": LeafType(("where", "at_least", "at_most", "within_s"), _count),
    "absent": LeafType(("where", "within_s", "within"), _absent),
    "sequence": LeafType(("steps", "within_s", "without", "contiguity"), _sequence),
    "current_page": LeafType(("url_contains", "url_prefix"), _current_page),
    "action_count": LeafType(("at_least",), _action_count),
    "canonical_url_ping_pong": LeafType(("min_cycles", "hesitation_min_distinct"), _ping_pong),
    "user_page_dwell": LeafType(("dwell_threshold_seconds", "user_page_dwell_max_actions"), _dwell),
    "section_playbook_match": LeafType((), _section_match),
    "predicate": LeafType(("predicate",), _predicate),
}
