"""A quick reply is chosen: its option found, the click recorded, its tour started.

Whatever told of the choice (our own API, a button in a chat, a vendor's webhook) comes here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from api.chat import nudges
from api.chat.nudges import Nudge
from api.ingest.native import OutsideEvent
from domain import events
from domain.config import Config
from domain.errors import NotFound

if TYPE_CHECKING:
    from api.service import Service

GUIDE = "guide"  # the source of facts by which this service itself starts a tour: guidance streams tell them
MOST_NAMED = 10  # known options that a refusal lists


class Tour(NamedTuple):
    """The tour to start."""

    id: str  # registry id; the flow's, where the config in force has no such tour
    flow_id: str  # the provider's


class Told(NamedTuple):
    """A fact about a nudge, and who told it."""

    fact: events.Outside
    source: str
    event_id: str | None = None  # the teller's own; told again under it, it changes nothing


class Chosen(NamedTuple):
    """What became of a choice."""

    nudge: Nudge
    option_id: str
    tour: Tour | None
    recorded: bool  # False: this very choice was recorded before


async def choose(
    service: Service,
    product: str,
    session_id: str | None,
    *,
    nudge_id: str | None = None,
    option_id: str | None = None,
    text: str | None = None,
    source: str = "host",
    event_id: str | None = None,
) -> Chosen:
    """The user chose an option of a nudge, by the option's id, else by the text of its label.

    `nudge_id` None: of the session's newest nudge. `session_id` None: of the nudge's own session.
    `event_id` makes a choice that is told again change nothing. Raises NotFound where there is no such nudge,
    or where it has no such option; then the known ones are named.
    """
    book = await service.product(product)
    nudge = await _nudge(service, product, session_id, nudge_id)
    option = _option(nudge, option_id, text)
    tour = tour_of(option, nudge, book.rules.config)
    clicked = [Told(events.OptionClicked(str(option["id"]), nudge.nudge_id), source, event_id)]
    if tour is not None and not await runs(service, product, nudge.session_id, tour):
        tour_id = f"{event_id[:194]}/tour" if event_id is not None else None
        clicked.append(Told(events.TourStarted(tour.id), GUIDE, tour_id))
    recorded = await record(service, product, nudge, clicked)
    return Chosen(nudge, str(option["id"]), tour, recorded)


async def record(service: Service, product: str, nudge: Nudge, told: Sequence[Told]) -> bool:
    """Record facts about a nudge in its session, as one batch; whether any of them was new.

    Their correlation id is the nudge's.
    """
    now = service.clock.now()
    user_id = nudge.user_id or (await service.recorder.session(product, nudge.session_id)).state.user_id
    batch = [
        OutsideEvent(
            each.event_id,
            each.fact,
            nudge.session_id,
            user_id,
            now,
            now,
            None,
            None,
            False,
            each.source,
            nudge.nudge_id,
        )
        for each in told
    ]
    return (await service.record_events(product, batch)).accepted > 0


def tour_of(option: Mapping[str, Any], nudge: Nudge, config: Config) -> Tour | None:
    """The tour of an option: the one it names by registry id or flow id, else the one that has the option's
    own id, else, where it promises a tour and names none, the nudge's first."""
    promised = bool(option.get("user_tour_exists"))
    named = option.get("user_tour_id") if promised else None
    known = config.tour(named) if named else config.tour(option["id"])
    if known is not None:
        return Tour(known.id, known.user_tour_id)
    if named:
        return Tour(named, named)
    offered = nudge.tour() if promised else None
    return Tour(offered["id"], offered["flow_id"]) if offered is not None else None


def tour_json(tour: Tour | None) -> dict[str, Any] | None:
    return tour._asdict() if tour is not None else None


async def _nudge(service: Service, product: str, session_id: str | None, nudge_id: str | None) -> Nudge:
    if nudge_id is None and session_id is not None:
        offer = (await service.recorder.session(product, session_id)).state.offer
        nudge_id = offer.nudge_id if offer is not None else None
    found = None
    if nudge_id is not None:
        async with service.ledger.reader() as conn:
            found = await nudges.of_id(conn, product, nudge_id)
    if found is None or session_id not in (None, found.session_id):
        raise NotFound("no such nudge was offered" + (" in this session" if session_id is not None else ""))
    return found


def _option(nudge: Nudge, option_id: str | None, text: str | None) -> Mapping[str, Any]:
    """By id, then by its label: white space around it and case do not count."""
    options: Sequence[Mapping[str, Any]] = nudge.message["options"]
    for option in options:
        if option_id is not None and option["id"] == option_id:
            return option
    for said in (text, option_id):
        for option in options:
            if said is not None and str(option["label"]).strip().casefold() == said.strip().casefold():
                return option
    known = ", ".join(str(option["id"]) for option in options[:MOST_NAMED])
    raise NotFound(f"the nudge has no such option; its options: {known or 'none'}")


async def runs(service: Service, product: str, session_id: str, tour: Tour) -> bool:
    now = service.clock.now()
    state = (await service.recorder.session(product, session_id)).state.tick(now)
    return state.active_tour_id in tour and state.tour_running(now)
