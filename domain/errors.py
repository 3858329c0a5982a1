"""What can go wrong, as one tree.

NudgeledgerError
├── InvalidInput              what was sent is wrong: a list of (path, detail)
│   └── InvalidConfig         a product config is wrong
├── InvalidTransitionError    the machine was asked for a transition that its table does not have
├── UnknownProduct            no such product
├── NotFound                  no such session, decision, tour …
├── WrongSecret               a webhook secret is set and the request's does not match
├── NotCarriedOut             a system that had to be called did not do what it was asked
├── Unreadable                the ledger holds an event type or version this code cannot read
└── Unavailable               the database cannot be reached, is full or is locked; try again
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class NudgeledgerError(Exception):
    """Base of every error that nudgeledger raises on purpose."""


class Fault(NamedTuple):
    """One thing wrong with an input."""

    path: str  # where, as `events[3].data.title`; empty for the whole input
    detail: str  # what is wrong, and what would be right


class InvalidInput(NudgeledgerError):
    """The input is wrong at one or more places; nothing of it was stored."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{f.path or '(input)'}: {f.detail}" for f in self.faults))


class InvalidConfig(InvalidInput):
    """A product config is wrong at one or more places; the config in force is unchanged."""


class InvalidTransitionError(NudgeledgerError):
    """The session machine has no such transition from the state it is in."""


class UnknownProduct(NudgeledgerError):
    """No product of that name."""


class NotFound(NudgeledgerError):
    """No such thing; the message names it."""


class WrongSecret(NudgeledgerError):
    """The secret that came with the request is not the product's."""


class NotCarriedOut(NudgeledgerError):
    """A system that had to be called did not do what it was asked; the message says why, if anybody knows."""


class Unreadable(NudgeledgerError):
    """The ledger holds events that this version of the code cannot read; the message names them."""


class Unavailable(NudgeledgerError):
    """The database cannot take the write now; nothing was stored, the same request may be sent again."""


def where(error: Exception) -> str:
    """What was raised and where; not its message, which may quote what people wrote."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = type(error).__name__
    return name if trace is None else f"{name} in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}"
