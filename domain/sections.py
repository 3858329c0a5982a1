"""Which section of the product the user is in, by the rules of a config.

Dwell on a section is the time from an action in it to the next action in the window, as the published
integration counts it (`timestamp_end` of an action is the start of the next).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from domain.config import Config
from domain.finding import EVIDENCE
from domain.history import ActionFact

HOST_PROPERTY = "current_section_id"  # an action's property by which the host says it itself
UNMAPPED = "other"


class Section(NamedTuple):
    section_id: str
    how: str  # which rule resolved it
    evidence: tuple[str, ...]


def of_url(url: str | None, settings: Config) -> str | None:
    """The section of a canonical URL: the first rule whose prefix fits, else the fallback. None: no URL."""
    if not url:
        return None
    for rule in settings.section_rules:
        if url.startswith(rule.prefix):
            return rule.section_id
    return settings.section_fallback or UNMAPPED


def resolve(window: Sequence[ActionFact], settings: Config, rows: Collection[str]) -> Section | None:
    """The section whose playbook row applies: the host's word, else most dwell (then visits, then id),
    else the current section. None where no row of the playbook applies."""
    host = next((a for a in reversed(window) if (a.properties or {}).get(HOST_PROPERTY)), None)
    if host is not None and host.properties is not None:
        named = host.properties[HOST_PROPERTY]
        if isinstance(named, str) and named in rows:  # a host may send anything
            return Section(named, "the host's current_section_id", (host.event_id,))
    if not settings.section_rules:
        return None
    dwell: dict[str, int] = {}
    visits: dict[str, int] = {}
    evidence: dict[str, list[str]] = {}
    current: str | None = None
    for index, action in enumerate(window):
        section = of_url(action.url, settings)
        if section is None:
            continue
        following = window[index + 1].occurred_at if index + 1 < len(window) else action.occurred_at
        dwell[section] = dwell.get(section, 0) + following - action.occurred_at
        visits[section] = visits.get(section, 0) + (section != current)
        evidence.setdefault(section, []).append(action.event_id)
        current = section
    ranked = sorted((s for s in dwell if s in rows), key=lambda s: (-dwell[s], -visits[s], s))
    if not ranked:
        return None
    best, how = ranked[0], "most dwell"
    if not dwell[best]:  # nobody stayed anywhere yet
        how = "most visits"
        if current is not None and current in rows:
            best, how = current, "the current section"
    return Section(best, how, tuple(evidence[best][-EVIDENCE:]))
