"""Work shared out among processes: replay and backtest over a large ledger.

A piece of work is a module-level function with one picklable argument and a `Line` on which it reports how
far it is. Each process is spawned, so it inherits no event loop, connection or lock.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Line(Protocol):
    """What a piece of work sees of whoever waits for it."""

    def report(self, done: int) -> None:
        """How far it is, in units of its own (positions); raises Cancelled where nobody wants it."""


class Cancelled(Exception):
    """Whoever waited does no longer want the result."""


class WorkFailed(Exception):
    """A worker ended without a result; the message is the worker's own error."""


class _Message(NamedTuple):
    kind: str  # done | result | error
    value: Any


class _Remote:
    """The line of a worker process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def report(self, done: int) -> None:
        try:
            self._pipe.send(_Message("done", done))
        except BrokenPipeError:  # the process that waited is gone
            raise Cancelled from None


class _Local:
    """The line of work that runs in the caller's own process."""

    def __init__(self, on_progress: Callable[[int], None], cancelled: threading.Event) -> None:
        self._on_progress, self._cancelled = on_progress, cancelled

    def report(self, done: int) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        self._on_progress(done)


def processes() -> int:
    """How many processes may work at once: the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(
    work: Callable[[A, Line], R],
    arguments: Sequence[A],
    *,
    on_progress: Callable[[int], None] = lambda done: None,
    cancelled: threading.Event | None = None,
) -> list[R]:
    """The results in the order of the arguments, each made by a process of its own; one runs right here.

    Blocks: call it in a thread where an event loop runs. `on_progress` gets the sum of what all report.
    Raises Cancelled once `cancelled` is set, and what a piece of work raised as WorkFailed (the local one:
    as it is); the other processes are ended then.
    """
    stop = cancelled or threading.Event()
    if len(arguments) == 1:
        return [work(arguments[0], _Local(on_progress, stop))]
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, tuple[int, Any]] = {}
    results: dict[int, R] = {}
    done = [0] * len(arguments)
    try:
        for index, argument in enumerate(arguments):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_run, args=(work, argument, theirs), daemon=True)
            process.start()
            theirs.close()
            running[ours] = (index, process)
        while running:
            if stop.is_set():
                raise Cancelled
            for pipe in wait(list(running), timeout=0.2):
                assert isinstance(pipe, Connection)
                index, process = running[pipe]
                try:
                    message: _Message = pipe.recv()
                except EOFError:
                    process.join()
                    raise WorkFailed(f"a worker ended with exit code {process.exitcode}") from None
                if message.kind == "done":
                    done[index] = message.value
                    on_progress(sum(done))
                    continue
                if message.kind == "error":
                    raise WorkFailed(message.value)
                results[index] = message.value
                del running[pipe]
                pipe.close()
                process.join()
    finally:
        for pipe, (_, process) in running.items():
            process.terminate()
            process.join()
            pipe.close()
    return [results[index] for index in range(len(arguments))]


def _run(work: Callable[[Any, Line], Any], argument: Any, pipe: Connection) -> None:
    try:
        result = work(argument, _Remote(pipe))
    except BaseException as error:  # whatever it is: the waiting process says so
        with contextlib.suppress(BrokenPipeError):
            pipe.send(_Message("error", f"{type(error).__name__}: {error}"))
    else:
        pipe.send(_Message("result", result))
    finally:
        pipe.close()
