"""What a source's body holds, before it is known which session each event belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from api.ingest import fields
from api.ingest.acts import Seen
from domain.errors import Fault


class Arrival(NamedTuple):
    """An event that passed its checks; its `seen.session_id` is None where its source has no sessions."""

    seen: Seen
    device: str | None = None  # the id that the person had before anybody knew who it is
    in_page: bool = False  # it happened in a page or an app, not on a server
    renamed: bool = False  # whoever the session's user was is this event's user now


@dataclass(slots=True)
class Arrived:
    """A body, translated: never atomic."""

    events: list[Arrival] = field(default_factory=list)
    rejected: list[Fault] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)  # places of the events that were rejected
    ignored: int = 0  # events that say nothing of what the user did

    @property
    def refused(self) -> bool:
        """Whether every event of the body was rejected."""
        return bool(self.rejected) and not self.events and not self.ignored

    def take(self, place: int, arrival: Arrival | None, faults: list[Fault]) -> None:
        """The event at this place, None where it says nothing of interest; or its faults."""
        if faults:
            self.reject(place, faults)
        elif arrival is None:
            self.ignored += 1
        else:
            self.events.append(arrival)

    def reject(self, place: int, faults: list[Fault]) -> None:
        self.rejected += faults
        self.bad.append(place)


def person(data: dict[str, Any], key: str, path: str, faults: list[Fault]) -> str | None:
    """An id of a person or a device as sources have it: text or a whole number; '' is none."""
    value = data.get(key)
    if value is None or value == "":
        return None
    if type(value) is int:
        return str(value)
    return fields.optional_identifier(data, key, path, faults)


def short(value: object, most: int) -> str | None:
    """A text, cut; None for anything else, and where nothing is in it."""
    if type(value) is not str or not value or value.isspace():
        return None
    return value[:most]


def table(value: object) -> dict[str, Any]:
    """An object; an empty one in place of anything else."""
    return value if type(value) is dict else {}
