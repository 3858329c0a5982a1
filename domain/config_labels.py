"""What a product adds to how its users' actions are named: `labels` of a config."""

from __future__ import annotations

from dataclasses import dataclass

from domain.config_fields import Row


@dataclass(frozen=True, slots=True)
class Labels:
    """Rules of the labelling step, in the order in which they are asked."""


def read(top: Row) -> Labels:
    if top.has("labels"):
        top.row("labels", None)
    return Labels()
