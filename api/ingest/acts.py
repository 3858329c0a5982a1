"""What a source says that a user did, before the one labelling step gives it a name.

Sources translate their bodies into `Seen`; `labelling.outside` makes outside events of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from api.ingest.elements import Element
from domain import events


@dataclass(frozen=True, slots=True)
class Act:
    """Something done in a page. Texts are as the source has them; nothing here is the value of a field."""

    kind: str  # pageview, pageleave, click, change, submit, or custom
    name: str | None = None  # a custom event's own name
    url: str | None = None  # raw, of the page at that moment
    page_title: str | None = None
    chain: Sequence[Element] = ()  # the element and its ancestors, target first
    text: str | None = None  # what the source says the element says
    properties: Mapping[str, Any] = field(default_factory=dict)  # what rules may ask for; sealed
    body: Mapping[str, Any] = field(default_factory=dict)  # what else is kept so that it can be labelled anew


class Seen(NamedTuple):
    """An event of a source that passed its checks: an act to be labelled, or a fact that needs no label.

    The other fields are those of `native.OutsideEvent`.
    """

    what: Act | events.Outside
    event_id: str | None
    session_id: str | None
    user_id: str | None
    received_at: int  # µs
    occurred_at: int  # µs, corrected and clamped
    occurred_raw: str | None
    sent_raw: str | None
    clock_suspect: bool
    source: str
    correlation_id: str | None = None
