"""What a product adds to how its users' actions are named: `labels` of a config.

    labels:
      pages:                              # what a page is called; the first rule that fits
        - {url_prefix: "https://app.acme.test/p/", name: Projects}
        - {url_contains: [/billing, /invoices], name: Billing}
      elements:                           # what an element is called; it, or something around it, must match
        - {match: {data_attr: save-changes}, name: Save the project}
        - {match: {tag: a, href_contains: /export}, name: Export}
      collapse: ["/orgs/*/members", "/files/:folder"]
      ignore:
        - {match: {class: chat-widget}}
        - {url_contains: /internal}
        - {event: heartbeat}

All fields of one `match` must fit the same element; a list means any of its values. Texts and addresses are
compared without regard to case, addresses in their canonical form.

A `collapse` pattern is the beginning of a path, segment by segment: `*` stands for any segment and makes it
`:id`, `:name` stands for any and makes it `:name`; the first that fits is used. It holds for every source,
also for the native API, whose events keep their titles.

The rules of the config in force when an event is recorded name it; a new config names later events only.
`nudgeledger relabel` carries them to older ones. The labeller's id with an event holds `Labels.digest`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from domain.config_fields import Row, shown

Pattern = tuple[str, ...]  # as `canonical.collapse` takes it

MAX_RULES: Final = 200  # in one list
MAX_TEXT: Final = 200  # characters of a name or of something to compare with

# What of an element a rule may ask for, and the attribute that it is; None: not an attribute.
FIELDS: Final[Mapping[str, str | None]] = {
    "id": "id",
    "name": "name",
    "data_attr": "data-attr",
    "test_id": "data-testid",
    "role": "role",
    "type": "type",
    "aria_label": "aria-label",
    "text": None,
    "text_contains": None,
    "tag": None,
    "class": None,
    "href_contains": None,
}


@dataclass(frozen=True, slots=True)
class Match:
    """(field, accepted values, case-folded): all of them about one element."""

    wanted: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class PageRule:
    name: str
    url_contains: tuple[str, ...] = ()
    url_prefix: tuple[str, ...] = ()

    def fits(self, folded_url: str) -> bool:
        """`folded_url`: canonical and case-folded."""
        if self.url_prefix and not folded_url.startswith(self.url_prefix):
            return False
        return not self.url_contains or any(part in folded_url for part in self.url_contains)


@dataclass(frozen=True, slots=True)
class ElementRule:
    name: str
    match: Match


@dataclass(frozen=True, slots=True)
class Labels:
    """Rules of the labelling step, in the order in which they are asked."""

    pages: tuple[PageRule, ...] = ()
    elements: tuple[ElementRule, ...] = ()
    collapse: tuple[Pattern, ...] = ()
    ignored_pages: tuple[PageRule, ...] = ()
    ignored_elements: tuple[Match, ...] = ()
    ignored_events: frozenset[str] = frozenset()  # names of events or kinds of acts, case-folded
    digest: str = ""  # of the rules; empty where there are none


def read(top: Row) -> Labels:
    row = top.row("labels", ("pages", "elements", "collapse", "ignore"))
    if row is None:
        return Labels()
    pages: list[PageRule] = []
    matches: list[Match] = []
    names: set[str] = set()
    for path, raw in row.items("ignore", most=MAX_RULES):
        rule = Row(raw, path, row.faults, ("match", "url_contains", "url_prefix", "event"))
        if not rule.sound:
            continue
        given = [key for key in ("match", "event") if rule.has(key)]
        given += ["url"] if rule.has("url_contains") or rule.has("url_prefix") else []
        if len(given) != 1:
            row.faults.add(path, "must say one of: match, event, or url_contains and url_prefix")
        elif given == ["match"]:
            matches.append(_match(rule))
        elif given == ["event"]:
            names.update(_bounded(rule, "event"))
        else:
            pages.append(_page(rule, ""))
    return Labels(
        pages=tuple(_pages(row)),
        elements=tuple(_elements(row)),
        collapse=_collapse(row),
        ignored_pages=tuple(pages),
        ignored_elements=tuple(matches),
        ignored_events=frozenset(names),
        digest=_digest(top.raw("labels")),
    )


def _pages(row: Row) -> list[PageRule]:
    found = []
    for path, raw in row.items("pages", most=MAX_RULES):
        rule = Row(raw, path, row.faults, ("url_contains", "url_prefix", "name"))
        if rule.sound and not (rule.has("url_contains") or rule.has("url_prefix")):
            row.faults.add(path, "needs url_contains or url_prefix")
        found.append(_page(rule, _name(rule)))
    return found


def _page(rule: Row, name: str) -> PageRule:
    return PageRule(name, _bounded(rule, "url_contains"), _bounded(rule, "url_prefix"))


def _elements(row: Row) -> list[ElementRule]:
    found = []
    for path, raw in row.items("elements", most=MAX_RULES):
        rule = Row(raw, path, row.faults, ("match", "name"))
        found.append(ElementRule(_name(rule), _match(rule)))
    return found


def _name(rule: Row) -> str:
    return " ".join((rule.text("name", required=True, most=MAX_TEXT) or "").split())


def _match(rule: Row) -> Match:
    rule.need("match")
    below = rule.row("match", FIELDS)
    if below is None:
        return Match(())
    if not below.keys():
        rule.fault("match", f"must name at least one of {', '.join(FIELDS)}")
    return Match(tuple((key, _bounded(below, key)) for key in FIELDS if below.has(key)))


def _bounded(row: Row, key: str) -> tuple[str, ...]:
    values = row.texts(key)
    if len(values) > MAX_RULES:
        row.fault(key, f"must be at most {MAX_RULES} texts")
    elif any(len(value) > MAX_TEXT for value in values):
        row.fault(key, f"must be texts of at most {MAX_TEXT} characters")
    return tuple(" ".join(value.split()) for value in values)


def _collapse(row: Row) -> tuple[Pattern, ...]:
    found = []
    for path, raw in row.items("collapse", most=MAX_RULES):
        pattern = _pattern(raw)
        if pattern is None:
            row.faults.add(path, f"must be a path of at most {MAX_TEXT} characters, as /orgs/*/members")
        elif not any(segment.startswith(":") for segment in pattern):
            row.faults.add(path, f"{shown(raw)} collapses nothing: put * or a :name for a segment")
        else:
            found.append(pattern)
    return tuple(found)


def _pattern(raw: object) -> Pattern | None:
    if not isinstance(raw, str) or len(raw) > MAX_TEXT or not raw.startswith("/"):
        return None
    segments = raw.strip("/").split("/")
    if any(not part or part == ":" or any(c in part for c in "?# \t\r\n") for part in segments):
        return None
    return tuple(
        ":id" if part == "*" else part if part.startswith(":") else part.casefold() for part in segments
    )


def _digest(raw: object) -> str:
    if not raw:
        return ""
    written = json.dumps(raw, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(written.encode()).hexdigest()[:6]
