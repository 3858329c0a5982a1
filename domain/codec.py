"""An event value, and the form in which the ledger stores it.

Stored: two JSON objects, the clear fields and the personal ones (which the caller seals). Fields that are
None are left out, so a field added later reads None from old data. The order of the keys is that of the
class, so the same value always gives the same bytes.

What a class needs is worked out once, when this module is loaded: folding a ledger decodes by the million.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from domain import events, upcasters
from domain.errors import Unreadable
from domain.events import Event, Timings

Data = dict[str, Any]
_Stored = Mapping[str, Any]
_Reader = Callable[[_Stored, _Stored | None], Event]
_Writer = Callable[[Event], tuple[Data, Data]]

_TIMINGS = tuple(field.name for field in dataclasses.fields(Timings))


def encode(event: Event) -> tuple[Data, Data]:
    """(clear data, personal data), both ready for JSON."""
    return _WRITERS[event.__class__](event)


def decode(
    type: str,  # noqa: A002  # the ledger's own word
    schema_version: int,
    clear: _Stored,
    personal: _Stored | None,
) -> Event:
    """The event value of stored data, lifted to the newest version.

    `personal` is None where it was not unsealed or was erased; those fields are None then. Raises
    Unreadable where this code does not know the type or the version.
    """
    reader = _READERS.get((type, schema_version))
    if reader is None:
        raise Unreadable(
            f"event type {type!r} in schema version {schema_version} cannot be read by this version"
        )
    return reader(clear, personal)


def readers(types: Mapping[str, type[Event]], steps: upcasters.Steps) -> dict[tuple[str, int], _Reader]:
    """A reader for every (type, version) that is current or can be lifted to the current one."""
    found: dict[tuple[str, int], _Reader] = {}
    for name, cls in types.items():
        current = _reader(cls)
        for version in range(1, cls.VERSION + 1):
            lift = upcasters.chain(name, version, cls.VERSION, steps)
            if lift is not None:
                found[name, version] = _lifting(lift, current) if lift else current
    return found


def _lifting(lift: tuple[upcasters.Step, ...], current: _Reader) -> _Reader:
    def read(clear: _Stored, personal: _Stored | None) -> Event:
        data = {**clear, **(personal or {})}
        for step in lift:
            data = step(data)
        return current(data, None)

    return read


def _reader(cls: type[Event]) -> _Reader:
    fields = _fields(cls)
    names = tuple(field.name for field in fields)
    converted = [(f.name, convert) for f in fields if (convert := _from_stored(f)) is not None]
    filled = {f.name: f.default for f in fields if f.default not in (None, dataclasses.MISSING)}

    def read_plain(clear: _Stored, personal: _Stored | None) -> Event:
        source = {**clear, **personal} if personal else clear
        return cls(*map(source.get, names))

    def read(clear: _Stored, personal: _Stored | None) -> Event:
        source = {**filled, **clear, **(personal or {})}
        for name, convert in converted:
            if (value := source.get(name)) is not None:
                source[name] = convert(value)
        return cls(*map(source.get, names))

    return read if converted or filled else read_plain


def _writer(cls: type[Event]) -> _Writer:
    fields = _fields(cls)
    clear_names = tuple(f.name for f in fields if f.name not in cls.PERSONAL)
    personal_names = tuple(f.name for f in fields if f.name in cls.PERSONAL)
    clear_values, personal_values = _values(clear_names), _values(personal_names)
    converted = [(f.name, convert) for f in fields if (convert := _to_stored(cls, f)) is not None]

    def write(event: Event) -> tuple[Data, Data]:
        clear = {n: v for n, v in zip(clear_names, clear_values(event), strict=True) if v is not None}
        personal = {
            n: v for n, v in zip(personal_names, personal_values(event), strict=True) if v is not None
        }
        for name, convert in converted:
            if name in clear:
                clear[name] = convert(clear[name])
        return clear, personal

    return write


def _fields(cls: type[Event]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)  # type: ignore[arg-type]  # every event class is a dataclass, the base is not


def _values(names: tuple[str, ...]) -> Callable[[Event], tuple[Any, ...]]:
    if not names:
        return lambda event: ()
    if len(names) == 1:  # attrgetter gives a bare value for one name
        get = attrgetter(names[0])
        return lambda event: (get(event),)
    return attrgetter(*names)


def _from_stored(field: dataclasses.Field[Any]) -> Callable[[Any], Any] | None:
    annotation = str(field.type)
    if "Timings" in annotation:
        return _timings
    return tuple if annotation.startswith("tuple[") else None


def _to_stored(cls: type[Event], field: dataclasses.Field[Any]) -> Callable[[Any], Any] | None:
    annotation = str(field.type)
    if "Timings" in annotation:
        return _stored_timings
    # What comes from outside is JSON already; what the engine makes may hold tuples.
    made_here = issubclass(cls, events.Engine)
    return _plain if made_here and ("Mapping" in annotation or "tuple" in annotation) else None


def _timings(stored: _Stored) -> Timings:
    return Timings(*map(stored.get, _TIMINGS))  # type: ignore[arg-type]  # its two required fields are always there


def _stored_timings(timings: Timings) -> Data:
    return {name: value for name in _TIMINGS if (value := getattr(timings, name)) is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


_WRITERS: Mapping[type[Event], _Writer] = {cls: _writer(cls) for cls in events.TYPES.values()}
_READERS = readers(events.TYPES, upcasters.STEPS)

KNOWN: frozenset[tuple[str, int]] = frozenset(_READERS)
"""Every (type, schema version) that can be read, old versions that can be lifted included."""
