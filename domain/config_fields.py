"""Reading one object of a config field by field, and noting every fault with its path.

A reader never stops at a fault: it notes it and returns a harmless stand-in, so that a host learns
everything that is wrong at once. Whoever reads must look at `Faults.found` before using a result.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from domain.errors import Fault
from domain.instants import MAX_SECONDS, SECOND

MAX_ID: Final = 100  # characters
MAX_DEPTH: Final = 40  # objects and lists inside each other: a criteria tree of 16 levels fits
MAX_VALUES: Final = 100_000  # also bounds what a YAML file with nested aliases can unfold to
MAX_INTEGER: Final = 2**53  # beyond it JSON readers disagree about the value

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")

D = TypeVar("D", bound=int | None)


class Faults:
    """What is wrong so far. A place that `vet` refused is not reported a second time by its reader."""

    def __init__(self) -> None:
        self.found: list[Fault] = []
        self._unstorable: set[str] = set()

    def add(self, path: str, detail: str) -> None:
        if path not in self._unstorable:
            self.found.append(Fault(path, detail))

    def vet(self, raw: object) -> bool:
        """Note what no ledger could hold, anywhere in `raw`; False where reading on would be unsafe."""
        waiting: list[tuple[object, str, int]] = [(raw, "", 1)]
        seen = 0
        while waiting:
            value, path, depth = waiting.pop()
            seen += 1
            if seen > MAX_VALUES:
                self.found.append(Fault("", f"too large: more than {MAX_VALUES} values"))
                return False
            problem = _unstorable(value, depth)
            if problem is not None:
                self.add(path, problem)
                self._unstorable.add(path)
            elif isinstance(value, dict):
                for key in value:
                    if not isinstance(key, str) or _UNSTORABLE.search(key):
                        self.add(child(path, key), "a key must be text without NUL or lone surrogates")
                        self._unstorable.add(child(path, key))
                # Reversed, because the last is taken first: faults come out in the order of the text.
                waiting += [(v, child(path, k), depth + 1) for k, v in reversed(value.items())]
            elif isinstance(value, list):
                waiting += [(v, child(path, i), depth + 1) for i, v in reversed(list(enumerate(value)))]
        return True


def _unstorable(value: object, depth: int) -> str | None:
    match value:
        case dict() | list():
            return f"nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else None
        case str():
            return "text must not hold NUL or lone surrogates" if _UNSTORABLE.search(value) else None
        case None | bool():
            return None
        case int():
            return "integers go to 2^53 at most" if abs(value) > MAX_INTEGER else None
        case float():
            return None if math.isfinite(value) else "a number must be finite"
        case _:
            return f"must be text, a number, a truth value, a list or an object, not {type(value).__name__}"


def child(path: str, key: object) -> str:
    """The path of `key` (of an object) or of index `key` (of a list) below `path`."""
    if isinstance(key, str) and _PLAIN_KEY.match(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{shown(key)}]"


def shown(value: object) -> str:
    """A value for an error message: JSON in ASCII, cut where it is long."""
    huge = isinstance(value, int) and abs(value) > MAX_INTEGER  # Python refuses to write very long ones
    text = json.dumps(value) if isinstance(value, (str, int, float)) and not huge else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing where no known word is near."""
    close = difflib.get_close_matches(word[:200].lower(), choices := sorted(known), n=1, cutoff=0.6)
    if not close:  # operators and formats are written in capitals
        close = difflib.get_close_matches(word[:200].upper(), choices, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


class Row:
    """One object of the config; unknown keys are noted at once."""

    __slots__ = ("_raw", "faults", "path", "sound")

    def __init__(self, raw: object, path: str, faults: Faults, known: Iterable[str] | None) -> None:
        """`known`: the keys that the object may have; None: any."""
        self.path = path
        self.faults = faults
        self.sound = isinstance(raw, dict)
        self._raw: dict[object, object] = raw if isinstance(raw, dict) else {}
        if not self.sound:
            faults.add(path, "must be an object")
        if known is not None:
            allowed = frozenset(known)
            for key in self._raw:
                if not isinstance(key, str):
                    faults.add(child(path, key), "a key must be text")
                elif key not in allowed:
                    faults.add(child(path, key), "unknown key" + nearest(key, allowed))

    def has(self, key: str) -> bool:
        return key in self._raw

    def raw(self, key: str) -> object:
        return self._raw.get(key)

    def keys(self) -> list[str]:
        return [key for key in self._raw if isinstance(key, str)]

    def fault(self, key: str, detail: str) -> None:
        self.faults.add(child(self.path, key), detail)

    def need(self, key: str) -> bool:
        """Whether the key is there; its absence is noted, unless the whole object was no object."""
        if key not in self._raw and self.sound:
            self.fault(key, "is required")
        return key in self._raw

    def text(self, key: str, *, required: bool = False, most: int | None = None) -> str | None:
        """Text that is not blank, of at most `most` characters."""
        if not self.need(key) if required else not self.has(key):
            return None
        value = self._raw[key]
        if not isinstance(value, str) or not value.strip():
            self.fault(key, "must be text that is not blank")
        elif most is not None and len(value) > most:
            self.fault(key, f"must be at most {most} characters, has {len(value)}")
        else:
            return value
        return None

    def ident(self, key: str, *, required: bool = False) -> str | None:
        """An id: 1 to 100 characters, none of them a control character."""
        value = self.text(key, required=required, most=MAX_ID)
        if value is not None and _CONTROL.search(value):
            self.fault(key, "must not hold control characters")
            return None
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A text or a list of texts, case-folded; empty where the key is absent."""
        if not self.has(key):
            return ()
        value = self._raw[key]
        if isinstance(value, list) and not value:
            self.fault(key, "must not be an empty list")
        found = []
        for place, item in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(item, str) and item.strip():
                found.append(item.casefold())
            else:
                path = child(self.path, key)
                self.faults.add(
                    path if place is None else child(path, place),
                    "must be text that is not blank" + (", or a list of such texts" if place is None else ""),
                )
        return tuple(found)

    def duration(
        self, key: str, default: D, *, zero: bool = False, most: int = MAX_SECONDS * SECOND
    ) -> int | D:
        """A number of seconds, as microseconds; above 0 (`zero`: or 0) and at most `most` microseconds."""
        if not self.has(key):
            return default
        value = self._raw[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            self.fault(key, "must be a number of seconds")
        elif value < 0 or (value == 0 and not zero):
            self.fault(key, "must be 0 or more seconds" if zero else "must be more than 0 seconds")
        elif value > most / SECOND:
            self.fault(key, f"must be at most {most // SECOND} seconds")
        elif value and not round(value * SECOND):
            self.fault(key, "must be at least one microsecond")
        else:
            return round(value * SECOND)
        return default

    def integer(self, key: str, default: D, *, least: int = 1, required: bool = False) -> int | D:
        if not self.need(key) if required else not self.has(key):
            return default
        value = self._raw[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.fault(key, f"must be a whole number, {least} or more")
            return default
        return value

    def flag(self, key: str) -> bool:
        value = self._raw.get(key, False)
        if not isinstance(value, bool):
            self.fault(key, "must be true or false")
            return False
        return value

    def choice(self, key: str, choices: Sequence[str], *, required: bool = False) -> str | None:
        """One of `choices`, spelled exactly so."""
        if not self.need(key) if required else not self.has(key):
            return None
        value = self._raw[key]
        if isinstance(value, str) and value in choices:
            return value
        hint = nearest(value, choices) if isinstance(value, str) else ""
        self.fault(key, f"must be one of {', '.join(choices)}{hint}")
        return None

    def items(self, key: str, *, least: int = 0, most: int | None = None) -> list[tuple[str, object]]:
        """The elements of a list, each with its path."""
        if not self.has(key):
            return []
        value = self._raw[key]
        if not isinstance(value, list):
            self.fault(key, "must be a list")
            return []
        if len(value) < least:
            self.fault(key, f"must have at least {least} element{'s' if least > 1 else ''}")
        elif most is not None and len(value) > most:
            self.fault(key, f"must have at most {most} elements, has {len(value)}")
        path = child(self.path, key)
        return [(child(path, place), item) for place, item in enumerate(value)]

    def row(self, key: str, known: Iterable[str] | None) -> Row | None:
        """The object under `key`; None where the key is absent or no object."""
        if not self.has(key):
            return None
        below = Row(self._raw[key], child(self.path, key), self.faults, known)
        return below if below.sound else None


def once(value: str, path: str, seen: set[str], faults: Faults, what: str) -> None:
    """Note a value that came before under the same `seen`."""
    if value in seen:
        faults.add(path, f"{what} {shown(value)} is used twice")
    seen.add(value)
