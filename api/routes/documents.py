"""What the answers for people look like, for the API's own documentation."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
Documented = dict[int | str, dict[str, Any]]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
STATE: Schema = {"enum": ["thinking", "proactive_assistance", "reactive_assistance"]}
KIND: Schema = {
    "enum": [
        *("action", "chat", "interaction", "tour", "offer", "withheld", "shown", "dismissed"),
        *("timeout", "identity", "goal", "correction", "failure", "other"),
    ]
}


def record(**fields: Schema) -> Schema:
    """An object that always has all of these fields."""
    return {"type": "object", "required": list(fields), "properties": fields}


def listed(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _answer(description: str, schema: Schema) -> Documented:
    return {200: {"description": description, "content": {"application/json": {"schema": schema}}}}


PRODUCTS = _answer(
    "Products, by id", record(products=listed(record(product_id=TEXT, config_revision=maybe(TEXT))))
)

_SESSION = record(
    session_id=TEXT,
    user_id=maybe(TEXT),
    version=COUNT,
    last_event_at=INSTANT,
    current_state=STATE,
    cooldown_until=maybe(INSTANT),
    open_nudge_id=maybe(TEXT),
    active_tour_id=maybe(TEXT),
    timeout_due_at=maybe(INSTANT),
)
SESSIONS = _answer("A page of sessions", record(sessions=listed(_SESSION), next=maybe(TEXT)))

_ENTRY = record(
    version=maybe(COUNT) | {"description": "null: an event of one of the session's nudges"},
    position=COUNT,
    event_id=TEXT,
    at=INSTANT,
    occurred_at=INSTANT,
    type=TEXT,
    origin={"enum": ["outside", "engine"]},
    kind=KIND,
    text=TEXT | {"description": "the event in one plain sentence"},
    state=STATE | {"description": "of the machine, after the event"},
    late_by_s=maybe(NUMBER) | {"description": "where it was recorded more than 5 s after it happened"},
    clock_suspect=FLAG,
    decision_id=maybe(TEXT),
    trigger_id=maybe(TEXT),
    reason=maybe(TEXT),
    nudge_id=maybe(TEXT),
)
_SPAN = {"from": INSTANT, "to": maybe(INSTANT)}
TIMELINE = _answer(
    "The session",
    record(
        **{"session_id": TEXT, "user_id": maybe(TEXT), "version": COUNT, "from": INSTANT, "to": INSTANT},
        entries=listed(_ENTRY),
        bands=listed(record(state=STATE, **_SPAN)),
        cooldowns=listed(record(**{"from": INSTANT, "to": INSTANT})),
        tours=listed(record(tour_id=TEXT, **_SPAN)),
    ),
)

_OUTCOMES = dict.fromkeys(("shown", "answered", "dismissed", "goal"), COUNT)
_TRIGGER = record(
    trigger_id=TEXT,
    name=TEXT,
    in_force=FLAG,
    offered=COUNT,
    withheld={"type": "object", "additionalProperties": COUNT, "description": "by reason"},
    **_OUTCOMES,
    series=listed(record(at=INSTANT, offered=COUNT, withheld=COUNT, **_OUTCOMES)),
)
TRIGGERS = _answer(
    "Figures of the triggers: those in force in the config's order, then others by id",
    record(**{"from": INSTANT, "to": INSTANT}, bucket_s=COUNT, triggers=listed(_TRIGGER)),
)
