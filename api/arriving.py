"""Records what a source's body held: sessions first, then labels, then the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from api import intake
from api.ingest.arrivals import Arrived
from domain.errors import Fault, InvalidInput

if TYPE_CHECKING:
    from api.service import Service


async def take(
    service: Service, product: str, arrived: Arrived, left_out: Sequence[Fault] = ()
) -> intake.Taken:
    """Never atomic: what cannot be stored is noted by path. `left_out`: of the body, as `bodies.loads`."""
    seen = await service.sessionizing.place(product, arrived.events)
    return await intake.take(service, product, seen, [*left_out, *arrived.rejected])


def check(arrived: Arrived) -> None:
    """Raises InvalidInput where every event of a body was rejected."""
    if arrived.refused:
        raise InvalidInput(arrived.rejected[:100])


def one(translate: Callable[[Any, int], Arrived], data: object, received_at: int) -> Arrived:
    """A body of a single event, which is noted where it is refused."""
    try:
        return translate(data, received_at)
    except InvalidInput as error:
        return Arrived(rejected=list(error.faults), bad=[0])


async def answered(
    service: Service, product: str, arrived: Arrived, left_out: Sequence[Fault]
) -> dict[str, Any]:
    """Record it, and say what became of it. Raises InvalidInput where every event was rejected."""
    taken = await take(service, product, arrived, left_out)
    check(arrived)
    return {
        "accepted": taken.accepted,
        "duplicates": taken.duplicates,
        "merged": taken.merged,
        "ignored": taken.ignored + arrived.ignored,
        "rejected": [{"path": fault.path, "detail": fault.detail} for fault in arrived.rejected[:100]],
    }
