"""What a product's own rules say of an act: how its page and element are called, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from api.ingest.acts import Act
from api.ingest.elements import Element, is_field
from domain.config_labels import FIELDS, Labels, Match, PageRule

_FIELD_OF: Final = {attribute: field for field, attribute in FIELDS.items() if attribute is not None}
_PARTLY: Final = ("text_contains", "href_contains")

Look = dict[str, str | frozenset[str]]  # an element, as rules ask for it: case-folded


def page_name(page: str | None, labels: Labels) -> str | None:
    """The name that the first fitting rule gives to a canonical URL."""
    if page is None or not labels.pages:
        return None
    folded = page.casefold()
    return next((rule.name for rule in labels.pages if rule.fits(folded)), None)


def element_name(act: Act, labels: Labels) -> str | None:
    """The name that the first rule gives whose match is the act's element, or one around it."""
    if not labels.elements:
        return None
    looks = _looks(act)
    said = _said(looks)
    return next((rule.name for rule in labels.elements if _found(looks, said, rule.match)), None)


def ignored(act: Act, page: str | None, labels: Labels) -> bool:
    """Whether the product leaves it out."""
    if labels.ignored_events:
        names = {act.kind.casefold(), (act.name or act.kind).casefold()}
        if not names.isdisjoint(labels.ignored_events):
            return True
    if labels.ignored_pages and page is not None and _fits(page, labels.ignored_pages):
        return True
    if not labels.ignored_elements:
        return False
    looks = _looks(act)
    said = _said(looks)
    return any(_found(looks, said, match) for match in labels.ignored_elements)


def _fits(page: str, rules: Iterable[PageRule]) -> bool:
    folded = page.casefold()
    return any(rule.fits(folded) for rule in rules)


def _looks(act: Act) -> list[Look]:
    if act.chain:
        return [_look(element) for element in act.chain]
    return [{"text": _folded(act.text)}] if act.text else []


def _look(element: Element) -> Look:
    look: Look = {"tag": element.tag.casefold()}
    for name, value in element.attributes.items():
        if name in _FIELD_OF:
            look[_FIELD_OF[name]] = _folded(value)
        elif name == "href":
            look["href"] = value.casefold()
    if element.classes:
        look["class"] = frozenset(map(str.casefold, element.classes))
    if element.text and not is_field(element):
        look["text"] = _folded(element.text)
    return look


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _said(looks: Sequence[Look]) -> set[tuple[str, str]]:
    """Every (field, value) that some element has: most rules ask for one that none has."""
    said: set[tuple[str, str]] = set()
    for look in looks:
        for field, value in look.items():
            if isinstance(value, str):
                said.add((field, value))
            else:
                said.update((field, each) for each in value)
    return said


def _found(looks: Sequence[Look], said: set[tuple[str, str]], match: Match) -> bool:
    for field, values in match.wanted:
        if field not in _PARTLY and not any((field, value) in said for value in values):
            return False
    return bool(match.wanted) and any(_matches(look, match) for look in looks)


def _matches(look: Look, match: Match) -> bool:
    return all(_has(look, field, values) for field, values in match.wanted)


def _has(look: Look, field: str, values: tuple[str, ...]) -> bool:
    if field in _PARTLY:
        whole = look.get(field.removesuffix("_contains"), "")
        return any(value in whole for value in values)
    found = look.get(field)
    if isinstance(found, frozenset):
        return not found.isdisjoint(values)
    return found in values
