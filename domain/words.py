"""Parts of sentences: actions, pages, windows and instants as people say them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from domain.config import CurrentPage, Where
from domain.instants import HOUR, MINUTE, SECOND, seconds, text

TICK = 1  # µs


def where(w: Where) -> str:
    """Which actions, as it follows the word: `“save changes” on /projects`."""
    parts = []
    if w.type:
        parts.append(f"of type {either(w.type)}")
    if w.title_contains:
        parts.append(either(map(quoted, w.title_contains)))
    if w.title_equals:
        parts.append(f"titled {either(map(quoted, w.title_equals))}")
    if w.url_contains:
        parts.append(f"on {either(w.url_contains)}")
    if w.url_prefix:
        parts.append(f"under {either(w.url_prefix)}")
    parts += [f"with {name} {either(map(_value, accepted))}" for name, accepted in w.properties]
    return " ".join(parts)


def number(count: int | str, noun: str, how: str = "") -> str:
    """`3 pages`, `no page`, `1 more page`."""
    told = f"{count} {how} {noun}" if how else f"{count} {noun}"
    return told if count in (1, "no") else f"{told}s"


def actions(count: int | str, which: str = "") -> str:
    """`3 actions “save changes”`, `no action of type submit`."""
    return f"{number(count, 'action')} {which}".rstrip()


def more(count: int, which: str) -> str:
    """`1 more “save changes” on /projects`, `2 more actions of type submit`."""
    if which.startswith("“"):
        return f"{count} more {which}"
    return f"{number(count, 'action', 'more')} {which}".rstrip()


def page(node: CurrentPage) -> str:
    """Which page, after `a page that`."""
    asked = (("contains", node.url_contains), ("begins with", node.url_prefix))
    return " and ".join(f"{how} {either(texts)}" for how, texts in asked if texts)


def window(within: int | None, lookback: int | None = None) -> str:
    """How far back a leaf looks. `lookback`: of the context window, where it is known."""
    span = within or lookback
    return f"in the last {seconds(span)}" if span is not None else "in the context window"


def either(texts: Iterable[str]) -> str:
    return _joined(tuple(texts), "or")


def both(texts: Iterable[str]) -> str:
    return _joined(tuple(texts), "and")


def quoted(title: str) -> str:
    return f"“{title}”"


def clock(at: int, day_of: int) -> str:
    """`11:09:19Z`, the fraction cut off; with its date where that is another day than that of `day_of`."""
    date, _, time = text(at).partition("T")
    short = f"{time[:8]}Z"
    return short if text(day_of).startswith(date) else f"{date} {short}"


def before(at: int, now: int) -> str:
    """`before 11:09:19Z`, for what no longer holds at `at`; to the microsecond where the second has begun."""
    short = clock(at, now)
    return f"before {short}" if at // SECOND * SECOND > now else f"before {short[:-1]}.{at % SECOND:06d}Z"


def after(at: int, day_of: int) -> str:
    """`after 11:12:00Z`, for what holds from the instant `at` on: the whole second that ends just before."""
    return f"after {clock(-(-(at - TICK) // SECOND) * SECOND, day_of)}"


def later(duration: int) -> str:
    """About how much later: `12 s`, `5 min`, `3 h`."""
    if duration < SECOND:
        return "less than 1 s"
    for unit, name in ((HOUR, "h"), (MINUTE, "min")):
        if duration >= 2 * unit:
            return f"{(duration + unit // 2) // unit} {name}"
    return f"{(duration + SECOND // 2) // SECOND} s"


def _joined(texts: tuple[str, ...], word: str) -> str:
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} {word} {texts[-1]}"


def _value(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else str(value).lower()
