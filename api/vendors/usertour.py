"""Usertour's webhooks: the signature, and what became of a flow. Usertour delivers at least once and in any
order: what a content session had behind its end is dropped, whenever it comes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from api.ingest import clock
from api.ingest.fields import MAX_ID
from api.ingest.native import OutsideEvent
from api.jobs import BatchJob, Known, Outcome
from domain import events
from domain.envelope import OUTSIDE, name_in
from domain.errors import Fault, InvalidInput, WrongSecret
from domain.instants import SECOND
from domain.run import Turn
from eventstore import reader
from projections import configs

if TYPE_CHECKING:
    from api.service import Service

SOURCE: Final = "usertour"
TOLERANCE: Final = 300 * SECOND  # µs between the signature and us, either way
STARTED, COMPLETED, ENDED = "flow_started", "flow_completed", "flow_ended"
STEPS: Final = ("flow_step_seen", "flow_step_completed")
NO_SESSION: Final = "no session of this user is known"


class Moved(NamedTuple):
    """What happened to a flow."""

    code: str  # Usertour's name of it
    event_id: str  # the same however often it is told
    user_id: str
    flow_id: str
    run: str  # the content session: one flow, once, of one user
    step: int | str | None
    occurred_raw: str | None
    sent_raw: str | None

    @property
    def ends(self) -> tuple[str, ...]:
        """Ids of the ends of its content session."""
        return (_name(self.run, COMPLETED), _name(self.run, ENDED))

    def event(self) -> events.Outside:
        if self.code == STARTED:
            return events.TourStarted(self.flow_id, self.step)
        if self.code in STEPS:
            return events.TourStep(self.flow_id, self.step)
        outcome = "completed" if self.code == COMPLETED else "dismissed"
        return events.TourEnded(self.flow_id, self.step, outcome)


def check(secret: str | None, given: str | None, raw: bytes, now: int) -> None:
    """Raises WrongSecret unless the header is `t=<unix s>,v1=<HMAC-SHA256>`, of this body and of these
    minutes."""
    if secret is None:
        raise WrongSecret("the config names no channels.usertour.secret: no webhook is believed")
    pairs = [part.strip().partition("=") for part in (given or "").split(",")[:8]]
    stamp = next((value for name, _, value in pairs if name == "t"), "")
    signed = hmac.new(secret.encode(), f"{stamp}.".encode("utf-8", "replace") + raw, hashlib.sha256)
    wanted = signed.hexdigest().encode()
    made = [value.encode("utf-8", "replace") for name, _, value in pairs if name == "v1"]
    if not any(hmac.compare_digest(wanted, value) for value in made):
        raise WrongSecret("x-usertour-signature is missing or is not this body's")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise WrongSecret("x-usertour-signature says no time")
    if abs(now - int(stamp) * SECOND) > TOLERANCE:
        raise WrongSecret("x-usertour-signature is too old, or from the future")


def parse(body: object) -> Moved | None:
    """What a message says of a flow; None where it is about something else. Raises InvalidInput."""
    message = body if isinstance(body, dict) else {}
    data = message.get("data")
    event = data.get("event") if isinstance(data, dict) else None
    if not isinstance(message.get("type"), str):
        raise InvalidInput([Fault("type", "is required and must be text")])
    if not isinstance(event, dict) or event.get("codeName") not in (STARTED, COMPLETED, ENDED, *STEPS):
        return None
    found = event.get("attributes")
    attributes = found if isinstance(found, dict) else {}
    faults: list[Fault] = []
    named = {
        "data.event.userId": event.get("userId"),
        "data.event.contentId": attributes.get("flow_id") or event.get("contentId"),
        "data.event.id": event.get("id") or message.get("id"),
        "data.event.sessionId": event.get("sessionId") or event.get("id"),
    }
    ids: list[str] = []
    for path, value in named.items():
        if isinstance(value, str) and 0 < len(value) <= MAX_ID and value.isprintable():
            ids.append(value)
        else:
            faults.append(Fault(path, f"must be an id of 1 to {MAX_ID} characters"))
    if faults:
        raise InvalidInput(faults)
    user_id, flow_id, event_id, run = ids
    code, number = event["codeName"], attributes.get("flow_step_number")
    step: int | str | None = None
    if type(number) is int or (isinstance(number, str) and 0 < len(number) <= MAX_ID):
        step = number
    name = _name(event_id, code) if code in STEPS else _name(run, code)
    return Moved(
        code,
        name,
        user_id,
        flow_id,
        run,
        step,
        _text(event.get("createdAt")),
        _text(message.get("createdAt")),
    )


async def take(service: Service, product: str, moved: Moved) -> dict[str, Any]:
    """Record it in its user's session. Where the user has none, that is noted."""
    session_id = await _session(service, product, moved)
    if session_id is None:
        await service.reject(product, [("data.event.userId", NO_SESSION)])
        return {"status": "no_session"}
    now = service.clock.now()
    at, _, suspect = clock.corrected(_instant(moved.occurred_raw), None, now)
    item = OutsideEvent(
        moved.event_id,
        moved.event(),
        session_id,
        moved.user_id,
        now,
        at,
        moved.occurred_raw,
        moved.sent_raw,
        suspect,
        SOURCE,
        None,
    )
    job = FlowJob(
        product, service.clock.new_id(), session_id=session_id, items=[item], code=moved.code, ends=moved.ends
    )
    (outcome,) = await service.recorder.submit(job)
    return {"status": outcome.value}


