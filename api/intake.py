"""Takes in what sources send that cannot be told to send it better: never atomic, nothing lost.

What can be stored is stored; what cannot is noted by path as `rejected_input`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from api.ingest import labelling
from api.ingest.acts import Seen
from api.ingest.native import ParsedBatch

if TYPE_CHECKING:
    from api.service import Service


class Taken(NamedTuple):
    """What became of a request of a source."""

    accepted: int
    duplicates: int
    merged: int  # further events of acts that were stored
    ignored: int  # left out by rules, or of no interest
    rejected: int


async def take(
    service: Service, product: str, seen: Sequence[Seen], rejected: Sequence[tuple[str, str]] = ()
) -> Taken:
    """Label, merge and record what a source saw; note what it sent wrongly, as (path, detail)."""
    labels = (await service.product(product)).rules.config.labels
    labelled = labelling.outside(seen, labels)
    if rejected:
        await service.reject(product, rejected)
    if not labelled.events:
        return Taken(0, 0, labelled.merged, labelled.ignored, len(rejected))
    receipt = await service.record(product, ParsedBatch(labelled.events, [], False))
    return Taken(receipt.accepted, receipt.duplicates, labelled.merged, labelled.ignored, len(rejected))
