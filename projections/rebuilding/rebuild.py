"""Rebuild: the projections derived anew beside the live ones, compared, and switched where they differ.

Under live traffic. The new version fills beside the old; both are compared in a snapshot; under the writer's
lock, only what differs or moved meanwhile is looked at again and written, all in one transaction. Killed at
any point, it has changed no live row, and the next run goes on where it stopped.

Offers are facts, and a rebuild appends none: it decides nothing anew and delivers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from domain.errors import Fault, InvalidInput
from domain.view import Predicates, no_predicates
from eventstore import reader
from eventstore.engine import Ledger
from projections.rebuilding import differing, retrying, switching
from projections.rebuilding.arming import Arming
from projections.rebuilding.differing import PROJECTIONS, Change, Comparison
from projections.rebuilding.refill import BATCH, Filler, Key, Progress, Touched, empty, forget
from projections.rebuilding.retrying import Poison
from projections.rebuilding.switching import RolledBack


class Report(NamedTuple):
    """What a rebuild found and did."""

    position: int  # up to and with which the new version stands
    comparisons: list[Comparison]  # before the switch, without rows that moved while they were compared
    changes: list[Change]  # what was switched; of a dry run: what would be. By session
    poisoned: list[Poison]  # events that cannot be applied
    healed: list[Poison]  # events that could not be applied before, and now can
    switched: bool  # False: a dry run


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


async def rebuild(
    ledger: Ledger,
    names: Sequence[str] | None = None,
    *,
    now: int,
    on_progress: Progress = quiet,
    dry_run: bool = False,
    restart: bool = False,
    predicates: Predicates = no_predicates,
) -> Report:
    """Derive projections anew and make the live tables what they then are.

    `names`: which of `PROJECTIONS`; None: all. `now`: for to-dos, of which none may lie in the past.
    `restart`: begin anew, whatever an earlier run has filled. Raises InvalidInput for another name,
    Overtaken where another rebuild is under way, Unavailable where the database is.
    """
    chosen = [PROJECTIONS[name] for name in _known(names)]
    filler = Filler(ledger, now)
    await filler.begin(restart=restart)
    await filler.fill(on_progress)
    touched = filler.watch()
    async with differing.snapshot(ledger) as conn:
        moving = await _moving(conn, filler.position)
        comparisons = []
        for done, projection in enumerate(chosen):
            on_progress("projections compared", done, len(chosen))
            comparisons.append(await differing.compare(conn, projection, moving[projection.name]))
        on_progress("projections compared", len(chosen), len(chosen))
    differ = {c.projection: {change.key for change in c.changes} for c in comparisons}
    arming = Arming(now, predicates)
    async with ledger.reader() as conn:
        poisoned, healed = await retrying.retry(conn, [projection.name for projection in chosen])
        if dry_run:
            found = [change for comparison in comparisons for change in comparison.changes]
            return Report(filler.position, comparisons, _by_session(found), poisoned, healed, False)
        for done, key in enumerate(sorted(differ.get("sessions", ()))):
            on_progress("sessions armed", done, len(differ["sessions"]))
            await arming.due(conn, key)
    await filler.fill(on_progress)
    undo = switching.Undo([])
    changes: list[Change] = []
    async with ledger.transaction() as conn:
        await filler.finish(conn)
        moved = await touched.keys(conn)
        arming.forget(moved["sessions"])
        for projection in chosen:
            keys = sorted(differ[projection.name] | moved[projection.name])
            changes += await switching.switch(conn, projection, keys, arming, undo)
        await undo.remember(conn)
        await retrying.take_off(conn, healed)
        await forget(conn)
    async with ledger.transaction() as conn:
        await empty(conn)
    return Report(filler.position, comparisons, _by_session(changes), poisoned, healed, True)


async def roll_back(ledger: Ledger) -> RolledBack:
    """Put back the rows that the last rebuild changed, but for those that somebody changed since."""
    async with ledger.transaction() as conn:
        done = await switching.roll_back(conn)
    return RolledBack(_by_session(done.put_back), _by_session(done.kept))


def _known(names: Sequence[str] | None) -> list[str]:
    """The projections of these names, in the order in which they are listed."""
    if unknown := sorted(set(names or ()) - set(PROJECTIONS)):
        known = ", ".join(PROJECTIONS)
        raise InvalidInput([Fault("", f"no projection {name!r}; there are {known}") for name in unknown])
    return [name for name in PROJECTIONS if names is None or name in names]


async def _moving(conn: AsyncConnection, position: int) -> dict[str, set[Key]]:
    """Rows that events above `position` may have changed: the live tables have them, the new ones not yet."""
    touched = Touched()
    while rows := await reader.read_all(conn, after=position, limit=BATCH):
        touched.add(rows)
        position = rows[-1].position
    return await touched.keys(conn)


def _by_session(changes: Sequence[Change]) -> list[Change]:
    order = list(PROJECTIONS)
    return sorted(changes, key=lambda c: (c.product, c.session_id, order.index(c.projection), c.key))
