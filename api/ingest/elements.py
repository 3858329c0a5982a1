"""PostHog's `elements_chain`: the element an event is about and its ancestors, as one string.

    chain    = element *( ";" element )                  target first, then ancestors
    element  = tag *( "." class ) ":" *( key "=" DQUOTE value DQUOTE )

Attributes follow each other without a separator. Only `"` is escaped, as `\\"`; a backslash is not, so a
value that ends in one looks as if it went on. Garbage gives fewer elements, never an exception.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

MAX_CHARS = 16_384  # what is beyond is not looked at

# Classes may hold colons: the head ends at the first colon that is followed by a key and a value.
_HEAD = re.compile(r'([^";]*?):(?=[A-Za-z0-9_\-]*=")')
_BARE = re.compile(r"[^;]*")
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
    while position < len(chain):
        head = _HEAD.match(chain, position)
        if head is None:  # an element without attributes, or garbage
            bare = _BARE.match(chain, position)
            assert bare is not None
            name, position = bare[0].rstrip(":"), bare.end()
        else:
            name, position = head[1], head.end()
        attributes: dict[str, str] = {}
        text: str | None = None
        while (key := _KEY.match(chain, position)) is not None:
            end = _end_of_value(chain, key.end())
            value = chain[key.end() : end].replace('\\"', '"')
            position = end + 1
            if key[1] == "text":
                text = value
            else:
                attributes[key[1].removeprefix("attr__").replace("attr_id", "id")] = value
        tag, *classes = name.split(".")
        if '"' not in tag and (tag or attributes):
            elements.append(Element(tag.strip().lower(), tuple(c for c in classes if c), attributes, text))
        following = chain.find(";", position)
        position = following + 1 if following >= 0 else len(chain)
    return elements


def _end_of_value(chain: str, start: int) -> int:
    """Where the closing quote of the value that starts at `start` is; the chain's end where none is."""
    quote = chain.find('"', start)
    while quote > start and chain[quote - 1] == "\\" and _CLOSES.match(chain, quote + 1) is None:
        quote = chain.find('"', quote + 1)
    return quote if quote >= 0 else len(chain)