@dataclass(slots=True, eq=False)
class FlowJob(BatchJob):
    """One event of a flow; the outcome's value says what became of it: ok, duplicate, over, running."""

    code: str = ""
    ends: Sequence[str] = ()  # event ids of the ends of its content session

    def ids(self) -> Sequence[str]:
        return [*dict.fromkeys((*BatchJob.ids(self), *self.ends))]

    def run(self, turn: Turn, known: Mapping[str, Known], product: configs.ProductState) -> None:
        (item,) = self.items
        self.outcome = Outcome(value="over")
        if item.event_id not in known:
            if any(end in known for end in self._before()):
                return
            if self.code == STARTED and self._runs(turn):
                self.outcome.value = "running"
                return
        BatchJob.run(self, turn, known, product)
        self.outcome.value = "ok" if self.outcome.accepted else "duplicate"

    def _before(self) -> Sequence[str]:
        """The ends behind which it means nothing any more; a completion that comes late still counts."""
        if self.code == COMPLETED:
            return ()
        return self.ends[:1] if self.code == ENDED else self.ends

    def _runs(self, turn: Turn) -> bool:
        """Whether the tour runs already: the toast, or an option, has started it."""
        assert self.session_id is not None
        (item,) = self.items
        assert isinstance(item.event, events.TourStarted)
        turn.timers(self.session_id, turn.now)
        state = turn.world.session(self.session_id).state
        tour = turn.rules.config.tour(item.event.tour_id)
        names = (item.event.tour_id, tour.id if tour is not None else None)
        return state.tour_running(turn.now) and state.active_tour_id in names


async def _session(service: Service, product: str, moved: Moved) -> str | None:
    """The session in which the flow was said to start, else the user's."""
    async with service.ledger.reader() as conn:
        started = _name(moved.run, STARTED)
        row = (await reader.find_ids(conn, product, OUTSIDE, [started])).get(started)
    if row is not None and row.stream.startswith("session-"):
        return name_in(row.stream)
    return await service.user_session(product, moved.user_id)


def _name(run: str, code: str) -> str:
    named = f"usertour/{run}/{code}"
    return named if len(named) <= MAX_ID else f"usertour/{hashlib.sha256(run.encode()).hexdigest()}/{code}"


def _text(value: object) -> str | None:
    return value[:64] if isinstance(value, str) else None


def _instant(raw: str | None) -> int | None:
    try:
        return clock.parse(raw) if raw is not None else None
    except ValueError:
        return None
