"""The flat body of FullStory's streams, as Autoplay's guide has customers write it: one click each.

    {"target_text", "element_name", "page_url", "timestamp", "timestamp_unix", "session_replay_url",
     "user_id", "user_email", "session_id": "<device>%3A<session>"}

FullStory sends again up to thirty times in five hours and gives no id, so one is derived from all that
identifies the click.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from api.ingest import clock, fields
from api.ingest.acts import Act, Seen
from api.ingest.arrivals import Arrival, Arrived, person, short
from domain import envelope, events
from domain.errors import Fault, InvalidInput

SOURCE = "fullstory"

_KEYS = frozenset(
    (
        "target_text",
        "element_name",
        "page_url",
        "timestamp",
        "timestamp_unix",
        "session_replay_url",
        "user_id",
        "user_email",
        "session_id",
    )
)
_KEPT = ("target_text", "element_name", "session_replay_url", "user_email")


def is_body(data: object) -> bool:
    return type(data) is dict and "event" not in data and len(_KEYS & data.keys()) >= 3 and "page_url" in data


def translate(data: object, received_at: int) -> Arrived:
    """The click of a body; `received_at` is in µs. Raises InvalidInput with every fault."""
    if type(data) is not dict:
        raise InvalidInput([Fault("", "must be an object")])
    faults: list[Fault] = []
    user_id = person(data, "user_id", "", faults)
    session_id = _session(data, faults)
    if user_id is None and session_id is None and not faults:
        faults.append(Fault("user_id", "user_id or session_id is required"))
    told = "timestamp" if data.get("timestamp") not in (None, "") else "timestamp_unix"
    occurred = clock.instant({told: data.get(told) or None}, told, "", faults)
    for key in ("page_url", *_KEPT):
        fields.optional_text(data, key, "", faults, 4096)
    if faults:
        raise InvalidInput(faults)
    said = [key + "\0" + str(data[key]) for key in sorted(_KEYS) if data.get(key) is not None]
    seen = Seen(
        act(data),
        envelope.derived_id(occurred or 0, SOURCE, *said),
        session_id,
        user_id,
        received_at,
        clock.corrected(occurred, None, received_at)[0],
        clock.verbatim(data.get(told)) if occurred is not None else None,
        None,
        False,
        SOURCE,
    )
    return Arrived([Arrival(seen, in_page=True)])


def _session(data: dict[str, Any], faults: list[Fault]) -> str | None:
    """`<device>:<session>`; a template that knows neither leaves the colon alone."""
    value = data.get("session_id")
    if type(value) is str:
        value = unquote(value)
        if not value.strip(":"):
            return None
    return person({"session_id": value}, "session_id", "", faults)


def act(data: dict[str, Any]) -> Act:
    text = short(data.get("target_text"), 400) or short(data.get("element_name"), 400)
    return Act(
        kind="click",
        url=short(data.get("page_url"), 4096),
        text=text,
        properties={key: data[key] for key in ("element_name",) if data.get(key)},
        body={key: data[key] for key in _KEPT if data.get(key)},
    )


def act_again(action: events.Action) -> Act | None:
    """The act that an action was labelled from; None where nothing of its body was kept."""
    if action.body is None:
        return None
    return act({**action.body, "page_url": action.raw_url})
