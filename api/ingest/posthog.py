"""PostHog's webhooks: one event a request, in one of two forms, told apart by their shape.

- flat: the Autoplay destination. 13 keys, every value a text, '' where missing; the body has no event id, so
  one is derived from what identifies the act: the same bytes again give the same id. Its
  `button_or_link_text` is the first text anywhere in the chain, cut at an escaped quote; the chain is asked
  first, so that an icon button is not labelled with its neighbour's text.
- stock: the "HTTP Webhook" destination, `{"event": {…}, "person": {…}}`, with the event's own uuid.

What a label is made of is kept, sealed, without the values of inputs: `act_again` is the act of a stored
action, so that a label that was wrong can be made anew.
"""

from __future__ import annotations

from api.ingest import clock, elements, posthog_events
from api.ingest.acts import Act, Seen
from api.ingest.arrivals import Arrival, Arrived
from api.ingest.fields import Data, optional_identifier, optional_text
from api.ingest.posthog_events import ACTS, MAX_TEXT, MAX_URL, SOURCE, UNSAID, Ignored
from domain import envelope, events
from domain.errors import Fault, InvalidInput

__all__ = ["SOURCE", "WEBHOOK", "act_again", "translate"]

WEBHOOK = "posthog-webhook"  # of the flat body: its ids are not the SDK's, so it may tell of a click anew

_KEPT = ("element_id", "input_field_name", "link_destination", "referrer")  # what rules may ask for; sealed
_IDENTITY = ("distinct_id", "timestamp", "event", "session_id", "event_type", "current_url", "elements_chain")
# Of the rest of the body: what no other field of the event holds.
_BODY = ("event", "event_type", "button_or_link_text")
_TEXTS = (*_KEPT, "event_type", "button_or_link_text", "elements_chain", "current_url")


def translate(body: object, received_at: int) -> Arrived:
    """What one webhook says. Raises InvalidInput with every fault; `received_at` is in µs."""
    if type(body) is not dict:
        raise InvalidInput([Fault("", "must be an object")])
    if type(body.get("event")) is dict:
        return _stock(body, received_at)
    if "batch" in body or ("properties" in body and "uuid" in body):
        detail = "this is the body of an SDK, not of a destination: an SDK's api_host is the service's root"
        raise InvalidInput([Fault("", detail)])
    return _flat(body, received_at)


def act_again(action: events.Action) -> Act | None:
    """The act that a stored action was made of; None where what it was made of was not kept."""
    if not action.body or "event" not in action.body:
        return None
    return posthog_events.act(action.body, action.properties or {}, action.raw_url)


def _stock(body: Data, received_at: int) -> Arrived:
    event = dict(body["event"])
    person = body.get("person")
    known = person.get("properties") if type(person) is dict else None
    if event.get("event") == "$identify" and type(known) is dict:
        set_ = event.get("$set")
        event["$set"] = {**known, **(set_ if type(set_) is dict else {})}
    faults: list[Fault] = []
    arrival = posthog_events.read(event, "event", received_at, UNSAID, faults)
    if arrival is None:
        raise InvalidInput(faults)
    return Arrived(ignored=1) if isinstance(arrival, Ignored) else Arrived([arrival])


def _flat(body: Data, received_at: int) -> Arrived:
    faults: list[Fault] = []
    # '' means missing in this format, for ids as for everything else.
    data = {key: value for key, value in body.items() if value != ""}
    name = optional_text(data, "event", "", faults, 200)
    if not faults and (name is None or name.isspace()):
        faults.append(Fault("event", "is required"))
    if name is not None and name.startswith("$") and name not in ACTS and name != "$identify":
        return Arrived(ignored=1)
    user_id = optional_identifier(data, "distinct_id", "", faults)
    session_id = optional_identifier(data, "session_id", "", faults)
    if user_id is None and session_id is None and not faults:
        faults.append(Fault("distinct_id", "distinct_id or session_id is required"))
    occurred = clock.instant(data, "timestamp", "", faults)
    for key in _TEXTS:
        optional_text(data, key, "", faults, 1_000_000)
    email = optional_text(data, "email", "", faults, 320)
    if faults or name is None:
        raise InvalidInput(faults)
    seen = Seen(
        events.UserIdentified(email=email) if name == "$identify" else _act(data),
        envelope.derived_id(occurred or 0, SOURCE, *(str(data.get(key, "")) for key in _IDENTITY)),
        session_id,
        user_id,
        received_at,
        clock.corrected(occurred, None, received_at)[0],
        clock.verbatim(data.get("timestamp")),
        None,
        False,
        WEBHOOK,
    )
    # The body does not say who a user was before: in a session that is whoever it was.
    return Arrived([Arrival(seen, in_page="current_url" in data, renamed=name == "$identify")])


def _act(data: Data) -> Act:
    properties = {key: data[key][:MAX_URL] for key in _KEPT if key in data}
    body = {key: data[key][:MAX_TEXT] for key in _BODY if key in data}
    if "elements_chain" in data:
        if body.get("button_or_link_text") in elements.field_texts(elements.parse(data["elements_chain"])):
            del body["button_or_link_text"]
        properties["elements_chain"], _ = posthog_events.kept_chain(data["elements_chain"])
    return posthog_events.act(body, properties, data.get("current_url", "")[:MAX_URL] or None)
