"""Rows of a published configuration: sections, tours, messages. What is wrong is left out, and noted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from domain.config_fields import MAX_ID, child, nearest
from domain.config_triggers import MAX_BODY, MAX_OPTIONS
from domain.errors import Fault
from domain.instants import MAX_SECONDS

DEFAULT_BODY = "Need my expert help?"
UNMAPPED = "other"  # the section of a page that no rule maps
TOUR_TIMINGS = {"interaction_timeout_s": 20.0, "cooldown_period_s": 120.0}


class Notes:
    """What was left out or taken otherwise."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, path: str, detail: str) -> None:
        self.found.append(Fault(path, detail))

    def unknown(self, row: Mapping[Any, Any], path: str, known: Iterable[str]) -> None:
        names = frozenset(known)
        for key in row:
            if key not in names:
                hint = nearest(key, names) if isinstance(key, str) else ""
                self.add(child(path, key), f"not known here, and ignored{hint}")


def positive(value: object) -> float | int | None:
    """A number above 0, also one that is written as text, as published; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if not isinstance(value, (int, float)) or not math.isfinite(value) or not 1e-6 <= value <= MAX_SECONDS:
        return None
    return value


def name(value: object) -> str | None:
    """An id of ours: text, not blank, without control characters, at most 100 characters."""
    if isinstance(value, str) and (text := value.strip()) and len(text) <= MAX_ID and text.isprintable():
        return text
    return None


def body(value: object, path: str, notes: Notes) -> str | None:
    """A text to show, cut at 150 characters as published."""
    if not isinstance(value, str) or not value.strip():
        if value not in (None, ""):
            notes.add(path, "must be text that is not blank: the default is taken")
        return None
    text = value.strip()
    if len(text) > MAX_BODY:
        notes.add(path, f"cut at {MAX_BODY} characters, has {len(text)}")
        text = text[:MAX_BODY].rstrip()
    return text


# --- sections ---------------------------------------------------------------------------------------


def sections(top: Mapping[str, Any], triggers: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """`sections` and `section_playbook`, each only where a row of it is left."""
    found: dict[str, Any] = {}
    prefix, rules = _either(top, triggers, "section_url_rules")
    kept = []
    for path, row in _items(rules, prefix, notes):
        start = row.get("prefix") if isinstance(row, dict) else None
        section = name(row.get("section_id")) if isinstance(row, dict) else None
        if not isinstance(start, str) or not start.strip() or section is None:
            notes.add(path, "left out: needs the texts prefix and section_id")
        else:
            kept.append({"prefix": start.strip(), "section_id": section})
    if kept:
        fallback = name(_either(top, triggers, "section_fallback_id")[1])
        found["sections"] = {"rules": kept, "fallback_id": fallback or UNMAPPED}
    prefix, book = _either(top, triggers, "section_playbook")
    if book is not None and not isinstance(book, dict):
        notes.add(prefix, "left out: must be an object by section id")
    elif book:
        playbook = {section: _play(row, child(prefix, section), notes) for section, row in book.items()}
        kept_rows = {
            section.strip(): row for section, row in playbook.items() if row is not None and name(section)
        }
        if kept_rows:
            found["section_playbook"] = kept_rows
    return found


def _either(top: Mapping[str, Any], triggers: Mapping[str, Any], key: str) -> tuple[str, Any]:
    """Path and value, from inside `proactive_triggers` or else from the top."""
    return (f"proactive_triggers.{key}", triggers[key]) if key in triggers else (key, top.get(key))


def _play(row: object, path: str, notes: Notes) -> dict[str, Any] | None:
    labels: object = None
    said = row
    if isinstance(row, dict):
        said = row.get("body") or row.get("proactive_body")
        labels = row.get("reply_option_labels") or row.get("quick_reply_labels")
        known = ("body", "proactive_body", "reply_option_labels", "quick_reply_labels")
        notes.unknown(row, path, known)
    text = body(said, path, notes) if isinstance(said, str) else None
    if text is None:
        notes.add(path, "left out: has no text to show")
        return None
    kept = (
        [label.strip() for label in labels if isinstance(label, str) and label.strip()]
        if isinstance(labels, list)
        else []
    )
    if len(kept) > MAX_OPTIONS:
        notes.add(path, f"only the first {MAX_OPTIONS} labels are shown")
    return {"body": text, "reply_option_labels": kept[:MAX_OPTIONS]} if kept else {"body": text}


# --- tours ------------------------------------------------------------------------------------------


def tours(top: Mapping[str, Any], notes: Notes) -> list[dict[str, Any]]:
    """The registry: a list, or an object with defaults and a list `tours`."""
    raw, path = top.get("tour_registry"), "tour_registry"
    defaults = dict(TOUR_TIMINGS)
    if isinstance(raw, dict):
        for key in TOUR_TIMINGS:
            if (given := raw.get(f"default_{key}")) is not None:
                defaults[key] = _timing(given, f"{path}.default_{key}", defaults[key], notes)
        known = ("product_id", "tours", *(f"default_{key}" for key in TOUR_TIMINGS))
        notes.unknown(raw, path, known)
        raw, path = raw.get("tours"), f"{path}.tours"
    found: dict[str, dict[str, Any]] = {}
    for at, row in _items(raw, path, notes):
        tour_id = name(row.get("id")) if isinstance(row, dict) else None
        if not isinstance(row, dict) or tour_id is None:
            notes.add(at, "left out: needs an id")
            continue
        if tour_id in found:
            notes.add(at, f"left out: tour {tour_id!r} stands above already")
            continue
        tour: dict[str, Any] = {"id": tour_id}
        for key in ("user_tour_id", "user_tour_name"):
            if row.get(key) is not None:
                if (text := name(row[key])) is not None:
                    tour[key] = text
                else:
                    notes.add(child(at, key), "ignored: must be text of at most 100 characters")
        for key, default in defaults.items():
            tour[key] = _timing(row.get(key, default), child(at, key), default, notes)
        # label and user_tour_exists belong to messages; the published reader passes over them, too
        known = ("id", "user_tour_id", "user_tour_name", *TOUR_TIMINGS, "label", "user_tour_exists")
        notes.unknown(row, at, known)
        found[tour_id] = tour
    return list(found.values())


def _timing(value: object, path: str, default: float, notes: Notes) -> float | int:
    seconds = positive(value)
    if seconds is None:
        notes.add(path, f"must be a number above 0: taken as {default:g}")
        return default
    return seconds


# --- messages ---------------------------------------------------------------------------------------


def options(raw: object, path: str, notes: Notes) -> list[dict[str, Any]]:
    """Quick replies of the form before: bad rows are left out, and what is more than three."""
    found: list[dict[str, Any]] = []
    for at, row in _items(raw, path, notes):
        made = option(row, len(found)) if isinstance(row, dict) else None
        if made is None or any(made["id"] == other["id"] for other in found):
            notes.add(at, "left out: needs a label, and an id of its own")
        elif len(found) == MAX_OPTIONS:
            notes.add(at, f"left out: only {MAX_OPTIONS} messages are shown")
        else:
            found.append(made)
    return found


def option(row: Mapping[str, Any], index: int) -> dict[str, Any] | None:
    """A quick reply, by the names of now or those of before (`offers_tour`, `flow_id`)."""
    label = row.get("label")
    if not isinstance(label, str) or not label.strip():
        return None
    found: dict[str, Any] = {"id": name(row.get("id")) or f"msg_{index}", "label": label.strip()}
    flow = name(row.get("user_tour_id", row.get("flow_id")))
    if row.get("user_tour_exists", row.get("offers_tour")) and flow is not None:
        found |= {"user_tour_exists": True, "user_tour_id": flow}
    return found


def _items(raw: object, path: str, notes: Notes) -> list[tuple[str, object]]:
    if raw is None:
        return []
    if not isinstance(raw, list):
        notes.add(path, "left out: must be a list")
        return []
    return [(child(path, index), item) for index, item in enumerate(raw)]
