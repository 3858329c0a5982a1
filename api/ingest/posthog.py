"""PostHog's flat destination body: one object an event, 13 keys, every value a text, '' where missing.

The body has no event id, so one is derived from what identifies the act: the same bytes again give the
same id. Its `button_or_link_text` is the first text anywhere in the chain, cut at an escaped quote; the
chain is asked first, so that an icon button is not labelled with its neighbour's text. What a label is made
of is kept, sealed, without the values of inputs: `relabel` mends what an earlier version got wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from api.ingest import clock, elements
from api.ingest.elements import Element
from api.ingest.fields import Data, optional_identifier, optional_text
from api.ingest.native import OutsideEvent
from domain import canonical, envelope, events
from domain.errors import Fault, InvalidInput

SOURCE = "posthog"
LABELLER = "posthog-1"  # raise the number whenever the same body gets another label
MAX_TITLE = 500

_ACTORS = frozenset(("a", "button", "input", "label", "option", "select", "summary", "textarea"))
_ACTING_ROLES = frozenset(("button", "checkbox", "link", "menuitem", "option", "radio", "switch", "tab"))
_LABELS = ("aria-label", "title", "alt")
_NAMES = ("data-attr", "data-testid", "placeholder", "name", "id")
_KEPT = ("element_id", "input_field_name", "link_destination", "referrer")
_PROPERTIES = (*_KEPT, "elements_chain")  # what of the body rules may ask for; sealed
_IDENTITY = ("distinct_id", "timestamp", "event", "session_id", "event_type", "current_url", "elements_chain")
# Of the rest of the body: what no other field of the event holds.
_BODY = ("event", "event_type", "button_or_link_text")
# An input's value, up to the quote that ends it: only quotes are escaped, and one that was not before another
# attribute, another element or the end is not; see `elements`. A chain that was cut may end inside.
_VALUE = re.compile(
    r'attr__value="(?:[^"\\]|\\(?!"(?:[A-Za-z0-9_\-]+="|;[^"]*?:[A-Za-z0-9_\-]+="|$))"?)*\\?(?:"|$)'
)
_SEPARATORS = re.compile(r"[\s_\-]+")


class Translation(NamedTuple):
    events: list[OutsideEvent]  # one, or none where the event says nothing about what the user did
    ignored: str | None  # the name of an event that was left out


def translate(body: object, received_at: int) -> Translation:
    """The outside event of one body. Raises InvalidInput with every fault; `received_at` is in µs."""
    if type(body) is not dict:
        raise InvalidInput([Fault("", "must be an object")])
    faults: list[Fault] = []
    # '' means missing in this format, for ids as for everything else.
    data = {key: value for key, value in body.items() if value != ""}
    name = optional_text(data, "event", "", faults, 200)
    if not faults and (name is None or name.isspace()):
        faults.append(Fault("event", "is required"))
    if name is not None and name.startswith("$") and name not in _KNOWN:
        return Translation([], name)
    user_id = optional_identifier(data, "distinct_id", "", faults)
    session_id = optional_identifier(data, "session_id", "", faults)
    if user_id is None and session_id is None and not faults:
        faults.append(Fault("distinct_id", "distinct_id or session_id is required"))
    occurred = clock.instant(data, "timestamp", "", faults)
    for key in (*_KEPT, "event_type", "button_or_link_text", "elements_chain", "current_url"):
        optional_text(data, key, "", faults, 1_000_000)
    email = optional_text(data, "email", "", faults, 320)
    if faults or name is None:
        raise InvalidInput(faults)
    event = events.UserIdentified(email=email) if name == "$identify" else _action(name, _stripped(data))
    translated = OutsideEvent(
        event_id=envelope.derived_id(occurred or 0, SOURCE, *(str(data.get(key, "")) for key in _IDENTITY)),
        event=event,
        session_id=session_id,
        user_id=user_id,
        received_at=received_at,
        occurred_at=clock.corrected(occurred, None, received_at)[0],
        occurred_raw=clock.verbatim(data.get("timestamp")),
        sent_raw=None,
        clock_suspect=False,
        source=SOURCE,
        correlation_id=None,
    )
    return Translation([translated], None)


_KNOWN = frozenset(("$pageview", "$pageleave", "$autocapture", "$identify"))


def _action(name: str, data: Data) -> events.Action:
    """The action of a body that was stripped. What it is labelled by is what it keeps, and nothing else."""
    raw_url = data.get("current_url", "")[:4096] or None
    if name == "$pageview":
        type_, title = "pageview", f"Visited {page_name(raw_url)}"
    elif name == "$pageleave":
        type_, title = "pageleave", f"Left {page_name(raw_url)}"
    elif name == "$autocapture":
        type_ = data.get("event_type", "click")[:200]
        title = label(elements.parse(data.get("elements_chain", "")), data.get("button_or_link_text", ""))
    else:
        type_, title = name, name
    return events.Action(
        type=type_,
        title=canonical.scrub(" ".join(title.split())[:MAX_TITLE]),
        raw_url=raw_url,
        canonical_url=None if raw_url is None else canonical.canonical_url(raw_url),
        properties={key: data[key] for key in _PROPERTIES if key in data} or None,
        body={key: data[key] for key in _BODY if key in data},
        labeller=LABELLER,
    )


def relabel(action: events.Action) -> events.Action | None:
    """The action as this version labels what was kept of its body; None where nothing was."""
    body = action.body or {}
    if "event" not in body:
        return None
    data = {**(action.properties or {}), **body}
    if action.raw_url is not None:
        data["current_url"] = action.raw_url
    return _action(body["event"], data)


def _stripped(data: Data) -> Data:
    """The body without input values, and without what of the chain nobody looks at."""
    if "elements_chain" not in data:
        return data
    return {**data, "elements_chain": _VALUE.sub("", data["elements_chain"])[: elements.MAX_CHARS]}


def page_name(url: str | None) -> str:
    """A page as people call it: `/projects/102/edit` is "Projects / Edit", the root "Home"."""
    if url is None:
        return "a page"
    try:
        path = urlsplit(canonical.canonical_url(url) or url).path
    except ValueError:
        return "a page"
    words = (_words(unquote(part)) for part in path.split("/") if part and not part.startswith(":"))
    return " / ".join(word[:1].upper() + word[1:] for word in words if word) or "Home"


def label(chain: Sequence[Element], flat_text: str) -> str:
    """What the user would call the element: its text, else its own label, else a name from the markup.

    A click lands on the icon inside a button; the button is meant. `flat_text` is the body's
    `button_or_link_text`.
    """
    target = chain[0] if chain else None
    actor = next((element for element in chain if _acts(element)), target)
    own = [element for element in (actor, target) if element is not None]
    candidates = [element.text for element in own]
    candidates += [element.attributes.get(key) for element in own for key in _LABELS]
    candidates.append(flat_text.rstrip("\\"))
    candidates += [_words(element.attributes.get(key, "")) for element in own for key in _NAMES]
    candidates += [element.attributes.get("aria-label") for element in chain]
    candidates += [
        _words(element.attributes.get(key, "")) for element in chain for key in ("data-attr", "id")
    ]
    found = next((text for text in candidates if text and not text.isspace()), None)
    return found or (f"a {actor.tag}" if actor is not None and actor.tag else "an element")


def _acts(element: Element) -> bool:
    return element.tag in _ACTORS or element.attributes.get("role") in _ACTING_ROLES


def _words(name: str) -> str:
    """`save-changes` or `save_changes` as words."""
    return _SEPARATORS.sub(" ", name).strip()
