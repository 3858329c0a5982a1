"""The published `integration_config` JSON, turned into a config of ours.

    {"proactive_triggers": {"mode": "default_registry",
                            "builtins": [{"id": "user_page_dwell", "name": "…", "description": "…"}],
                            "dwell_threshold_seconds": 60, "user_page_dwell_max_actions": 5},
     "section_url_rules": [{"prefix": "https://app/billing", "section_id": "billing"}],
     "section_playbook": {"billing": "…", "reports": {"body": "…", "reply_option_labels": ["…"]}},
     "proactive_intercom": [{"id": "…", "name": "…", "proactive_criteria": {…}, "messages": [{…}]}],
     "tour_registry": [{"id": "…", "user_tour_id": "…", "user_tour_name": "…"}]}

As published: a bad row of `builtins` refuses the whole, a bad row of `proactive_intercom` or `tour_registry`
is left out, and so is what this service knows nothing of; each such place is a warning. Rules and defaults
are those of autoplay-sdk 0.13.0 (`proactive/triggers`); section keys and dwell keys may stand at the top or
inside `proactive_triggers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from api.published import criteria, rows
from api.published.rows import Notes
from domain.config_fields import Faults, child
from domain.errors import Fault, InvalidConfig

CATALOG_NAMES = {
    "canonical_url_ping_pong": "URL ping-pong (hesitation)",
    "user_page_dwell": "User page dwell (sparse linger)",
    "section_playbook_match": "Section playbook match",
}
PING_PONG, DWELL, SECTION = CATALOG_NAMES
MODES = ("default_registry", "ping_pong_only")

_TOP = frozenset(
    ("proactive_triggers", "proactive_intercom", "tour_registry", "section_url_rules", "section_playbook")
)
_SHARED = frozenset(
    ("dwell_threshold_seconds", "user_page_dwell_max_actions", "dwell_proactive_body", "section_fallback_id")
)
_TRIGGERS = frozenset(
    ("mode", "builtins", "lookback_seconds", "max_actions", "section_url_rules", "section_playbook")
)


class Imported(NamedTuple):
    config: dict[str, Any]  # as a host of ours would have written it
    warnings: list[Fault]  # what was left out or taken otherwise, each with its path


def read(raw: object, product_id: str) -> Imported:
    """The config. Raises InvalidConfig for what the published reader refuses, with every fault and path."""
    faults, notes = Faults(), Notes()
    if not faults.vet(raw) or not isinstance(raw, dict):
        found = faults.found or [Fault("", "must be an object")]
        raise InvalidConfig(tuple(found))
    triggers = raw.get("proactive_triggers", {})
    if not isinstance(triggers, dict):
        faults.add("proactive_triggers", "must be an object")
        triggers = {}
    notes.unknown(raw, "", _TOP | _SHARED)
    notes.unknown(triggers, "proactive_triggers", _TRIGGERS | _SHARED)
    both = {**{key: raw[key] for key in raw if key in _SHARED}, **triggers}

    config: dict[str, Any] = {"schema": 1, "product_id": product_id}
    config.update(rows.sections(raw, triggers, notes))
    config["tours"] = rows.tours(raw, notes)
    chosen = _builtins(both, faults, notes)
    if faults.found:
        raise InvalidConfig(tuple(faults.found))
    if "sections" not in config or "section_playbook" not in config:
        chosen = _without_sections(chosen, notes)
    listed = [_filled(row, both, notes) for _, row in chosen]
    config["triggers"] = _with_messages(listed, raw, config, notes)
    context = _context(triggers, notes)
    if context:
        config["context"] = context
    return Imported({key: value for key, value in config.items() if value != []}, notes.found)


def builtins(listed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `proactive_triggers.builtins`: id, name and the timings given. Raises InvalidConfig."""
    faults = Faults()
    found = _builtins({"builtins": listed}, faults, Notes())
    if faults.found:
        raise InvalidConfig(tuple(faults.found))
    return [row for _, row in found]


# --- the catalog ------------------------------------------------------------------------------------

Chosen = list[tuple[str, dict[str, Any]]]  # path and row


def _builtins(triggers: Mapping[str, Any], faults: Faults, notes: Notes) -> Chosen:
    """The rows that are in force, in order; the default registry where none are given."""
    path = "proactive_triggers.builtins"
    raw = triggers.get("builtins")
    if raw is not None and not isinstance(raw, list):
        faults.add(path, "must be a list")
        return []
    listed: Sequence[object] = raw or [
        {"id": PING_PONG, "name": CATALOG_NAMES[PING_PONG], "description": "the published default"}
    ]
    found: Chosen = []
    for index, item in enumerate(listed):
        at = child(path, index)
        row = _builtin(item, at, faults, notes)
        if row is None:
            continue
        if any(row["id"] == other["id"] for _, other in found):
            notes.add(at, f"{row['id']} stands here a second time: the first row wins")
        else:
            found.append((at, row))
    return _in_mode(found, triggers, notes)


