"""PostHog's `elements_chain`: the element an event is about and its ancestors, as one string.

    chain    = element *( ";" element )                  target first, then ancestors
    element  = tag *( "." class ) ":" *( key "=" DQUOTE value DQUOTE )

Attributes follow each other without a separator. Only `"` is escaped, as `\\"`; a backslash is not, so a
value that ends in one looks as if it went on. A class may hold `:`, `.` and `;`: which they are is told by
`attr__class`. Garbage gives fewer elements, never an exception.

Older SDKs send the same as a list, `$elements`: `listed` reads it, `written` makes a chain of either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MAX_CHARS = 16_384  # what is beyond is not looked at
MAX_ELEMENTS = 200  # of a list
MAX_VALUE = 2_048  # characters of one value of a list

# Classes may hold colons: the head ends at the first colon that is followed by a key and a value.
_HEAD = re.compile(r'([^";]*?):(?=[A-Za-z0-9_\-]*=")')
_BARE = re.compile(r"[^;]*")
# A `;` in a class cuts the head in two; every element has a colon, so a head without one goes on behind it.
_CUT = re.compile(r"[A-Za-z][A-Za-z0-9-]*\.[^\";]*[^\":;]\Z")
_SPACE = re.compile(r"\s+")
_KEY = re.compile(r'([^\s"=;]+)="')
# Inside a value every quote is escaped, so `key="` right behind `\"` means that the value ended there.
_CLOSES = re.compile(r'(?:[A-Za-z0-9_\-]+="|;[^"]*?:[A-Za-z0-9_\-]+="|$)')


class Element(NamedTuple):
    tag: str
    classes: tuple[str, ...]
    attributes: Mapping[str, str]  # by HTML name: `id`, `aria-label`, `data-attr`; also `nth-child`
    text: str | None  # visible text, at most 400 characters


def parse(chain: str) -> list[Element]:
    """The elements, target first."""
    chain = chain[:MAX_CHARS]
    elements: list[Element] = []
    position = 0
    cut = ""
    while position < len(chain):
        head = _HEAD.match(chain, position)
        if head is None:  # an element without attributes, or garbage
            bare = _BARE.match(chain, position)
            assert bare is not None
            if bare.end() < len(chain) and len(cut) < MAX_VALUE and (cut or _CUT.match(bare[0])):
                cut, position = f"{cut}{bare[0]};", bare.end() + 1
                continue
            name, position = bare[0].rstrip(":"), bare.end()
        else:
            name, position = head[1], head.end()
        name, cut = cut + name, ""
        attributes: dict[str, str] = {}
        text: str | None = None
        while (key := _KEY.match(chain, position)) is not None:
            end = _end_of_value(chain, key.end())
            value = chain[key.end() : end].replace('\\"', '"')
            position = end + 1
            if key[1] == "text":
                text = value
            else:
                attributes["id" if key[1] == "attr_id" else key[1].removeprefix("attr__")] = value
        tag, *classes = name.split(".")
        if "class" in attributes:
            classes = _SPACE.split(attributes["class"].replace('"', "").strip())
        if '"' not in tag and (tag or attributes):
            elements.append(
                Element(tag.strip().lower(), tuple(sorted(c for c in classes if c)), attributes, text)
            )
        following = chain.find(";", position)
        position = following + 1 if following >= 0 else len(chain)
    return elements


def _end_of_value(chain: str, start: int) -> int:
    """Where the closing quote of the value that starts at `start` is; the chain's end where none is."""
    quote = chain.find('"', start)
    while quote > start and chain[quote - 1] == "\\" and _CLOSES.match(chain, quote + 1) is None:
        quote = chain.find('"', quote + 1)
    return quote if quote >= 0 else len(chain)


def listed(raw: Any) -> list[Element]:
    """The elements of an `$elements` list, target first; what is no element is left out."""
    if type(raw) is not list:
        return []
    return [_element(item) for item in raw[:MAX_ELEMENTS] if type(item) is dict]


