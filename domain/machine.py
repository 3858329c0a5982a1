"""The session machine: three states, one table.

The table is the rulebook; it is driven with a bare cursor, because a `Machine` for every session costs ten
times as much. It has no conditions and no callbacks: a refusal must have a recorded reason, so gates decide
before the table is asked.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from transitions import Machine, MachineError

from domain.errors import InvalidTransitionError

THINKING: Final = "thinking"
PROACTIVE: Final = "proactive_assistance"
REACTIVE: Final = "reactive_assistance"
STATES: Final = (THINKING, PROACTIVE, REACTIVE)

OFFER: Final = "offer"
CHAT: Final = "chat"
TIME_OUT: Final = "time_out"
TRIGGERS: Final = (OFFER, CHAT, TIME_OUT)

TABLE: Final = (
    {"trigger": OFFER, "source": THINKING, "dest": PROACTIVE},
    {"trigger": CHAT, "source": THINKING, "dest": REACTIVE},
    {"trigger": TIME_OUT, "source": [PROACTIVE, REACTIVE], "dest": THINKING},
)


class _Cursor:
    """Where a session stands while the machine is asked; `transitions` writes `state`."""

    state: str


_cursor = _Cursor()
RULEBOOK: Final = Machine(
    model=None,
    states=list(STATES),
    transitions=[dict(row) for row in TABLE],
    initial=THINKING,
    auto_transitions=False,
)
RULEBOOK.add_model(_cursor, initial=THINKING)


@cache
def advance(state: str, trigger: str) -> str:
    """The state after `trigger`. Raises InvalidTransitionError where the table has no such row.

    The table is constant, so its nine answers are remembered: a fold asks it once a transition.
    """
    RULEBOOK.set_state(state, _cursor)
    try:
        _cursor.trigger(trigger)  # type: ignore[attr-defined]  # added by transitions
    except MachineError as error:
        raise InvalidTransitionError(f"no {trigger!r} from {state!r}: {error}") from None
    return _cursor.state


def mermaid() -> str:
    """The table as a Mermaid state diagram, for the README and the console."""
    rows = ["stateDiagram-v2", f"  [*] --> {THINKING}"]
    for row in TABLE:
        sources = row["source"] if isinstance(row["source"], list) else [row["source"]]
        rows += [f"  {source} --> {row['dest']}: {row['trigger']}" for source in sources]
    return "\n".join(rows)
