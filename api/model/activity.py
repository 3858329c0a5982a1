"""A session's actions for a model or a person to read. Texts of pages are data: bounded, in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from api.model import grounding
from domain.history import ActionFact, History

IMPLICIT = frozenset({"pageview", "pageleave", "click", "submit", "type", "change", "focus", "blur"})
"""Types of what a browser reports; any other is an explicit event of the host's."""

MOST_LABEL = 80  # characters of a label
LEFT_OUT = "(a text that is left out)"
_TALLIED = 3


def line(text: str, most: int = 200) -> str:
    """A text of somebody's in one line of at most `most` characters."""
    flat = " ".join(grounding.clean(text[: 4 * most]).split())
    return flat if len(flat) <= most else flat[: most - 1].rstrip() + "…"


def of_versions(actions: History, after: int) -> tuple[list[ActionFact], list[ActionFact]]:
    """(actions up to that version of the stream, later ones), each as they happened."""
    old: list[ActionFact] = []
    new: list[ActionFact] = []
    for action in actions:
        (new if action.version > after else old).append(action)
    return old, new


def told(action: ActionFact, index: int, description: str | None) -> str:
    """`[3] click: User clicked Save changes — https://app.example/projects`."""
    said = line(description) if description else described(action)
    page = f" — {line(action.url, 300)}" if action.url else ""
    return f"[{index}] {line(action.type, 40)}: {said}{page}"


def described(action: ActionFact) -> str:
    """What the action was, in words, where nobody described it."""
    verb = {"pageview": "opened", "pageleave": "left", "click": "clicked", "submit": "submitted"}
    return f"User {verb.get(action.type, line(action.type, 40).replace('_', ' ') + ':')} {line(action.title)}"


def tally(actions: Sequence[ActionFact]) -> str:
    """`… and 34 earlier actions: 12 × click Save changes, 4 × pageview Projects, 18 others`; the same for
    the same actions."""
    counted = Counter((line(a.type, 40), line(a.title, MOST_LABEL)) for a in actions)
    most = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:_TALLIED]
    parts = [f"{count} × {kind} {title}" for (kind, title), count in most]
    others = len(actions) - sum(count for _, count in most)
    if others:
        parts.append(f"{others} other{'s' if others > 1 else ''}")
    return f"… and {len(actions)} earlier action{'s' if len(actions) > 1 else ''}: {', '.join(parts)}"


def as_data(actions: Iterable[ActionFact]) -> list[Mapping[str, Any]]:
    """Actions as data of a prompt. A text that gives orders instead of naming something is left out."""
    return [
        {
            "type": kind(action),
            "label": line(action.title, MOST_LABEL) if grounding.is_name(action.title) else LEFT_OUT,
            "page": path(action.url),
        }
        for action in actions
    ]


def kind(action: ActionFact) -> str:
    """What kind of action it was, in words."""
    words = line(action.type, 40).replace("_", " ")
    return words if grounding.is_name(words) else "event"


def labels(actions: Iterable[ActionFact]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(action.title[:1000] for action in actions))


def pages(actions: Iterable[ActionFact]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(action.url[:1000] for action in actions if action.url))


def path(url: str | None) -> str | None:
    """The path of a canonical URL; None without one, and of one that looks like no page's."""
    if not url or not grounding.is_page(url):
        return None
    try:
        return line(urlsplit(url).path, 120) or "/"
    except ValueError:
        return None


def doing(actions: History) -> str | None:
    """What the user did last, as a sentence; None where there is nothing that can be named."""
    for action in reversed([actions[i] for i in range(max(0, len(actions) - 10), len(actions))]):
        if grounding.is_name(action.title):
            where = path(action.url)
            on = f" on {where}" if where else ""
            return f"The last thing I saw was {kind(action)} “{line(action.title)}”{on}."
    return None
