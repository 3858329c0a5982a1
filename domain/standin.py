"""Actions that a user might have done: stand-ins for what a trigger lacked.

A stand-in is made from a `where` so that the ruleset's own matcher marks it, and so that it disturbs as
little else as can be: on the page where the user is, and matching no other `where` if that can be avoided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, product

from domain.config import Where
from domain.events import Action
from domain.history import ActionFact
from domain.view import PAGELEAVE, Matcher

TRIED = 64  # combinations of types, titles and URLs


def matching(where: Where, page: str | None, matcher: Matcher) -> Action | None:
    """An action that matches, done on `page` where that fits; None where none was found."""
    types = [kind for kind in where.type if kind != PAGELEAVE] or where.type or ("click",)
    titles = where.title_equals or where.title_contains or ("",)
    properties = {name: accepted[0] for name, accepted in where.properties} or None
    if where.url_contains or where.url_prefix:
        urls = [*([page] if page else []), *addresses(where.url_contains, where.url_prefix, page)]
    else:
        urls = [page]  # type: ignore[list-item]
    made = (
        Action(kind, title, canonical_url=url, properties=properties)
        for url, title, kind in product(urls, titles, types)
    )
    bit = matcher.bit(where)
    fitting = [action for action in islice(made, TRIED) if _marks(action, matcher) & bit]
    return min(
        fitting,
        key=lambda a: (page is not None and a.canonical_url != page, _noise(a, matcher)),
        default=None,
    )


def visit(url: str) -> Action:
    return Action("pageview", "", canonical_url=url)


def quietest(urls: Iterable[str], matcher: Matcher) -> str:
    """The first of those pages a visit to which matches the fewest `where`s. There must be one."""
    return min(islice(urls, TRIED), key=lambda url: _noise(visit(url), matcher))


def addresses(contains: Iterable[str], prefixes: Iterable[str], page: str | None) -> Iterator[str]:
    """Addresses that begin with one of `prefixes` and contain one of `contains`, where such are given."""
    for prefix, part in product(tuple(prefixes) or ("",), tuple(contains) or ("",)):
        if prefix:
            yield prefix if part in prefix else f"{prefix}{part}"
        elif "://" in part:
            yield part
        else:
            yield origin(page) + (part if part.startswith("/") else f"/{part}")


def origin(page: str | None) -> str:
    """Scheme and host of an address; empty where it is only a path."""
    if page is None or "://" not in page:
        return ""
    scheme, _, rest = page.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _marks(action: Action, matcher: Matcher) -> int:
    seen = ActionFact(0, "", 0, action.type, action.title, action.canonical_url, action.properties)
    return matcher.marks(seen)


def _noise(action: Action, matcher: Matcher) -> int:
    """How many `where`s it matches."""
    return _marks(action, matcher).bit_count()
