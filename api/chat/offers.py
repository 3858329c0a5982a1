"""A session's open offer, for hosts that ask for it instead of listening."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from api.chat import nudges, options, people
from api.chat.nudges import Nudge
from api.chat.options import GUIDE, Told, Tour
from api.ingest.native import OutsideEvent
from domain import events
from domain.errors import NotFound, NudgeledgerError

if TYPE_CHECKING:
    from api.service import Service


class OtherOffer(NudgeledgerError):
    """The offer that was meant is not the one that is open."""


async def of_session(service: Service, product: str, session_id: str) -> Nudge | None:
    """The session's offer, while it is open."""
    now = service.clock.now()
    offer = (await service.recorder.session(product, session_id)).state.open_offer(now)
    if offer is None:
        return None
    async with service.ledger.reader() as conn:
        nudge = await nudges.of_id(conn, product, offer.nudge_id)
    return nudge if nudge is not None and nudge.open_at(now) else None


async def accept(service: Service, product: str, session_id: str, offer_id: str | None) -> dict[str, Any]:
    """The user says yes in the chat: recorded as their message, and the nudge's tour starts, if it has one.

    The guidance to show. Raises NotFound where no offer is open, OtherOffer where another one is.
    """
    nudge = await of_session(service, product, session_id)
    if nudge is None:
        raise NotFound("no offer is open in this session")
    if offer_id not in (None, nudge.nudge_id):
        raise OtherOffer("another offer is open in this session: offer_id is not its id")
    state = (await service.recorder.session(product, session_id)).state
    said = events.ChatMessage("user", nudge.body, state.conversation_id)
    facts = [Told(said, "chat", f"accept-{nudge.nudge_id}")]
    offered = nudge.tour()
    tour = Tour(offered["id"], offered["flow_id"]) if offered is not None else None
    if tour is not None and not await options.runs(service, product, session_id, tour):
        facts.append(Told(events.TourStarted(tour.id), GUIDE, f"accept-{nudge.nudge_id}/tour"))
    await options.record(service, product, nudge, facts)
    return nudges.guidance("guidance_start", nudge)


async def acted(
    service: Service,
    product: str,
    session_id: str,
    user_id: str | None,
    email: str | None,
    actions: Sequence[OutsideEvent],
) -> dict[str, Any]:
    """Record explicit actions of a session as one batch; how many, and the offer that is open afterwards."""
    async with service.ledger.reader() as conn:
        known = (await people.of_session(conn, product, session_id, user_id)).email
    batch = list(actions)
    if user_id is not None and email is not None and email != known:
        batch.insert(0, _identified(service, session_id, user_id, email))
    receipt = await service.record_events(product, batch) if batch else None
    stored = receipt.accepted - (len(batch) - len(actions)) if receipt is not None else 0
    nudge = await of_session(service, product, session_id)
    offer: Mapping[str, Any] | None = nudges.offer(nudge, email or known) if nudge is not None else None
    return {"stored": stored, "pending_offer": offer is not None, "offer": offer}


def _identified(service: Service, session_id: str, user_id: str, email: str) -> OutsideEvent:
    now = service.clock.now()
    fact = events.UserIdentified(email=email)
    return OutsideEvent(None, fact, session_id, user_id, now, now, None, None, False, "host", None)