def _element(item: dict[str, Any]) -> Element:
    attributes: dict[str, str] = {}
    for key, value in item.items():
        if key.startswith("attr__") and type(value) is str:
            attributes[key[6:]] = value[:MAX_VALUE]
        elif key in ("nth_child", "nth_of_type") and type(value) is int:
            attributes[key.replace("_", "-")] = str(value)
        elif key in ("attr_id", "href") and type(value) is str:
            attributes[key.removeprefix("attr_")] = value[:MAX_VALUE]
    tag, text, classes = item.get("tag_name"), item.get("$el_text"), item.get("classes")
    named = [c for c in classes[:MAX_ELEMENTS] if type(c) is str and c] if type(classes) is list else []
    return Element(
        tag[:50].strip().lower() if type(tag) is str else "",
        tuple(sorted(named)),
        attributes,
        text[:MAX_VALUE] if type(text) is str and text else None,
    )


FIELDS = frozenset(("input", "option", "select", "textarea"))
FIELD_ROLES = ("searchbox", "textbox")
_BUTTONS = frozenset(("button", "image", "reset", "submit"))  # an input of these types says what it does
_STATES = frozenset(("aria-checked", "aria-selected", "checked", "selected"))
_VALUE = ("value", "values", "valuenow", "valuetext")  # what attributes end in that hold what was chosen


def is_field(element: Element | None) -> bool:
    """Whether what the element says may be what somebody typed or chose."""
    if element is None:
        return False
    if element.tag == "input":
        return element.attributes.get("type", "").lower() not in _BUTTONS
    if element.tag in FIELDS or element.attributes.get("role") in FIELD_ROLES:
        return True
    return element.attributes.get("contenteditable", "false").lower() != "false"


def in_field(elements: Sequence[Element]) -> bool:
    """Whether the target is, or stands in, what users type or choose in."""
    return bool(elements) and _written_in(elements)[0]


def without_values(elements: Sequence[Element]) -> Sequence[Element]:
    """The elements without what a user typed or chose; the same object where there is nothing of it."""
    written_in = _written_in(elements)
    if any(map(_tells, elements, written_in)):
        pairs = zip(elements, written_in, strict=True)
        return [_blank(each, its) if _tells(each, its) else each for each, its in pairs]
    return elements


def field_texts(elements: Sequence[Element]) -> list[str]:
    """Texts in the chain that are the content of fields."""
    pairs = zip(elements, _written_in(elements), strict=True)
    return [element.text for element, written_in in pairs if element.text is not None and written_in]


def _written_in(elements: Sequence[Element]) -> list[bool]:
    """Of each element, whether it is a field or a part of one, as a paragraph of an editor is."""
    found: list[bool] = []
    inside = False
    for element in reversed(elements):
        own = is_field(element)
        if own or "contenteditable" in element.attributes:  # an island in an editor says false
            inside = own
        found.append(inside)
    return found[::-1]


def _tells(element: Element, written_in: bool) -> bool:
    return (written_in and element.text is not None) or any(map(_holds_value, element.attributes))


def _holds_value(name: str) -> bool:
    return name in _STATES or name.lower().endswith(_VALUE)


def _blank(element: Element, written_in: bool) -> Element:
    kept = {name: value for name, value in element.attributes.items() if not _holds_value(name)}
    if written_in:
        return element._replace(attributes=kept, text=None)
    shown = element.attributes.get("value") if element.tag == "input" else None
    return element._replace(attributes=kept, text=element.text or shown)


def written(elements: Sequence[Element]) -> str:
    """The chain of these elements: `parse` gives them back. What would pass `MAX_CHARS` is left out."""
    parts: list[str] = []
    size = 0
    for element in elements:
        part = _part(element)
        size += len(part) + 1
        if size > MAX_CHARS + 1:
            break
        parts.append(part)
    return ";".join(parts)


def _part(element: Element) -> str:
    values: dict[str, str] = {}
    for name, value in element.attributes.items():
        if _NAME.fullmatch(name):
            values[name if name.startswith("nth-") else f"attr__{name}"] = value
    if "id" in element.attributes:
        values["attr_id"] = element.attributes["id"]
    if "href" in element.attributes:
        values["href"] = element.attributes["href"]
    if element.text is not None:
        values["text"] = element.text
    head = ".".join([element.tag, *element.classes])
    return f"{head}:" + "".join(
        '{}="{}"'.format(key, values[key].replace('"', '\\"')) for key in sorted(values)
    )


_NAME = re.compile(r'[^\s"=;]+')
