"""From what a host wrote (YAML or JSON, already parsed) to a `Config`, or to every fault in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from domain import calendar, config_around, config_labels, config_triggers
from domain.config import Config, PlaybookRow, QuietHours, SectionRule, Tour
from domain.config_fields import MAX_ID, Faults, Row, child, once
from domain.errors import InvalidConfig

SCHEMA: Final = 1
MAX_REPLY_LABELS: Final = 3
RESERVED: Final = ("workflows", "attribution")

_KEYS: Final = (
    *("schema", "product_id", "session", "context", "triggers", "tours", "limits", "timezone"),
    *("sections", "section_playbook", "origins", "tokens", "labels", "channels", "model", "judge"),
    *RESERVED,
)
_TOUR: Final = (
    *("id", "user_tour_id", "user_tour_name", "page_contains"),
    *("interaction_timeout_s", "cooldown_period_s"),
)
_PRODUCT_ID = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")
_TOKEN = re.compile(r"[!-~]{1,200}\Z")
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?\Z", re.ASCII)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def parse(raw: object) -> Config:
    """The config with its defaults resolved. Raises InvalidConfig with every fault and its path.

    `raw` is made of dict, list, str, int, float, bool and None, as JSON and YAML readers give it; a YAML
    date, or a key that is no text, is a fault like any other. Whether `product_id` is the product that the
    config is put for is the caller's to check.
    """
    faults = Faults()
    config = _config(raw, faults) if faults.vet(raw) else None
    if config is None or faults.found:
        raise InvalidConfig(tuple(dict.fromkeys(faults.found)))
    return config


def _config(raw: object, faults: Faults) -> Config | None:
    top = Row(raw, "", faults, _KEYS)
    if not top.sound:
        return None
    schema = top.raw("schema") if top.has("schema") else SCHEMA
    if isinstance(schema, bool) or not isinstance(schema, int) or schema != SCHEMA:
        top.fault("schema", f"must be {SCHEMA}, the only schema that this version reads")
    product_id = top.text("product_id", required=True) or ""
    if product_id and not _PRODUCT_ID.match(product_id):
        top.fault("product_id", "must be 1 to 100 of the characters A-Z a-z 0-9 . _ -")

    default = Config(product_id)
    session = top.row("session", ("interaction_timeout_s", "cooldown_period_s"))
    context = top.row("context", ("lookback_s", "max_actions"))
    triggers, section_users = config_triggers.read(top, _registered(top))
    for path in section_users:
        for key in ("sections", "section_playbook"):
            if not top.raw(key):
                faults.add(path, f"section_playbook_match needs {key}")
    tours = _tours(top)
    limits = top.row("limits", ("min_gap_s", "per_user", "quiet_hours"))
    rules, fallback = _sections(top)
    return Config(
        product_id=product_id,
        triggers=triggers,
        tours=tours,
        interaction_timeout=_duration(session, "interaction_timeout_s", default.interaction_timeout),
        cooldown_period=_duration(session, "cooldown_period_s", default.cooldown_period),
        lookback=_duration(context, "lookback_s", default.lookback),
        max_actions=context.integer("max_actions", default.max_actions) if context else default.max_actions,
        min_gap=limits.duration("min_gap_s", default.min_gap, zero=True) if limits else default.min_gap,
        per_user=config_triggers.budget(limits) if limits else None,
        quiet_hours=_quiet_hours(limits) if limits else None,
        timezone=_timezone(top) or default.timezone,
        section_rules=rules,
        section_fallback=fallback,
        playbook=_playbook(top),
        origins=_origins(top),
        tokens=_tokens(top),
        labels=config_labels.read(top),
        channels=config_around.channels(top),
        model=config_around.model(top),
        judge=config_around.judge(top, (trigger.id for trigger in triggers)),
        reserved=_reserved(top),
    )


def _duration(row: Row | None, key: str, default: int) -> int:
    return row.duration(key, default) if row else default


# --- tours ------------------------------------------------------------------------------------------


def _registered(top: Row) -> frozenset[str]:
    """Every id in the tour registry, also of rows that are wrong elsewhere: one fault should show once."""
    raw = top.raw("tours")
    rows = [row for row in raw if isinstance(row, dict)] if isinstance(raw, list) else []
    return frozenset(row["id"] for row in rows if isinstance(row.get("id"), str))


def _tours(top: Row) -> tuple[Tour, ...]:
    found = []
    seen: set[str] = set()
    for path, raw in top.items("tours"):
        row = Row(raw, path, top.faults, _TOUR)
        tour_id = row.ident("id", required=True) or ""
        if tour_id:
            once(tour_id, child(path, "id"), seen, top.faults, "the tour id")
        page = row.text("page_contains")
        default = Tour(tour_id, tour_id, tour_id)
        found.append(
            Tour(
                id=tour_id,
                user_tour_id=row.ident("user_tour_id") or tour_id,
                user_tour_name=row.text("user_tour_name") or tour_id,
                page_contains=page.casefold() if page is not None else None,
                interaction_timeout=row.duration("interaction_timeout_s", default.interaction_timeout),
                cooldown_period=row.duration("cooldown_period_s", default.cooldown_period),
            )
        )
    return tuple(found)


# --- time -------------------------------------------------------------------------------------------


def _timezone(top: Row) -> str | None:
    name = top.text("timezone")
    if name is not None:
        try:
            calendar.zone(name)
        except ValueError as error:
            top.fault("timezone", str(error))
    return name


def _quiet_hours(limits: Row) -> QuietHours | None:
    row = limits.row("quiet_hours", ("from", "to"))
    if row is None:
        return None
    start, end = _minutes(row, "from"), _minutes(row, "to")
    if start is not None and start == end:
        row.fault("to", "must differ from the beginning of the quiet hours")
    return QuietHours(start or 0, end or 0)


def _minutes(row: Row, key: str) -> int | None:
    """Minutes after midnight of a time of day."""
    if not row.need(key):
        return None
    value = row.raw(key)
    match = _TIME_OF_DAY.match(value) if isinstance(value, str) else None
    if match is None:
        # YAML reads 22:00 without quotes as the number 1320.
        row.fault(key, 'must be a time from "00:00" to "23:59", as HH:MM in quotes')
        return None
    return int(match[1]) * 60 + int(match[2])


# --- sections, origins, the rest ---------------------------------------------------------------------


def _sections(top: Row) -> tuple[tuple[SectionRule, ...], str | None]:
    sections = top.row("sections", ("rules", "fallback_id"))
    if sections is None:
        return (), None
    rules = []
    for path, raw in sections.items("rules"):
        row = Row(raw, path, top.faults, ("prefix", "section_id"))
        prefix, section_id = row.text("prefix", required=True), row.ident("section_id", required=True)
        rules.append(SectionRule(prefix or "", section_id or ""))
    return tuple(rules), sections.ident("fallback_id")


def _playbook(top: Row) -> tuple[PlaybookRow, ...]:
    """The rows by section id: the revision does not see the order of keys, so it must not matter."""
    playbook = top.row("section_playbook", None)
    if playbook is None:
        return ()
    found = []
    for section_id in sorted(playbook.keys()):
        path = child(playbook.path, section_id)
        if not section_id.strip() or len(section_id) > MAX_ID:
            top.faults.add(path, f"a section id has 1 to {MAX_ID} characters")
        if not isinstance(playbook.raw(section_id), dict):
            found.append(PlaybookRow(section_id, playbook.text(section_id) or ""))
            continue
        row = Row(playbook.raw(section_id), path, top.faults, ("body", "reply_option_labels"))
        labels = []
        for at, label in row.items("reply_option_labels", most=MAX_REPLY_LABELS):
            if isinstance(label, str) and label.strip():
                labels.append(label)
            else:
                top.faults.add(at, "must be text that is not blank")
        found.append(PlaybookRow(section_id, row.text("body", required=True) or "", tuple(labels)))
    return tuple(found)


def _origins(top: Row) -> tuple[str, ...]:
    """As a browser writes them in `Origin`: lower case, without a default port."""
    found = []
    seen: set[str] = set()
    for path, raw in top.items("origins"):
        match = _ORIGIN.match(raw.lower()) if isinstance(raw, str) else None
        port = int(match[3]) if match is not None and match[3] else None
        if match is None or (port is not None and port > 65535):
            top.faults.add(path, "must be scheme://host or scheme://host:port, without a path")
            continue
        kept = "" if port is None or port == _DEFAULT_PORTS.get(match[1]) else f":{port}"
        origin = f"{match[1]}://{match[2]}{kept}"
        once(origin, path, seen, top.faults, "the origin")
        found.append(origin)
    return tuple(found)


def _tokens(top: Row) -> tuple[str, ...]:
    found = []
    seen: set[str] = set()
    for path, raw in top.items("tokens"):
        if not isinstance(raw, str) or not _TOKEN.match(raw):
            top.faults.add(path, "must be 1 to 200 printable characters without spaces")
            continue
        once(raw, path, seen, top.faults, "the token")
        found.append(raw)
    return tuple(found)


def _reserved(top: Row) -> Mapping[str, Any] | None:
    """What later versions will read, kept as it is."""
    found = {key: top.raw(key) for key in RESERVED if top.has(key)}
    for key, value in found.items():
        if not isinstance(value, (dict, list)):
            top.fault(key, "must be an object or a list")
    return found or None
