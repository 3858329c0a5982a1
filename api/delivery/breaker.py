"""A circuit breaker: a vendor that fails again and again is left alone for a while, then asked once."""

from __future__ import annotations

from domain.instants import SECOND, text

FAILURES = 5  # one after the other, and the circuit opens
FIRST = 10 * SECOND  # µs that it stays open; doubled each time the probe fails
LONGEST = 300 * SECOND
CLOSED, HALF_OPEN, OPEN = "closed", "half_open", "open"


class Breaker:
    """Of one product, channel and host."""

    def __init__(self) -> None:
        self._failures = 0  # one after the other
        self._openings = 0  # one after the other
        self._until = 0  # µs; no attempt before
        self._asked = False  # the vendor itself asked for that
        self._probe: int | None = None  # µs by which the one attempt of a half-open circuit has ended

    def state(self, now: int) -> str:
        if now < self._until:
            return OPEN
        return HALF_OPEN if self._openings else CLOSED

    def level(self, now: int) -> int:
        """The state as a figure: 0 closed, 1 half open, 2 open."""
        return (CLOSED, HALF_OPEN, OPEN).index(self.state(now))

    def wait(self, now: int) -> int | None:
        """The instant before which no attempt is made; None: one may be made now."""
        if now < self._until:
            return self._until
        if self._openings and self._probe is not None and now < self._probe:
            return min(self._probe, now + SECOND)  # the probe may end sooner
        return None

    def why(self, host: str) -> str:
        """Why no attempt is made, in words."""
        until = text(self._until)
        if self._asked:
            return f"circuit open: {host} asked to be left alone until {until}"
        return f"circuit open: {host} failed {self._failures} times in a row and is left alone until {until}"

    def begin(self, until: int) -> None:
        """An attempt begins, and has ended by `until`."""
        if self._openings:
            self._probe = until

    def ended(self) -> None:
        """An attempt ended that says nothing of the vendor."""
        self._probe = None

    def succeeded(self) -> None:
        """The vendor answered what it was asked, be it by a refusal."""
        self._failures = self._openings = self._until = 0
        self._probe, self._asked = None, False

    def failed(self, now: int, after_s: float | None = None) -> None:
        """The vendor did not answer, answered that it cannot, or asked for a pause of `after_s` seconds."""
        self._failures += 1
        self._probe = None
        if self._failures >= FAILURES:
            self._until = now + min(FIRST << min(self._openings, 16), LONGEST)
            self._openings += 1
            self._asked = False
        if after_s is not None and now + int(after_s * SECOND) > self._until:
            self._until, self._asked = now + int(after_s * SECOND), True
