"""What people call a page, an element, and what somebody did with it.

Pure words: nothing here is ever the value of a field. What a field says is what was typed into it, so the
text of an input is no name for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from api.ingest.acts import Act
from api.ingest.elements import FIELDS, Element, in_field, is_field
from domain import canonical

MAX_TITLE: Final = 500
MAX_PAGE: Final = 200

_ACTORS: Final = FIELDS - {"option"} | {"a", "button", "label", "summary"}  # an option is its list's
_ACTING_ROLES: Final = frozenset(
    ("button", "checkbox", "link", "menuitem", "option", "radio", "switch", "tab")
)
_LABELS: Final = ("aria-label", "title", "alt")
_NAMES: Final = ("data-attr", "data-testid", "placeholder", "name", "id")
_PLACES: Final = ("data-attr", "data-testid", "id")  # of ancestors: their names are of other things
_FALLBACK: Final = {
    "a": "a link",
    "form": "a form",
    "img": "an image",
    "input": "a field",
    "label": "a label",
    "option": "an option",
    "select": "a list",
    "svg": "an icon",
    "textarea": "a text field",
}
_VERBS: Final = {"click": "clicked", "change": "changed", "submit": "submitted"}
_SEPARATORS: Final = re.compile(r"[\s_\-]+")
_TAG: Final = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")

# How much a label says.
SAID, MARKED, GUESSED = 3, 2, 1


class Name(NamedTuple):
    text: str
    worth: (
        int  # SAID: words that people see or hear; MARKED: a name in the markup; GUESSED: a kind of element
    )


def of_element(chain: Sequence[Element], text: str | None, kind: str) -> Name:
    """What the user would call the element: its text, else its own label, else a name from the markup.

    A click lands on the icon inside a button; the button is meant. `text`: what the source says that the
    element says.
    """
    target = chain[0] if chain else None
    actor = acting(chain)
    own: list[Element] = [e for e in (actor, target) if e is not None]
    if actor is target:
        del own[1:]
    field = kind == "change" or in_field(chain) or is_field(actor)
    for element in own:
        if not field and element.text and not is_field(element) and (found := _clean(element.text)):
            return Name(found, SAID)
    for element in own:
        for key in _LABELS:
            if found := _clean(element.attributes.get(key)):
                return Name(found, SAID)
    if not field and text and (found := _clean(text.rstrip("\\"))):
        return Name(found, SAID)
    for element in own:
        for key in _NAMES:
            if found := _words(element.attributes.get(key)):
                return Name(found, MARKED)
    for element in chain:
        if found := _clean(element.attributes.get("aria-label")):
            return Name(found, MARKED)
    for element in chain:
        for key in _PLACES:
            if found := _words(element.attributes.get(key)):
                return Name(found, MARKED)
    return Name(_kind_of(actor), GUESSED)


def acting(chain: Sequence[Element]) -> Element | None:
    """The element that was meant: the nearest that does something, else the target."""
    return next((element for element in chain if _acts(element)), chain[0] if chain else None)


def of_page(canonical_url: str | None, page_title: str | None = None) -> str:
    """A page as people call it: `/projects/:id/edit` is "Projects / Edit", the root "Home"."""
    if canonical_url is None:
        return clean(page_title)[:MAX_PAGE] if page_title and not page_title.isspace() else "a page"
    return _path_words(canonical_url)


@lru_cache(maxsize=2048)
def _path_words(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:
        return "a page"
    words = (_words(unquote(part)) for part in path.split("/") if part and not part.startswith(":"))
    named = " / ".join(word[:1].upper() + word[1:] for word in words if word)
    return clean(named)[:MAX_PAGE].strip() or "Home"


def title_of(kind: str, name: str, page: str) -> str:
    if kind == "pageview":
        return clean(f"Visited {page}")
    if kind == "pageleave":
        return clean(f"Left {page}")
    return clean(name) or kind


def describe(kind: str, title: str, page: str | None) -> str:
    """One plain sentence, as "User clicked Save changes on Projects"; `page` None: nobody knows where."""
    if kind == "pageview":
        return f"User visited {page or 'a page'}"
    if kind == "pageleave":
        return f"User left {page or 'a page'}"
    verb = _VERBS.get(kind, "did")
    return f"User {verb} {title} on {page}" if page is not None else f"User {verb} {title}"


@lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """One line, without what belongs to a person, of at most 500 characters."""
    scrubbed = canonical.scrub(" ".join(text[: 4 * MAX_TITLE].split()))
    return canonical.scrub(scrubbed[:MAX_TITLE].rstrip()) if len(scrubbed) > MAX_TITLE else scrubbed


def kind_name(act: Act) -> str:
    """The type of the act's action."""
    return (act.name if act.kind == "custom" and act.name else act.kind)[:200]


def _clean(text: str | None) -> str:
    return clean(text) if text else ""


def _acts(element: Element) -> bool:
    return element.tag in _ACTORS or element.attributes.get("role") in _ACTING_ROLES


def _words(name: str | None) -> str:
    """`save-changes` or `save_changes` as words."""
    return clean(_SEPARATORS.sub(" ", name[: 4 * MAX_TITLE])) if name else ""


def _kind_of(element: Element | None) -> str:
    if element is None or not _TAG.match(element.tag):
        return "an element"
    if element.tag == "input" and not is_field(element):
        return "a button"
    found = _FALLBACK.get(element.tag)
    return found or f"{'an' if element.tag[0] in 'aeiou' else 'a'} {element.tag}"
