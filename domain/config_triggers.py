"""The triggers of a config as a host wrote them: full rows, and rows that name a builtin."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from domain import config_criteria
from domain.config import Budget, Limits, Node, Option, Trigger
from domain.config_criteria import LEAVES, NOTHING, Scan
from domain.config_fields import Faults, Row, child, nearest, once, shown
from domain.instants import SECOND

MAX_BODY: Final = 150  # characters
MAX_OPTIONS: Final = 3
CHANNELS: Final = ("toast", "rasa", "intercom", "webhook")
PERIODS: Final = ("hour", "day", "week", "month", "ever")

_FIELDS: Final = (
    *("id", "name", "body", "how_to", "tours", "options", "target", "channels", "interaction_timeout_s"),
    *("cooldown_s", "expires_s", "limits", "holdout", "goal", "criteria", "builtin"),
)
_DEFAULT: Final = Trigger("", "", NOTHING)


class Builtin(NamedTuple):
    """What a row that names only a builtin is filled with."""

    name: str
    body: str
    interaction_timeout: int = 10 * SECOND
    cooldown: int = 30 * SECOND


BUILTINS: Final = {
    "canonical_url_ping_pong": Builtin(
        "Going back and forth", "Looking for something? I can help you find it."
    ),
    "user_page_dwell": Builtin("Staying on one page", "Stuck on this page? I can walk you through it."),
    "section_playbook_match": Builtin("Help with this section", "Would you like a hand with this section?"),
}


def read(top: Row, tours: Collection[str]) -> tuple[tuple[Trigger, ...], list[str]]:
    """The triggers, and the paths of everything in them that needs sections and a playbook.

    `tours`: the ids that a trigger may name.
    """
    found: list[Trigger] = []
    section_users: list[str] = []
    seen: set[str] = set()
    for path, raw in top.items("triggers"):
        trigger = _trigger(raw, path, top.faults, tours, section_users)
        if trigger.id:
            once(trigger.id, child(path, "id"), seen, top.faults, "the trigger id")
        found.append(trigger)
    return tuple(found), section_users


def _trigger(
    raw: object, path: str, faults: Faults, tours: Collection[str], section_users: list[str]
) -> Trigger:
    if isinstance(raw, dict) and "builtin" in raw:
        row, kind = _builtin_row(raw, path, faults)
    else:
        row, kind = Row(raw, path, faults, _FIELDS), None

    preset = BUILTINS[kind] if kind is not None else None
    trigger_id = row.ident("id", required=not row.has("builtin"))
    if trigger_id is None and not row.has("id"):
        trigger_id = kind
    return Trigger(
        id=trigger_id or "",
        name=row.text("name") or (preset.name if preset else trigger_id or ""),
        criteria=_criteria(row, kind, section_users),
        body=row.text("body", most=MAX_BODY) or (preset.body if preset else _DEFAULT.body),
        how_to=row.text("how_to"),
        tours=_tours(row, tours),
        options=_options(row),
        target=row.text("target"),
        channels=_channels(row),
        interaction_timeout=row.duration(
            "interaction_timeout_s", preset.interaction_timeout if preset else None
        ),
        cooldown=row.duration("cooldown_s", preset.cooldown if preset else _DEFAULT.cooldown),
        expires=row.duration("expires_s", _DEFAULT.expires),
        limits=_limits(row),
        holdout=_holdout(row),
        goal=row.ident("goal"),
        builtin=kind,
    )


def _builtin_row(raw: dict[object, object], path: str, faults: Faults) -> tuple[Row, str | None]:
    named = raw["builtin"]
    kinds = (named,) if isinstance(named, str) and named in BUILTINS else tuple(BUILTINS)
    # The fields of an unknown builtin cannot be known: any builtin's are taken, its name is the fault.
    row = Row(raw, path, faults, (*_FIELDS, *(name for kind in kinds for name in LEAVES[kind].fields)))
    if row.has("criteria"):
        row.fault("criteria", "a builtin has its own criteria: leave out criteria, or builtin")
    return row, row.choice("builtin", tuple(BUILTINS))


def _criteria(row: Row, builtin: str | None, section_users: list[str]) -> Node:
    if row.has("builtin"):
        if builtin == "section_playbook_match":
            section_users.append(child(row.path, "builtin"))
        return LEAVES[builtin].build(row, None, None) if builtin is not None else NOTHING
    if not row.need("criteria"):
        return NOTHING
    scan = Scan(row.faults)
    node = config_criteria.read(row.raw("criteria"), child(row.path, "criteria"), scan)
    section_users += scan.section_leaves
    return node


def _tours(row: Row, registered: Collection[str]) -> tuple[str, ...]:
    found = []
    seen: set[str] = set()
    for path, tour in row.items("tours"):
        if not isinstance(tour, str):
            row.faults.add(path, "must be the id of a tour")
        elif tour not in registered:
            row.faults.add(path, f"no tour {shown(tour)} in tours{nearest(tour, registered)}")
        else:
            once(tour, path, seen, row.faults, "the tour")
            found.append(tour)
    return tuple(found)


def _channels(row: Row) -> tuple[str, ...]:
    if not row.has("channels"):
        return _DEFAULT.channels
    found = []
    seen: set[str] = set()
    for path, channel in row.items("channels", least=1):
        if not isinstance(channel, str) or channel not in CHANNELS:
            hint = nearest(channel, CHANNELS) if isinstance(channel, str) else ""
            row.faults.add(path, f"must be one of {', '.join(CHANNELS)}{hint}")
        else:
            once(channel, path, seen, row.faults, "the channel")
            found.append(channel)
    return tuple(found)


def _options(row: Row) -> tuple[Option, ...]:
    found = []
    seen: set[str] = set()
    for path, raw in row.items("options", most=MAX_OPTIONS):
        option = Row(raw, path, row.faults, ("id", "label", "user_tour_exists", "user_tour_id"))
        option_id = option.ident("id", required=True) or ""
        if option_id:
            once(option_id, child(path, "id"), seen, row.faults, "the option id")
        exists = option.flag("user_tour_exists")
        tour = option.ident("user_tour_id", required=exists)
        found.append(Option(option_id, option.text("label", required=True) or "", exists, tour))
    return tuple(found)


def _limits(row: Row) -> Limits:
    limits = row.row("limits", ("per_session", "per_user"))
    return Limits(limits.integer("per_session", None), budget(limits)) if limits else Limits()


def budget(limits: Row) -> Budget | None:
    """The `per_user` of some limits."""
    row = limits.row("per_user", ("times", "per"))
    if row is None:
        return None
    times, per = row.integer("times", 1, required=True), row.choice("per", PERIODS, required=True)
    return Budget(times, per or "day")


def _holdout(row: Row) -> float:
    share = row.raw("holdout") if row.has("holdout") else _DEFAULT.holdout
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        row.fault("holdout", "must be a number from 0 to 1")
        return _DEFAULT.holdout
    return float(share)
