"""What Amplitude's events say that a user did: as its autocapture names them, or Autoplay's template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from api.ingest.acts import Act
from api.ingest.arrivals import short, table
from api.ingest.elements import MAX_CHARS, Element
from domain import events

MAX_ELEMENTS = 64  # of a hierarchy

_OWN = "[Amplitude] "
_KINDS = {
    "[Amplitude] Page Viewed": "pageview",
    "[Amplitude] Element Clicked": "click",
    "[Amplitude] Element Changed": "change",
    "[Amplitude] Form Submitted": "submit",
    "$pageview": "pageview",
}
_IGNORED = frozenset(
    (
        "session_start",
        "session_end",
        "$groupidentify",
        "[Amplitude] Form Started",
        "[Amplitude] Viewport Content Updated",
        "[Amplitude] Network Request",
        "[Amplitude] Web Vitals",
        "[Amplitude] Replay Captured",
    )
)
# Of Amplitude's own properties: what an act is labelled by.
_LABELLING = (
    "[Amplitude] Page URL",
    "[Amplitude] Page Location",
    "[Amplitude] Page Title",
    "[Amplitude] Element Text",
    "[Amplitude] Element Tag",
    "[Amplitude] Element ID",
    "[Amplitude] Element Class",
    "[Amplitude] Element Aria Label",
    "[Amplitude] Element Path",
    "[Amplitude] Element Hierarchy",
    "[Amplitude] Form ID",
    "[Amplitude] Form Name",
    "$event_type",
    "$current_url",
    "$button_text",
    "$elements_chain",
    "$element_id",
    "$element_tag",
)
_SAID = frozenset(("[Amplitude] Element Text", "$button_text"))
_HIERARCHY = "[Amplitude] Element Hierarchy"
_STEP = re.compile(r"[#.](?:\\.|[^#.:\\])+|:[^#.]*")
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_ESCAPE = re.compile(r"\\(.)")

# By person, page and id: where a form stands, as the elements in it said.
Forms = dict[tuple[object, ...], list[Any]]


def act(name: str, properties: Mapping[str, Any]) -> Act | None:
    """What an event of that name is; None for one that says nothing of what the user did."""
    kind = _KINDS.get(name)
    if name == "$autocapture":
        kind = short(properties.get("$event_type"), 20) or "click"
        if kind not in ("click", "change", "submit"):
            return None
    if name in _IGNORED:
        return None
    get = properties.get
    url = get("[Amplitude] Page URL") or get("$current_url") or get("[Amplitude] Page Location")
    if kind == "pageview":  # the one event whose location is surely its page's, with its query
        url = get("[Amplitude] Page Location") or url
    title = short(get("[Amplitude] Page Title"), 500)
    own = {key: properties[key] for key in _LABELLING if properties.get(key) not in (None, "")}
    chain: list[Element] = []
    text: str | None = None
    if kind in ("click", "change", "submit"):
        chain = _chain(properties)
        text = short(get("[Amplitude] Element Text"), 400) or short(get("$button_text"), 400)
        if kind == "change" or (text == title and "[Amplitude] Element Text" not in properties):
            text = None  # the template puts the page's title where an element has no text
        if kind == "change":  # what a field says is what was typed into it
            own = {key: own[key] for key in own if key not in _SAID}
        if chain:
            chain[0] = chain[0]._replace(text=text)
            own[_HIERARCHY] = [_kept(element) for element in chain]
    return Act(
        kind=kind or "custom",
        name=None if kind else name.removeprefix(_OWN)[:200] or name[:200],
        url=short(url, 4096),
        page_title=title,
        chain=chain,
        text=text,
        properties={
            key: value for key, value in properties.items() if not key.startswith((_OWN, "$")) and key
        },
        body={"event_type": name, "own": own},
    )


def act_again(action: events.Action) -> Act | None:
    """The act that an action was labelled from; None where nothing of its body was kept."""
    body = action.body or {}
    name = body.get("event_type")
    return act(name, {**(action.properties or {}), **table(body.get("own"))}) if type(name) is str else None


def placed(name: str, properties: dict[str, Any], owner: tuple[object, ...], forms: Forms) -> dict[str, Any]:
    """A form that was submitted says its id alone; where it stands, a click in it said just before."""
    hierarchy = properties.get(_HIERARCHY)
    page = short(properties.get("[Amplitude] Page URL"), 4096)
    if type(hierarchy) is list:
        for index, item in enumerate(hierarchy[:MAX_ELEMENTS]):
            if type(item) is dict and item.get("tag") == "form" and type(item.get("id")) is str:
                forms[owner, page, item["id"]] = hierarchy[index:]
    elif name == "[Amplitude] Form Submitted":
        identity = properties.get("[Amplitude] Form ID")
        known = forms.get((owner, page, identity)) if type(identity) is str else None
        if known is not None:
            return {**properties, _HIERARCHY: known}
    return properties


def _chain(properties: Mapping[str, Any]) -> list[Element]:
    """The element and its ancestors, target first."""
    hierarchy = properties.get(_HIERARCHY)
    chain: list[Element] = []
    if type(hierarchy) is list:
        chain = [_element(item) for item in hierarchy[:MAX_ELEMENTS] if type(item) is dict]
    path = short(properties.get("[Amplitude] Element Path") or properties.get("$elements_chain"), MAX_CHARS)
    if not chain and path is not None:
        chain = [_step(step) for step in reversed(path.split(" > ")[-MAX_ELEMENTS:])]
    form = short(properties.get("[Amplitude] Form ID"), 400)
    if not chain and form is not None:
        chain = [Element("form", (), {"id": form}, None)]
    tag = short(properties.get("[Amplitude] Element Tag") or properties.get("$element_tag"), 50)
    if not chain and tag is not None:
        chain = [Element(tag.lower(), (), {}, None)]
    if chain:
        told = {
            "id": properties.get("[Amplitude] Element ID") or properties.get("$element_id"),
            "aria-label": properties.get("[Amplitude] Element Aria Label"),
            "name": properties.get("[Amplitude] Form Name"),
        }
        found = {key: text for key, value in told.items() if (text := short(value, 400)) is not None}
        chain[0] = chain[0]._replace(attributes={**chain[0].attributes, **found})
    return chain


def _element(item: dict[str, Any]) -> Element:
    """One of a hierarchy. What a field holds is not kept, should a page put it into an attribute."""
    attributes = {
        key: value[:400]
        for key, value in table(item.get("attrs")).items()
        if type(value) is str and key != "value"
    }
    for key, name in (("index", "nth-child"), ("indexOfType", "nth-of-type")):
        if type(item.get(key)) is int:
            attributes[name] = str(item[key] + 1)
    identity = short(item.get("id"), 400)
    if identity is not None:
        attributes["id"] = identity
    classes = item.get("classes")
    named = tuple(name for name in classes if type(name) is str) if type(classes) is list else ()
    return Element((short(item.get("tag"), 50) or "").lower(), named, attributes, None)


def _step(step: str) -> Element:
    """One of a CSS path, as `button.btn.btn\\:edit:nth-child(2)`."""
    tag = _TAG.match(step)
    classes: list[str] = []
    attributes: dict[str, str] = {}
    for part in _STEP.findall(step[tag.end() if tag else 0 :]):
        name = _ESCAPE.sub(r"\1", part[1:])
        if part[0] == ".":
            classes.append(name)
        elif part[0] == "#":
            attributes["id"] = name[:400]
    return Element(tag[0].lower() if tag else "", tuple(classes), attributes, None)


def _kept(element: Element) -> dict[str, Any]:
    """An element as a hierarchy has it."""
    kept: dict[str, Any] = {"tag": element.tag}
    if element.classes:
        kept["classes"] = list(element.classes)
    if element.attributes:
        kept["attrs"] = dict(element.attributes)
    return kept
