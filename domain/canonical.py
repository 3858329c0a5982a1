"""What of a page's address and of a label may be stored clear.

`canonical_url` makes two visits to the same kind of page look the same; `scrub` takes out of a label what
belongs to a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_BLANK: Final = " \t\r\n\f"
_ID: Final = ":id"

_REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ABSOLUTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)")
_RELATIVE = re.compile(r"/(?!/)[^?#]*")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s%<>^|\\\"`{}]+)(?::([0-9]{0,5}))?\Z")

_NUMBER = re.compile(r"[0-9]+\Z")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\Z", re.IGNORECASE | re.ASCII)
_HASH = re.compile(r"(?=.*[0-9])[0-9A-Fa-f]{16,}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,}\Z")
_MIXED = re.compile(r"(?=[0-9]*[A-Za-z])(?=[A-Za-z]*[0-9])")

# Possessive, and only from the start of a run: linear on any text.
_LOCAL = r"[\w.!#$%&'*+/=?^`{|}~-]"
_EMAIL = re.compile(rf"(?<!{_LOCAL}){_LOCAL}++@[\w-]++(?:\.[\w-]++)++")
_CARD = re.compile("(?<![0-9])[0-9](?:[ \u00a0-]?[0-9]){12,18}(?![0-9])")


def canonical_url(raw: str) -> str | None:
    """The kind of page an address leads to; None where the text is no address. Never raises.

    Scheme and host in lower case; no user name, default port, query or fragment. Path segments that are
    numbers, UUIDs, hashes, long opaque ids or e-mail addresses become `:id`. The root is `/`; elsewhere a
    trailing slash is dropped, because servers answer both alike. An address that is only a path
    (`/projects/1`) stays one; `//host/path` and a bare `host/path` are no addresses. The result is its own
    canonical form.
    """
    text = raw.strip(_BLANK)
    if _REFUSED.search(text):
        return None
    absolute = _ABSOLUTE.match(text)
    if absolute is None:
        relative = _RELATIVE.match(text)
        return None if relative is None else _path(relative[0])
    scheme = absolute[1].lower()
    authority = _AUTHORITY.match(absolute[2].rpartition("@")[2])
    if authority is None:
        return None
    host, port = authority[1].lower(), int(authority[2] or _DEFAULT_PORTS.get(scheme, 0))
    if port > 65535:
        return None
    kept = f":{port}" if authority[2] and port != _DEFAULT_PORTS.get(scheme) else ""
    return f"{scheme}://{host}{kept}{_path(absolute[3])}"


def _path(raw: str) -> str:
    segments = raw.replace(" ", "%20").rstrip("/").split("/")
    return "/".join(_ID if _names_one_thing(segment) else segment for segment in segments) or "/"


def collapse(url: str, patterns: Iterable[tuple[str, ...]]) -> str:
    """A canonical URL with the segments replaced that the first fitting pattern names.

    A pattern is the beginning of a path: a segment `:name` stands for any and is what it becomes, others are
    case-folded text. The result collapses to itself.
    """
    start = url.find("/", url.find("://") + 3) if "://" in url else 0
    if start < 0:
        return url
    segments = url[start + 1 :].split("/")
    for pattern in patterns:
        if len(pattern) <= len(segments) and all(
            bool(segment) if part[0] == ":" else segment.casefold() == part
            for part, segment in zip(pattern, segments, strict=False)
        ):
            named = [p if p[0] == ":" else s for p, s in zip(pattern, segments, strict=False)]
            return "/".join((url[:start], *named, *segments[len(pattern) :]))
    return url


def _names_one_thing(segment: str) -> bool:
    """Whether a path segment names one record rather than a kind of page."""
    if _NUMBER.match(segment) or _UUID.match(segment) or _HASH.match(segment):
        return True
    if _TOKEN.match(segment):
        # A slug (`b2b-guide-for-2026`) mixes letters and digits too, but hardly within its words.
        words = re.split("[_-]", segment)
        mixed = sum(len(word) for word in words if _MIXED.match(word))
        return 2 * mixed >= sum(map(len, words)) > 0
    person, _, domain = segment.replace("%40", "@").rpartition("@")
    return bool(person) and "." in domain.strip(".")


def scrub(title: str) -> str:
    """A label without e-mail addresses (`:email`) and without card-like numbers (`:number`).

    Card-like: 13 to 19 digits, single spaces or dashes between them allowed.
    """
    return _CARD.sub(":number", _EMAIL.sub(":email", title))