def _in_mode(found: Chosen, triggers: Mapping[str, Any], notes: Notes) -> Chosen:
    mode = triggers.get("mode", MODES[0])
    if mode not in MODES:
        notes.add("proactive_triggers.mode", f"not known ({' or '.join(MODES)}): taken as {MODES[0]}")
    if mode != "ping_pong_only":
        return found
    for at, row in found:
        if row["id"] != PING_PONG:
            notes.add(at, f"{row['id']} is left out: mode is ping_pong_only")
    return [(at, row) for at, row in found if row["id"] == PING_PONG]


def _builtin(item: object, path: str, faults: Faults, notes: Notes) -> dict[str, Any] | None:
    before = len(faults.found)
    if not isinstance(item, dict):
        faults.add(path, "must be an object with id, name and description")
        return None
    texts = {}
    for key in ("id", "name", "description"):
        value = item.get(key)
        if not isinstance(value, str) or not value.strip():
            faults.add(child(path, key), "is required" if value is None else "must be text that is not blank")
        else:
            texts[key] = value.strip()
    if "id" in texts and texts["id"] not in CATALOG_NAMES:
        faults.add(child(path, "id"), f"unknown builtin (known: {', '.join(sorted(CATALOG_NAMES))})")
    timings = {}
    for key in ("interaction_timeout_s", "cooldown_s"):
        if item.get(key) is not None:
            seconds = rows.positive(item[key])
            if seconds is None:
                faults.add(child(path, key), "must be a number above 0")
            else:
                timings[key] = seconds
    kind = item.get("triggering_type")
    if kind not in (None, "instant_trigger", "llm_judge_validation"):
        faults.add(child(path, "triggering_type"), "must be instant_trigger or llm_judge_validation")
    if len(faults.found) > before:
        return None
    known = ("id", "name", "description", "triggering_type", "interaction_timeout_s", "cooldown_s")
    notes.unknown(item, path, known)
    if kind == "llm_judge_validation":
        where = child(path, "triggering_type")
        notes.add(where, "nothing is judged until the config has `model` and `judge`")
    return {"id": texts["id"], "name": texts["name"], **timings}


def _without_sections(chosen: Chosen, notes: Notes) -> Chosen:
    for at, row in chosen:
        if row["id"] == SECTION:
            notes.add(at, "left out: it needs section_url_rules and section_playbook, and would never fire")
    return [(at, row) for at, row in chosen if row["id"] != SECTION]


def _filled(row: dict[str, Any], triggers: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """The row as a trigger of ours."""
    trigger = {"builtin": row["id"], **row}
    trigger.setdefault("interaction_timeout_s", 10)
    trigger.setdefault("cooldown_s", 30)
    trigger["body"] = rows.DEFAULT_BODY
    if row["id"] == DWELL:
        trigger["body"] = rows.body(triggers.get("dwell_proactive_body"), "dwell_proactive_body", notes) or (
            "Still on this page? I can give you a quick tip."
        )
        for key, default in (("dwell_threshold_seconds", 60.0), ("user_page_dwell_max_actions", 5.0)):
            value = rows.positive(triggers.get(key, default))
            if value is None:
                notes.add(key, f"must be a number above 0: taken as {default:g}")
                value = default
            trigger[key] = value if key == "dwell_threshold_seconds" else max(1, int(value))
    return trigger


# --- messages ---------------------------------------------------------------------------------------


def _with_messages(
    triggers: list[dict[str, Any]], raw: Mapping[str, Any], config: Mapping[str, Any], notes: Notes
) -> list[dict[str, Any]]:
    """The triggers with the messages of `proactive_intercom`, and those that it adds."""
    listed = raw.get("proactive_intercom")
    if isinstance(listed, dict):  # the form before: messages for whatever fires
        options = rows.options(listed.get("messages"), "proactive_intercom.messages", notes)
        return [{**trigger, "options": options} if options else trigger for trigger in triggers]
    if listed is not None and not isinstance(listed, list):
        notes.add("proactive_intercom", "left out: must be a list")
        return triggers
    found = list(triggers)
    sections = "sections" in config and "section_playbook" in config
    for index, item in enumerate(listed or ()):
        path = child("proactive_intercom", index)
        row = criteria.row(item, path, notes, sections=sections)
        if row is None:
            continue
        # As published: where the row's criterion is a trigger of the catalog, these are its messages.
        same = next((t for t in found if t.get("builtin") in row.names and "options" not in t), None)
        if same is not None:
            same["options"] = row.trigger["options"]
        elif any(t["id"] == row.trigger["id"] for t in found):
            notes.add(path, f"left out: there is a trigger {row.trigger['id']!r} already")
        else:
            found.append(row.trigger)
    return found


def _context(triggers: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, ours in (("lookback_seconds", "lookback_s"), ("max_actions", "max_actions")):
        if triggers.get(key) is None:
            continue
        value = rows.positive(triggers[key])
        if value is None or (ours == "max_actions" and value != int(value)):
            notes.add(f"proactive_triggers.{key}", "must be a number above 0: the default is taken")
        else:
            found[ours] = int(value) if ours == "max_actions" else value
    return found
