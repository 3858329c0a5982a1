"""One labelling step for all sources: type, title, description and addresses of what a user did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from api.ingest.acts import Act, Seen
from api.ingest.native import OutsideEvent
from domain import canonical, events
from domain.config_labels import Labels


class Labelled(NamedTuple):
    events: list[OutsideEvent]
    merged: int  # further events of acts that are among them
    ignored: int  # left out by the product's own rules


def outside(seen: Sequence[Seen], labels: Labels) -> Labelled:
    """The outside events of one request of one source, in its order."""
    made = [
        OutsideEvent(
            item.event_id,
            action(item.what, labels, item.source) if isinstance(item.what, Act) else item.what,
            *item[2:10],
            item.correlation_id,
        )
        for item in seen
    ]
    return Labelled(made, 0, 0)


def action(act: Act, labels: Labels, source: str) -> events.Action:
    """The act with its label."""
    title = act.text or act.name or act.kind
    return events.Action(
        type=act.name if act.kind == "custom" and act.name else act.kind,
        title=canonical.scrub(" ".join(title.split())[:500]),
        raw_url=act.url,
        canonical_url=canonical.canonical_url(act.url) if act.url else None,
        properties=dict(act.properties) or None,
        body=dict(act.body) or None,
        labeller=f"{source}-1",
    )
