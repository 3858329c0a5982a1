"""A service of the same shape as its users would write it: FastAPI and the eventsourcing library.

One aggregate a session, kept in the library's cache; no triggers, no idempotency, no chain, no sealing.
`PEER_DATABASE` names the SQLite file. Database calls run in the event loop: a thread would only cost more.
"""

from __future__ import annotations

import os
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from fastapi import FastAPI
from pydantic import BaseModel


class Session(Aggregate):
    """Counts what its user did and knows the newest page."""

    @event("Started")
    def __init__(self, name: str) -> None:
        self.name = name
        self.actions = 0
        self.page = ""

    @staticmethod
    def create_id(name: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/sessions/{name}")

    @event("Acted")
    def act(self, event_id: str, user_id: str, occurred_at: str, title: str, page: str) -> None:
        self.actions += 1
        self.page = page


def application(file: str, *, cached: bool = True) -> Application[UUID]:
    """The library's application over a SQLite file."""
    env = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": file}
    if cached:
        env |= {"AGGREGATE_CACHE_MAXSIZE": "20000", "DEEPCOPY_FROM_AGGREGATE_CACHE": "n"}
    return Application(env=env)


class Incoming(BaseModel):
    event_id: str
    type: str
    session_id: str
    user_id: str
    occurred_at: str
    data: dict[str, Any]


class Body(BaseModel):
    events: list[Incoming]


app = FastAPI()


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/v1/products/{product}/events")
async def post_events(product: str, body: Body) -> dict[str, Any]:
    sessions: dict[str, Session] = {}
    for item in body.events:
        session = sessions.get(item.session_id)
        if session is None:
            session = sessions[item.session_id] = _session(item.session_id)
        data = item.data
        session.act(item.event_id, item.user_id, item.occurred_at, data["title"], data["raw_url"])
    _application.save(*sessions.values())
    return {"accepted": len(body.events)}


def _session(name: str) -> Session:
    try:
        found: Session = _application.repository.get(Session.create_id(name))
        return found
    except AggregateNotFoundError:
        return Session(name)


if "PEER_DATABASE" in os.environ:
    _application = application(os.environ["PEER_DATABASE"])
