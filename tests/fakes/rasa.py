"""A fake of Rasa 3.6.21's HTTP API, as far as this service calls it; the real one needs Python 3.10.

Built from its documented behaviour: the token in the query (401 without it), `trigger_intent` (409 with no
model loaded, 400 without a name, 404 for an intent that the domain lacks), errors as JSON with `version`,
`status`, `message`, `reason`, `details`, `code`. A conversation with a live output channel is pushed to; of
another the messages come back in the answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.answering import answering


class Text(NamedTuple):
    """What the bot said."""

    conversation: str
    body: str
    nudge_id: str
    trigger_id: str
    at: float  # monotonic, seconds


class FakeRasa:
    """One bot. Tests set how it behaves."""

    def __init__(self, token: str | None = None) -> None:
        self.token = token
        self.intents = {"EXTERNAL_nudge"}
        self.loaded = True
        self.live = True  # whether the conversations' output channel can push
        self.slow_s = 0.0  # before it speaks
        self.fails: list[int] = []  # statuses of the next answers, given after it has spoken
        self.said: list[Text] = []
        self.requests = 0
        self.server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        self.requests += 1
        split = urlsplit(path)
        query = {name: values[-1] for name, values in parse_qs(split.query).items()}
        if self.token is not None and query.get("token") != self.token:
            return self._error(401, "NotAuthenticated", "User is not authenticated.")
        parts = split.path.split("/")
        if len(parts) != 4 or parts[1] != "conversations" or parts[3] != "trigger_intent":
            return self._error(404, "NotFound", "Requested URL was not found")
        if not self.loaded:
            return self._error(409, "Conflict", "No agent loaded.")
        if query.get("include_events", "AFTER_RESTART") not in ("ALL", "APPLIED", "AFTER_RESTART", "NONE"):
            return self._error(400, "BadRequest", "Invalid value for parameter 'include_events'.")
        asked = json.loads(body)
        if not asked.get("name"):
            return self._error(400, "BadRequest", "Missing 'name' in the request body.")
        if asked["name"] not in self.intents:
            return self._error(404, "NotFound", f"The intent {asked['name']} does not exist in the domain.")
        time.sleep(self.slow_s)
        entities, conversation = asked["entities"], unquote(parts[2])
        text = Text(
            conversation, entities["body"], entities["nudge_id"], entities["trigger_id"], time.monotonic()
        )
        self.said.append(text)
        if self.fails:
            return self._error(self.fails.pop(0), "ConversationError", "An unexpected error occurred.")
        found: dict[str, Any] = {"tracker": {"sender_id": conversation, "slots": {}, "paused": False}}
        if not self.live:
            found["messages"] = [{"recipient_id": conversation, "text": text.body}]
        return 200, found

    @staticmethod
    def _error(status: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
        found = {"version": "3.6.21", "status": "failure", "message": message, "reason": reason}
        return status, found | {"details": {}, "help": None, "code": status}


@contextmanager
def running(rasa: FakeRasa) -> Iterator[FakeRasa]:
    with answering(lambda path, headers, body: (*rasa.answer(path, body), {})) as rasa.server:
        yield rasa
