"""What might have been otherwise with the pages that the user was on; for `domain.near.edits` alone."""

from __future__ import annotations

from domain import config, sections, standin, words
from domain.events import Action
from domain.finding import Finding
from domain.instants import seconds
from domain.near.pieces import MANY, Make, Piece, Plan, Scene, pages
from domain.view import PAGELEAVE


def _visits(*urls: str) -> Make:
    return lambda page: tuple(map(standin.visit, urls))


def _another(page: str | None, n: int = 1) -> str:
    """A page of its own: below `page`, so that whatever its address contains is contained there too."""
    return f"{(page or '').rstrip('/')}/another-{n}"


_LEAVE = Piece(
    "the user leaving the page", make=lambda page: (Action(PAGELEAVE, "", canonical_url=page),), opens=True
)


def current_page(node: config.CurrentPage, wanted: bool, at: Scene) -> list[Plan]:
    if not wanted:
        return [(_LEAVE,)]
    urls = standin.addresses(node.url_contains, node.url_prefix, at.page)
    url = standin.quietest(urls, at.rules.matcher)
    text = f"a visit to a page that {words.page(node)}"
    return [(Piece(text, make=_visits(url), opens=True),)]


def ping_pong(node: config.PingPong, finding: Finding, wanted: bool, at: Scene) -> list[Plan]:
    if not wanted:
        return [(Piece("older visits have left the window", waits=True),)]
    seen = finding.observed
    visited = pages(at.view, at.view.lo, 2)
    lacking = max(0, node.hesitation_min_distinct - seen["distinct"])
    unseen = [_another(at.page, n) for n in range(1, min(lacking, MANY) + 3)]
    plans: list[Plan] = []
    returns = node.min_cycles - seen["cycles"]
    if 0 < returns <= MANY:
        here, there = (*visited, *unseen)[:2]
        turn = (there, here) if visited else (here, there)
        visits = [turn[n % 2] for n in range(returns + 2 - len(visited))]
        text = f"{words.number(returns, 'return', 'more')} to the page before (A to B to A)"
        plans.append((Piece(text, len(visits), _visits(*visits)),))
    fresh = unseen[:lacking]
    again = [] if seen["visited_again"] else (visited or unseen)[-1:]
    told = [words.number(len(fresh), "page", "more")] if fresh else []
    told += ["one of the pages again"] if again else []
    if told and lacking <= MANY:
        text = ", then ".join(told)
        plans.append((Piece(text, len(fresh) + len(again), _visits(*fresh, *again)),))
    return plans


def dwell(node: config.Dwell, finding: Finding, wanted: bool, at: Scene) -> list[Plan]:
    if not wanted:
        return [(_LEAVE,)]
    span = seconds(node.threshold)
    stay: Plan = (Piece(f"{span} on the page", waits=True, stays=True),)
    if finding.next_change is not None:
        return [stay]
    text, visit = f"a visit to another page and {span} on it", _visits(_another(at.page))
    return [stay, (Piece(text, 2, visit, opens=True, waits=True, stays=True),)]


def section_match(wanted: bool, at: Scene) -> list[Plan]:
    if not wanted:
        return [(Piece("the section's actions have left the window", waits=True),)]
    settings = at.rules.config
    rows = dict.fromkeys(row.section_id for row in settings.playbook)
    plans: list[Plan] = []
    for rule in settings.section_rules:
        if rule.section_id in rows and sections.of_url(rule.prefix, settings) == rule.section_id:
            text = f"a visit to section {words.quoted(rule.section_id)}"
            plans.append((Piece(text, make=_visits(rule.prefix), opens=True),))
    if not settings.section_rules:  # nothing but the host's word can tell
        plans = [_said(section) for section in rows]
    return plans


def _said(section: str) -> Plan:
    def make(page: str | None) -> tuple[Action, ...]:
        return (Action("click", "", canonical_url=page, properties={sections.HOST_PROPERTY: section}),)

    return (Piece(f"an action in section {words.quoted(section)}", make=make),)
