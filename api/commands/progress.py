"""How far a command is, on standard error where that is a terminal: rate and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

REFRESH_S = 0.1


class Progress:
    """One line, written over itself while it is open. Call it with how much is done so far.

    `total`: of how much; None where that is not known, and then no time left is named.
    """

    def __init__(self, command: str, total: int | None = None) -> None:
        self.total = total
        self._command = command
        self._started = self._shown = 0.0
        self._first: int | None = None  # what was done already: it took no time of this run
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            sys.stderr.write("\n")

    def __call__(self, done: int) -> None:
        if not self._terminal:
            return
        now = time.perf_counter()
        if self._first is None:
            self._first, self._started = done, now
        if now - self._shown < REFRESH_S and done != self.total:
            return
        self._shown = now
        sys.stderr.write(f"\r{self._line(done, now - self._started)}\x1b[K")
        sys.stderr.flush()

    def behind(self, so_far: int) -> Callable[[int], None]:
        """The progress of a part that comes after `so_far`."""
        return lambda done: self(so_far + done)

    def _line(self, done: int, passed: float) -> str:
        fresh = done - (self._first or 0)
        rate = fresh / passed if fresh > 0 and passed > 0 else None
        line = f"{self._command}: {done:,}"
        if self.total is not None:
            line += f" of {self.total:,}"
        if rate is not None:
            line += f", {rate:,.0f} a second"
            if self.total is not None:
                left = round(max(0, self.total - done) / rate)
                line += f", {left // 60}:{left % 60:02} left"
        return line
