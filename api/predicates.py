"""Registered predicates: pure functions of hosts, found by entry point, run within a time budget.

A function in the entry-point group `nudgeledger.predicates` takes `(window, at)`: the context window's
actions, oldest first, and the instant in microseconds. It returns a bool or a `domain.finding.Finding`, and
may carry an attribute `version`. One that raises or overruns its budget reads unknown; while an overrun call
is still running, the same predicate is not called again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overrun
from importlib.metadata import entry_points
from queue import SimpleQueue
from typing import Any

import structlog

from domain.finding import Finding
from domain.history import ActionFact
from domain.view import no_predicates

log = structlog.get_logger()

GROUP = "nudgeledger.predicates"
Function = Callable[[Sequence[ActionFact], int], Any]


class _Worker:
    """A thread of its own for one predicate; a daemon: a call that never ends cannot hold up the exit."""

    def __init__(self, name: str, function: Function) -> None:
        self._function = function
        self._calls: SimpleQueue[tuple[tuple[ActionFact, ...], int, Future[Any]] | None] = SimpleQueue()
        self.last: Future[Any] | None = None
        threading.Thread(target=self._work, name=f"predicate {name}", daemon=True).start()

    def call(self, window: tuple[ActionFact, ...], at: int) -> Future[Any]:
        self.last = Future()
        self._calls.put((window, at, self.last))
        return self.last

    def close(self) -> None:
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            window, at, answer = call
            try:
                answer.set_result(self._function(window, at))
            except BaseException as error:  # a host's code may raise anything; the caller reads it
                answer.set_exception(error)


class Registry:
    def __init__(self, budget_s: float, functions: Mapping[str, Function] | None = None) -> None:
        self._budget = budget_s
        self._functions = dict(functions) if functions is not None else _installed()
        self._workers: dict[str, _Worker] = {}

    def versions(self) -> dict[str, str]:
        """Each predicate's declared version; `0` where it declares none."""
        return {name: str(getattr(function, "version", "0")) for name, function in self._functions.items()}

    def run(self, name: str, window: Sequence[ActionFact], at: int) -> Finding:
        function = self._functions.get(name)
        if function is None:
            return no_predicates(name, window, at)
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = _Worker(name, function)
        if worker.last is not None and not worker.last.done():
            return _unknown(name, "an earlier call is still running past its time budget")
        call = worker.call(tuple(window), at)
        try:
            result = call.result(self._budget)
        except Overrun:
            if call.done():  # the predicate itself raised a timeout
                return _unknown(name, "raised TimeoutError")
            log.warning("predicate_overran", predicate=name, budget_s=self._budget)
            return _unknown(name, f"took more than its time budget of {self._budget * 1000:g} ms")
        except Exception as error:  # a host's code may raise anything
            log.warning("predicate_failed", predicate=name, error=type(error).__name__)
            return _unknown(name, f"raised {type(error).__name__}")
        if isinstance(result, Finding):
            return result._replace(type="predicate", required=result.required or name)
        if isinstance(result, bool):
            return Finding("predicate", result, result, name)
        return _unknown(name, f"returned {type(result).__name__}, not a bool or a Finding")

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()


def _unknown(name: str, detail: str) -> Finding:
    return Finding("predicate", None, None, name, detail=detail)


def _installed() -> dict[str, Function]:
    return {point.name: point.load() for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}
