"""What a channel is: the port behind which every vendor stands.

A channel is one file with one class and one line in `channels.py`. It says where it would call (`target`) and
hands one message over (`deliver`); it returns Delivered or raises how it failed. Everything else is done for
it: an attempt is recorded before the call and its outcome after, one server wins, attempts are bounded in
number and in time, retried with backoff, held back while the vendor is down, and told in explanations.

What `deliver` raises decides what happens next:

    Refused      certain, and final                                  delivery_failed
    TryLater     certain, another attempt may succeed                delivery_failed, and again later
    Uncertain    nobody knows: idempotent channels are asked again   delivery_unknown, and again later
                 of the others it is the end                         delivery_unknown
    Unavailable  a secret is not set (`api.secret.of`)               delivery_failed

`api.delivery.calls` makes the HTTP request and raises TryLater or Uncertain where no answer came, so a
channel only judges answers. A channel without an idempotency key must raise TryLater for nothing but what
its vendor surely refused before it looked at the message.
"""

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
    attempted_at: int  # µs


class Target(NamedTuple):
    """Where a channel would call."""

    url: str  # its host has a circuit breaker and a few attempts at once of its own
    timeout: int  # µs, of one attempt from its start to its end


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
    """Under which triggers list it, and `channels` of the config holds its settings."""
    idempotent: bool
    """Whether the vendor drops a second message under the same key. Then a nudge is delivered at least once;
    else at most once, and what is uncertain stays so."""

    def target(self, settings: Channels) -> Target | None:
        """Where it would call; None where the product's config says nothing of this channel."""
        ...

    async def deliver(self, message: Message, settings: Channels) -> Delivered:
        """Hand the nudge over. Raises DeliveryError, and Unavailable for a secret that is not set."""
        ...
