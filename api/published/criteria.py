"""A row of `proactive_intercom`: its criteria tree and its messages, as a trigger of ours.

A leaf of the published tree is `{id, name, type}`, where `type` names a detector. Those of the catalog are
known; so is every leaf type of ours, with its own fields beside `type`. `url_contains` says its text as
`value`, `contains` or `url_contains`; without one it says nothing, and the row is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from api.published import rows
from api.published.rows import Notes
from domain import config_criteria
from domain.config_criteria import LEAVES, MAX_LEVELS, Scan
from domain.config_fields import Faults, child
from domain.config_triggers import MAX_OPTIONS

OPERATORS = ("AND", "OR")
_VALUES = ("value", "contains", "url_contains")


class IntercomRow(NamedTuple):
    trigger: dict[str, Any]
    names: frozenset[str]  # id and type of the topmost criterion


class _Skipped(Exception):
    """Why the row is left out, and where that stands."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(detail)
        self.path, self.detail = path, detail


def row(raw: object, path: str, notes: Notes, *, sections: bool) -> IntercomRow | None:
    """The row, or None after a note. `sections`: whether there are sections and a playbook."""
    try:
        return _row(raw, path, notes, sections)
    except _Skipped as skipped:
        notes.add(skipped.path, f"left out: {skipped.detail}")
        return None


def _row(raw: object, path: str, notes: Notes, sections: bool) -> IntercomRow:
    if not isinstance(raw, dict):
        raise _Skipped(path, "must be an object")
    row_id, name = rows.name(raw.get("id")), rows.name(raw.get("name"))
    if row_id is None or name is None:
        raise _Skipped(path, "needs id and name")
    messages = raw.get("messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_OPTIONS:
        raise _Skipped(child(path, "messages"), f"1 to {MAX_OPTIONS} messages are needed")
    options = [_message(item, child(child(path, "messages"), n)) for n, item in enumerate(messages)]
    if len({option["id"] for option in options}) < len(options):
        raise _Skipped(child(path, "messages"), "two messages have the same id")
    top = raw.get("proactive_criteria")
    at = child(path, "proactive_criteria")
    tree = _node(top, at, 1, set())
    _check(tree, at, sections)
    known = ("id", "name", "proactive_criteria", "messages", "body", "interaction_timeout_s", "cooldown_s")
    notes.unknown(raw, path, known)
    trigger: dict[str, Any] = {"id": row_id, "name": name, "criteria": tree, "options": options}
    trigger["body"] = rows.body(raw.get("body"), child(path, "body"), notes) or rows.DEFAULT_BODY
    for key, default in (("interaction_timeout_s", 10), ("cooldown_s", 30)):
        trigger[key] = rows.positive(raw.get(key, default)) or default
    names = [top.get("id"), top.get("type")] if isinstance(top, dict) and "operator" not in top else []
    return IntercomRow(trigger, frozenset(text for text in names if isinstance(text, str)))


def _message(raw: object, path: str) -> dict[str, Any]:
    if not isinstance(raw, dict) or rows.name(raw.get("id")) is None:
        raise _Skipped(path, "a message needs id and label")
    if raw.get("user_tour_exists", raw.get("offers_tour")) and not rows.name(
        raw.get("user_tour_id", raw.get("flow_id"))
    ):
        raise _Skipped(path, "user_tour_id is needed where user_tour_exists is true")
    made = rows.option(raw, 0)
    if made is None:
        raise _Skipped(path, "a message needs id and label")
    return made


def _node(raw: object, path: str, level: int, seen: set[str]) -> dict[str, Any]:
    """`seen`: ids that are taken; a second criterion of one id keeps its name alone."""
    if not isinstance(raw, dict):
        raise _Skipped(path, "a criterion is an object with operator or type")
    if level > MAX_LEVELS:
        raise _Skipped(path, f"criteria are nested deeper than {MAX_LEVELS} levels")
    names = {key: text for key in ("id", "name") if (text := rows.name(raw.get(key))) is not None}
    if names.get("id") in seen:
        del names["id"]
    elif "id" in names:
        seen.add(names["id"])
    if "operator" not in raw:
        return {**names, **_leaf(raw, path)}
    if raw["operator"] not in OPERATORS:
        raise _Skipped(child(path, "operator"), "must be AND or OR")
    below = raw.get("conditions")
    if not isinstance(below, list) or not below:
        raise _Skipped(child(path, "conditions"), "must be a list that is not empty")
    at = child(path, "conditions")
    conditions = [_node(item, child(at, n), level + 1, seen) for n, item in enumerate(below)]
    return {**names, "operator": raw["operator"], "conditions": conditions}


def _leaf(raw: Mapping[str, Any], path: str) -> dict[str, Any]:
    kind = raw.get("type")
    if kind == "url_contains":
        value = next((raw[key] for key in _VALUES if raw.get(key)), None)
        if value is None:
            raise _Skipped(child(path, "type"), f"url_contains does not say what: add {' or '.join(_VALUES)}")
        return {"type": "current_page", "url_contains": value}
    if not isinstance(kind, str) or kind not in LEAVES:
        raise _Skipped(child(path, "type"), f"no such detector here (known: {', '.join(LEAVES)})")
    return {key: raw[key] for key in raw if key not in ("id", "name")}


def _check(tree: Mapping[str, Any], path: str, sections: bool) -> None:
    """Read the tree as a config's own."""
    scan = Scan(Faults())
    config_criteria.read(tree, path, scan)
    if scan.faults.found:
        first = scan.faults.found[0]
        raise _Skipped(first.path, first.detail)
    if scan.section_leaves and not sections:
        raise _Skipped(scan.section_leaves[0], "it needs section_url_rules and section_playbook")
