"""A backtest carried out: shared out among processes, each with a connection of its own, and put together.

Blocks: a service calls it in a thread. Predicates run here as they do live, from the registry and within
their time budget; nothing else of a host's code or network is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from api import log, workers
from api.predicates import Registry
from eventstore.engine import open_ledger
from projections import configs, partition
from projections.backtesting import comparison, results
from projections.backtesting.comparison import Ask, Share, Task
from projections.backtesting.window import Window
from projections.partition import Components

SMALL = 20_000  # events up to which starting processes would take longer than they save
MOST_PROCESSES = 8

R = TypeVar("R")


class Plan(NamedTuple):
    """All that a backtest is a function of, and where its ledger is."""

    url: str
    window: Window
    until: int  # µs past the window's end
    candidate: configs.Revision
    in_force: configs.Revision | None
    path: str  # of the job, for links
    budget_s: float  # of one call of a predicate
    log: Literal["text", "json"] = "text"


class _Order(NamedTuple):
    """What one process is told."""

    plan: Plan
    task: Task


def carry_out(
    plan: Plan,
    *,
    processes: int | None = None,  # None: as many as it is worth
    on_progress: Callable[[int], None] = lambda done: None,
    cancelled: threading.Event | None = None,
) -> results.Outcome:
    """The outcome. `on_progress` gets the number of positions gone through.

    Raises workers.Cancelled once `cancelled` is set, workers.WorkFailed where a process failed.
    """
    window = plan.window
    shares = processes or _worth(window.last - window.before)
    components = Components(())
    if shares > 1:
        with _asking(plan.url) as ask:
            components = ask(
                partial(partition.components, product=window.product, up_to=window.known_position)
            )
    orders = [_Order(plan, Task(window, plan.until, components, share, shares)) for share in range(shares)]
    found = workers.spread(
        _share, orders, on_progress=lambda done: on_progress(done // shares), cancelled=cancelled
    )
    candidate, in_force = (
        configs.ruleset(window.product, revision).config for revision in (plan.candidate, plan.in_force)
    )
    return results.outcome(found, candidate, in_force, path=plan.path)


def _worth(events: int) -> int:
    if events <= SMALL:
        return 1
    # Two at least: a large window must not be simulated beside the event loop of the service.
    return max(2, min(workers.processes(), MOST_PROCESSES))


def _share(order: _Order, line: workers.Line) -> Share:
    plan, task = order
    if task.shares > 1:
        log.configure(plan.log)  # this is a process of its own
    predicates = Registry(plan.budget_s)
    try:
        candidate = configs.ruleset(task.window.product, plan.candidate, predicates.run)
        in_force = configs.ruleset(task.window.product, plan.in_force, predicates.run)
        with _asking(plan.url) as ask:
            return comparison.simulate(task, candidate, in_force, ask, line.report)
    finally:
        predicates.close()


@contextlib.contextmanager
def _asking(url: str) -> Iterator[Ask]:
    """Questions to the ledger, each answered before the caller goes on."""
    with asyncio.Runner() as runner:
        ledger = open_ledger(url)

        async def asked(question: Callable[[AsyncConnection], Awaitable[R]]) -> R:
            async with ledger.reader() as conn:
                return await question(conn)

        def ask(question: Callable[[AsyncConnection], Awaitable[R]]) -> R:
            return runner.run(asked(question))

        try:
            yield ask
        finally:
            runner.run(ledger.close())
