"""Who listens, and what each connection is sent.

A native connection (our own script) gets every nudge of its user; its tabs decide among themselves which one
shows it, and the first `nudge_shown` closes it everywhere else. Of legacy connections the newest alone gets a
nudge, and the next one if that drops before anything says that the nudge was seen. Where a native connection
listens, legacy ones get nothing: at most one visible toast.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

QUEUE = 64  # frames a connection may be behind; a slower reader is cut off and comes back with its last id


class Outlet:
    """Where one reader's frames wait, in a queue that has an end."""

    __slots__ = ("frames", "lost")
    frames: asyncio.Queue[bytes | None]  # None: the stream ends
    lost: bool

    def send(self, frame: bytes | None) -> bool:
        """Queue a frame, or None for the end; a reader that is too far behind is cut off."""
        if self.lost:
            return False
        try:
            self.frames.put_nowait(frame)
        except asyncio.QueueFull:
            self.send_end()
            return False
        return True

    def send_end(self) -> None:
        """Nothing more for this reader; what it has not read is dropped."""
        self.lost = True
        while not self.frames.empty():
            self.frames.get_nowait()
        self.frames.put_nowait(None)


@dataclass(eq=False, slots=True)
class Connection(Outlet):
    """One open stream."""

    product: str
    user_id: str
    native: bool
    tab_id: str | None = None
    session_id: str | None = None
    frames: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    holds: set[str] = field(default_factory=set)  # nudges sent to it and not closed since
    gone: set[str] | None = None  # while it is joining: nudges that ended meanwhile
    lost: bool = False

    def ended(self, nudge_id: str) -> None:
        if self.gone is not None:
            self.gone.add(nudge_id)


def frame(event: str, data: Any, position: int | None = None) -> bytes:
    """A server-sent event; JSON has no raw line breaks, so one `data` line is enough."""
    head = b"" if position is None else b"id: %d\n" % position
    return head + b"event: %s\ndata: %s\n\n" % (event.encode(), orjson.dumps(data))


class Hub:
    def __init__(self) -> None:
        self._connections: dict[tuple[str, str], list[Connection]] = {}
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._connections.values()))

    def join(self, connection: Connection) -> None:
        if self._closed:
            connection.send_end()
        self._connections.setdefault((connection.product, connection.user_id), []).append(connection)

    def leave(self, connection: Connection) -> list[str]:
        """Remove a connection; the nudges that a legacy one held and nobody else has now."""
        key = (connection.product, connection.user_id)
        listed = self._connections.get(key, [])
        if connection in listed:
            listed.remove(connection)
        if not listed:
            self._connections.pop(key, None)
        return [] if connection.native else sorted(connection.holds)

    def receivers(self, product: str, user_id: str) -> list[Connection]:
        """Who is to get a new nudge: every native connection, else the newest legacy one."""
        listed = [c for c in self._connections.get((product, user_id), ()) if not c.lost]
        native = [c for c in listed if c.native]
        return native or listed[-1:]

    def held(self, connection: Connection, nudge_id: str) -> bool:
        """Whether a nudge is on a screen already where this connection's would be one too many."""
        if nudge_id in connection.holds:
            return True
        others = self.of_user(connection.product, connection.user_id)
        return not connection.native and any(nudge_id in c.holds and not c.lost for c in others)

    def of_user(self, product: str, user_id: str) -> list[Connection]:
        return list(self._connections.get((product, user_id), ()))

    def listening(self, product: str) -> list[tuple[str, str | None]]:
        """(user id, session id where it was said) of each open connection of the product."""
        open_now = [c for (owner, _), listed in self._connections.items() if owner == product for c in listed]
        return [(c.user_id, c.session_id) for c in open_now if not c.lost]

    def offer(self, product: str, user_id: str, nudge: dict[str, Any], position: int) -> int:
        """Send a nudge; to how many connections."""
        sent = 0
        for connection in self.receivers(product, user_id):
            sent += self.send(connection, nudge, position)
        return sent

    def send(self, connection: Connection, nudge: dict[str, Any], position: int) -> bool:
        if not connection.send(frame("proactive", nudge, position)):
            return False
        connection.holds.add(nudge["nudge_id"])
        return True

    def shown(self, product: str, user_id: str, nudge_id: str, tab_id: str | None, position: int) -> None:
        """A tab claimed the nudge: every other one puts it away."""
        data = {"nudge_id": nudge_id, "reason": "shown_elsewhere", "tab_id": tab_id}
        connections = self.of_user(product, user_id)
        ours = tab_id is not None and any(c.native and c.tab_id == tab_id for c in connections)
        for connection in connections:
            connection.ended(nudge_id)
            if nudge_id not in connection.holds:
                continue
            if not connection.native:
                connection.holds.discard(nudge_id)  # seen: nobody else needs it
                if ours:
                    connection.send(frame("nudge_closed", data, position))
            elif tab_id is None or connection.tab_id != tab_id:
                connection.send(frame("nudge_closed", data, position))

    def closed(self, product: str, user_id: str, nudge_id: str, reason: str, position: int) -> None:
        for connection in self.of_user(product, user_id):
            connection.holds.discard(nudge_id)
            connection.ended(nudge_id)
            connection.send(frame("nudge_closed", {"nudge_id": nudge_id, "reason": reason}, position))

    def close(self) -> None:
        """End every stream; clients come back by themselves."""
        self._closed = True
        for listed in self._connections.values():
            for connection in listed:
                connection.send_end()
