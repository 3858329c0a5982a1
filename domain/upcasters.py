"""Old stored data, lifted one schema version at a time.

A step is a pure function from the data of (type, version) to the data of (type, version + 1). It gets the
clear and the personal fields in one dict; personal fields are missing where they were not unsealed or
were erased, so a step must do without them. A step stays here for as long as a ledger may hold its version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Data = dict[str, Any]
Step = Callable[[Data], Data]
Steps = Mapping[tuple[str, int], Step]

STEPS: Steps = {}  # no event type has a second version yet


def chain(event_type: str, version: int, current: int, steps: Steps = STEPS) -> tuple[Step, ...] | None:
    """The steps that lift `version` to `current`, in order; None where one of them is missing."""
    if version > current:
        return None
    found = [steps.get((event_type, v)) for v in range(version, current)]
    return tuple(step for step in found if step is not None) if None not in found else None
