"""What a channel is: the port behind which every vendor stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from domain.config_around import Channels


class Message(NamedTuple):
    """A recorded offer, as a channel hands it over."""

    product: str
    nudge_id: str  # the idempotency key
    trigger_id: str
    session_id: str
    user_id: str | None
    conversation_id: str | None  # of the session, where one was linked
    body: str
    tours: Sequence[Mapping[str, Any]]  # id, flow_id, label
    options: Sequence[Mapping[str, Any]]  # id, label, user_tour_exists?, user_tour_id?
    target: str | None
    how_to: str | None
    reason: str  # the explanation's summary
    offered_at: int  # µs
    expires_at: int  # µs
    attempt: int  # from 1


class Delivered(NamedTuple):
    """The vendor took it."""

    reference: str | None = None  # its own id of what it made of it


class DeliveryError(Exception):
    """The vendor did not take it, or nobody knows. `error` says what happened and quotes nothing."""

    def __init__(self, error: str, status: int | None = None) -> None:
        super().__init__(error)
        self.error, self.status = error, status


class Refused(DeliveryError):
    """For certain not taken, and it would not be the next time either."""


class TryLater(DeliveryError):
    """For certain not taken; another attempt may succeed. `after`: seconds that the vendor asked for."""

    def __init__(self, error: str, status: int | None = None, after: float | None = None) -> None:
        super().__init__(error, status)
        self.after = after


class Uncertain(DeliveryError):
    """It was sent, and no answer says whether it was taken: a timeout, a connection that broke."""


class Channel(Protocol):
    """One way to a user. An instance serves every product; it keeps no state of a delivery."""

    name: str
    idempotent: bool
    """Whether the vendor drops a second message under the same key. Then a nudge is delivered at least once;
    else at most once, and what is uncertain stays so."""

    async def deliver(self, message: Message, settings: Channels) -> Delivered:
        """Hand the nudge over. Raises DeliveryError, and Unavailable for a secret that is not set."""
        ...
