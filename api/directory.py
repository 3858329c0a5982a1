"""Which product a public token or a page's Origin belongs to, and what secret its webhooks hold.

A token is one that the config in force lists under `tokens`; else the id of a product.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from api.clock import Clock
from api.recorder import Recorder
from domain.config import Config
from domain.instants import SECOND
from projections import lookups

FRESH = SECOND  # how long the list of products is believed, and a secret that fits


class Directory:
    def __init__(self, recorder: Recorder, clock: Clock) -> None:
        self._recorder, self._clock = recorder, clock
        self._products: list[str] = []
        self._read_at: int | None = None
        self._hashes: dict[str, tuple[str | None, int]] = {}  # by product: of the webhook secret, when read

    async def products(self) -> list[str]:
        """Every product, at most a second old; none is not believed that long."""
        now = self._clock.now()
        if not self._products or self._read_at is None or now - self._read_at > FRESH:
            async with self._recorder.ledger.reader() as conn:
                self._products = await lookups.products(conn)
            self._read_at = now
        return self._products

    def forget(self) -> None:
        """There may be another product now."""
        self._read_at = None

    async def only(self) -> str | None:
        known = await self.products()
        return known[0] if len(known) == 1 else None

    async def of_token(self, token: str | None) -> str | None:
        if not token:
            return None
        named = await self._of_token(token)
        if named is None and self._read_at is not None:
            self.forget()  # the product may be younger than the list, and who is refused does not ask again
            named = await self._of_token(token)
        return named

    async def _of_token(self, token: str) -> str | None:
        named = await self._named(lambda config: token in config.tokens)
        return named or (token if token in await self.products() else None)

    async def of_origin(self, origin: str | None) -> str | None:
        """The one product whose config names this Origin."""
        return None if origin is None else await self._named(lambda config: origin in config.origins)

    async def holds_secret(self, product: str, hashed: str) -> bool:
        """Whether the webhook secret with this SHA-256 is the product's, or the product has none.

        Who is refused was compared with the newest; a secret that was replaced fits for a second more.
        """
        wanted, at = self._hashes.get(product, (None, None))
        now = self._clock.now()
        if at is not None and now - at <= FRESH and _fits(hashed, wanted):
            return True
        async with self._recorder.ledger.reader() as conn:
            secrets = await lookups.secrets(conn, product)
        wanted = secrets.webhook_secret_hash if secrets is not None else None
        self._hashes[product] = wanted, now
        return _fits(hashed, wanted)

    async def _named(self, says: Callable[[Config], bool]) -> str | None:
        named = [p for p in await self.products() if says((await self._recorder.book(p)).rules.config)]
        return named[0] if len(named) == 1 else None


def _fits(hashed: str, wanted: str | None) -> bool:
    return wanted is None or hmac.compare_digest(hashed, wanted)
