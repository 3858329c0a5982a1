"""What somebody typed or chose is taken out of whatever a source sent with an act.

For properties and bodies of any source: values under the names that analytics SDKs give them, texts of
fields, and both inside PostHog's chains and lists of elements. What a custom event carries is the host's own
word, so there a plain `value` stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from api.ingest import elements
from api.ingest.elements import FIELDS

MAX_DEPTH: Final = 40

_NOTHING: Final = object()
_PLAIN: Final = re.compile(r"[^a-z0-9]+")
_VENDORS: Final = ("$", "attr__", "[amplitude]", "_$")  # names that no host gives its own properties
_TYPED: Final = frozenset(("formdata", "inputtext", "typedtext", "fieldtext", "inputdata"))
_TAGS: Final = ("tag_name", "tag", "tagName", "$element_tag", "$tag_name", "[Amplitude] Element Tag")

# Where a chain may hold something typed; the parser says whether it does.
_SUSPECT: Final = re.compile(r"attr__[^\"=]{0,60}(?:value|checked|selected)", re.IGNORECASE)
_FIELD: Final = re.compile(
    rf"(?:^|;)\s*(?:{'|'.join(sorted(FIELDS))})\b|contenteditable|{'|'.join(elements.FIELD_ROLES)}",
    re.IGNORECASE,
)


def stripped(data: Mapping[str, Any], *, element: bool, field: bool) -> dict[str, Any]:
    """A copy without what was typed.

    `element`: it is about an element of a page, not a custom event. `field`: that element is a field, so
    that its text is its value.
    """
    kept: dict[str, Any] = _object(data, element, field, 0)
    return kept


def chain(text: str) -> str:
    """PostHog's `elements_chain` without values and without texts of fields."""
    if _SUSPECT.search(text) is None and not ('text="' in text and _FIELD.search(text)):
        return text
    parsed = elements.parse(text)
    clean = elements.without_values(parsed)
    return text if clean is parsed else elements.written(clean)


def _object(data: Mapping[str, Any], element: bool, field: bool, depth: int) -> dict[str, Any]:
    if depth > 0 and not field:
        tag = next((data[key] for key in _TAGS if key in data), None)
        if isinstance(tag, str) and tag.lower() in FIELDS:
            element = field = True
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if _typed(key, element, field):
            continue
        if type(value) in (dict, list, str):
            value = _value(key, value, element, field, depth + 1)
            if value is _NOTHING:
                continue
        kept[key] = value
    return kept


def _value(key: str, value: Any, element: bool, field: bool, depth: int) -> Any:
    if isinstance(value, str):
        return chain(value) if "attr__" in value or _is_chain(key) else value
    if depth > MAX_DEPTH:
        return _NOTHING
    if isinstance(value, list):
        made = (_value(key, item, element, field, depth + 1) for item in value)
        return [item for item in made if item is not _NOTHING]
    if isinstance(value, dict):
        return _object(value, element, field, depth)
    return value


@lru_cache(maxsize=4096)
def _typed(key: str, element: bool, field: bool) -> bool:
    """Whether what stands under this name may have been typed."""
    name = _PLAIN.sub("", key.lower())
    if name in _TYPED:
        return True
    if name.endswith(("value", "values")):
        return element or key.lower().startswith(_VENDORS)
    return field and name.endswith("text")


@lru_cache(maxsize=4096)
def _is_chain(key: str) -> bool:
    return _PLAIN.sub("", key.lower()) == "elementschain"
