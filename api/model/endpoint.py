"""Asks an OpenAI-compatible endpoint: `POST {url}/chat/completions`.

Prompts and answers are never logged and never part of an error.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import orjson
import structlog

from api import secret
from api.clock import Clock
from api.delivery.breaker import Breaker
from api.model import answers
from api.model.budget import Budgets
from api.model.port import Answer, ModelFailed, Prompt
from domain.config_around import Model as Settings
from domain.errors import Unavailable
from domain.instants import SECOND
from eventstore.engine import Ledger

log = structlog.get_logger()

AT_ONCE = 8  # calls of one product; others wait, within their time limit
MAX_ANSWER = 256 * 1024  # bytes of a response
BACKOFF_S = 0.5  # before the second attempt, doubled before each further one
TIMEOUT_S = 130.0  # of one read or write: above any attempt's own limit, which holds for all of it
MAX_REST_S = 300.0  # however long the endpoint asks to be left alone
_AGAIN = frozenset({408, 409, 425, 429})  # and every 5xx: the same question may be answered later
_BYTES_PER_TOKEN = 4  # an estimate, where the endpoint counts none


class _TryLater(Exception):
    """This attempt came to nothing; another may not. `after`: seconds that the endpoint asked for."""

    def __init__(self, reason: str, detail: str, after: float | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.after = reason, detail, after


class Endpoint:
    """The models of all products; see `port.Models`."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.outcomes: Counter[tuple[str, str]] = Counter()  # product; see `port.Counting`
        self.attempts: Counter[str] = Counter()  # requests that were made, by product
        self._clock = clock
        self._budgets = Budgets(ledger)
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._client: httpx.AsyncClient | None = None
        self._asking: set[asyncio.Task[Any]] = set()
        self._stopped = False

    async def stop(self) -> None:
        """Give up what is under way and close connections."""
        self._stopped = True
        asking = list(self._asking)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def ask(self, product: str, settings: Settings | None, prompt: Prompt) -> Answer:
        """The answer, after at most `attempts` attempts of `timeout` each, and no longer than both allow.

        Raises ModelFailed; every attempt counts against the product's budget of the day.
        """
        if settings is None:
            raise ModelFailed("no_model")
        if self._stopped:
            raise ModelFailed("unreachable", "the service is stopping")
        asking = asyncio.create_task(self._within(product, settings, prompt))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            answer = await asking
            self.count(product, "answered")
            return answer
        except ModelFailed as error:
            self.count(product, error.reason)
            log.warning("model_failed", product=product, reason=error.reason, detail=str(error))
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():  # it was `stop`
                raise ModelFailed("unreachable", "the service is stopping") from None
            raise

    def count(self, product: str, outcome: str) -> None:
        self.outcomes[product, outcome] += 1

    async def _within(self, product: str, settings: Settings, prompt: Prompt) -> Answer:
        headers = _headers(settings)
        try:
            async with asyncio.timeout(settings.timeout * settings.attempts / SECOND) as limit:
                end = limit.when()
                assert end is not None
                return await self._attempts(product, settings, prompt, headers, end)
        except TimeoutError:
            raise ModelFailed("timeout", "no answer within the time limit") from None

    async def _attempts(
        self, product: str, settings: Settings, prompt: Prompt, headers: dict[str, str], end: float
    ) -> Answer:
        breaker = self._breakers.setdefault((product, settings.url), Breaker())
        body, loop = orjson.dumps(_body(settings, prompt)), asyncio.get_running_loop()
        attempt = 1
        while True:
            if breaker.wait(self._clock.now()) is not None:
                raise ModelFailed("unreachable", breaker.why("the endpoint"))
            try:
                return await self._attempt(product, settings, prompt, body, headers, breaker)
            except _TryLater as error:
                wait = BACKOFF_S * 2 ** (attempt - 1) if error.after is None else error.after
                if attempt >= settings.attempts or wait >= end - loop.time():
                    breaker.failed(self._clock.now(), error.after)
                    raise ModelFailed(error.reason, error.detail) from None
                breaker.failed(self._clock.now())
                await asyncio.sleep(wait)
                attempt += 1

    async def _attempt(
        self,
        product: str,
        settings: Settings,
        prompt: Prompt,
        body: bytes,
        headers: dict[str, str],
        breaker: Breaker,
    ) -> Answer:
        reserved = len(body) // _BYTES_PER_TOKEN + prompt.max_tokens
        async with self._slots.setdefault(product, asyncio.Semaphore(AT_ONCE)):
            day = await self._budgets.reserve(product, settings, reserved, self._clock.now())
            if day is None:
                raise ModelFailed("budget", "the product's budget of the day is spent")
            breaker.begin(self._clock.now() + settings.timeout)
            self.attempts[product] += 1
            used = 0  # tokens; a call that came to nothing counts as a call
            try:
                async with asyncio.timeout(settings.timeout / SECOND):
                    content = await self._post(settings, body, headers)
                breaker.succeeded()
                used = reserved
                answer = answers.read(content, settings.name, prompt)
                used = reserved if answer.tokens is None else answer.tokens
                return answer
            except TimeoutError:
                raise _TryLater("timeout", "no answer within the time limit of an attempt") from None
            finally:
                breaker.ended()
                self._budgets.settle(day, reserved, used)

    async def _post(self, settings: Settings, body: bytes, headers: dict[str, str]) -> bytes:
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)
        try:
            url = httpx.URL(settings.url)
            url = url.copy_with(path=url.path.rstrip("/") + "/chat/completions")
            async with self._client.stream("POST", url, content=body, headers=headers) as response:
                status = response.status_code
                if status >= 500 or status in _AGAIN:
                    raise _TryLater("unreachable", f"HTTP {status}", _retry_after(response))
                if status != 200:
                    raise ModelFailed("refused", f"HTTP {status}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise ModelFailed("nonsense", "a compressed answer was not asked for")
                content = bytearray()
                async for chunk in response.aiter_raw():
                    content += chunk
                    if len(content) > MAX_ANSWER:
                        raise ModelFailed("nonsense", "the answer is too long")
                return bytes(content)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise ModelFailed("unreachable", "the address is none") from None
        except httpx.HTTPError as error:
            raise _TryLater("unreachable", type(error).__name__) from None


def _headers(settings: Settings) -> dict[str, str]:
    try:
        key = secret.of(settings.key)
    except Unavailable:
        raise ModelFailed("no_key", "the environment variable of the key is not set") from None
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if key is not None:
        if not key.isascii() or not key.isprintable():
            raise ModelFailed("no_key", "the key is no text that a header can hold")
        headers["authorization"] = f"Bearer {key.strip()}"
    return headers


def _body(settings: Settings, prompt: Prompt) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": settings.name,
        "messages": [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": prompt.user},
        ],
        "max_tokens": prompt.max_tokens,
        "temperature": 0,
    }
    if prompt.json:
        body["response_format"] = {"type": "json_object"}
    return body


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; None where the endpoint asks for none, or by a date, which nobody does."""
    given = response.headers.get("retry-after", "")
    return min(float(given), MAX_REST_S) if given.isascii() and given.isdigit() else None
