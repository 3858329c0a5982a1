"""HTTP requests to vendors: no redirects, bounded answers, and whether anything was sent.

One client for the process. Connections are not kept: the vendor may close one that idles in the very moment
it is used again, and then nobody can say whether the request was read. Deliveries are rare.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import httpx
import orjson

from api.delivery.port import Refused, TryLater, Uncertain
from domain.instants import SECOND

MOST_BYTES = 64 * 1024  # of an answer's body; what comes behind is not read
CONNECT_S = 5.0
BODY_S = 3.0  # that an answer's body may take after its status
PLAIN = {"Accept-Encoding": "identity"}  # a few bytes may unpack to more than anybody wants
LONGEST_S = 86_400.0  # that a vendor may ask to wait


class Answer(NamedTuple):
    """What a vendor answered."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes  # its first MOST_BYTES

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> object:
        """The body's value; None where it is no JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    def after(self, now: int) -> float | None:
        """The seconds that `Retry-After` asks for, from `now` in µs; None where it asks for nothing."""
        asked = self.headers.get("retry-after", "").strip()
        if asked.isascii() and asked.isdigit():
            return min(float(asked[:9]), LONGEST_S)
        try:
            instant = parsedate_to_datetime(asked).timestamp()
        except (ValueError, OverflowError):
            return None
        return min(max(instant - now / SECOND, 0.0), LONGEST_S)


class Calls:
    """An HTTP client for many vendors. `kept`: connections kept open, where asking twice is harmless."""

    def __init__(self, kept: int = 0) -> None:
        self._kept = kept
        self._client: httpx.AsyncClient | None = None

    async def stop(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """POST, and the answer whatever its status.

        Raises TryLater where nothing was sent, Uncertain where something was and no status came back, Refused
        for an address that no request can be made to. `timeout_s` bounds each wait; the caller, the whole.
        """
        waits = httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s * 0.9))
        try:
            async with self._opened().stream(
                "POST", url, content=body, headers={**PLAIN, **headers}, timeout=waits
            ) as response:
                kept = await _beginning(response)
                return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, kept)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise TryLater(f"no connection ({type(error).__name__})") from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL):
            raise Refused("no request can be made to the address in the config") from None
        except httpx.TimeoutException as error:
            raise Uncertain(f"no answer in time ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            raise Uncertain(f"the connection broke before an answer ({type(error).__name__})") from None

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:  # made when first used: reading the certificates takes a while
            limits = httpx.Limits(max_keepalive_connections=self._kept)
            self._client = httpx.AsyncClient(limits=limits, follow_redirects=False)
        return self._client


async def _beginning(response: httpx.Response) -> bytes:
    """The body as far as it is kept. The status has come: whatever happens to the body changes no outcome."""
    kept = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in response.aiter_raw(MOST_BYTES):
                kept += part
                if len(kept) >= MOST_BYTES:
                    break
    except (httpx.HTTPError, TimeoutError):
        return b""
    return bytes(kept[:MOST_BYTES])
