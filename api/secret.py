"""Secrets by reference: `env:NAME` is the environment variable NAME of this process."""

from __future__ import annotations

import os

from domain.errors import Unavailable


def of(reference: str | None) -> str | None:
    """The secret's value; None where the config names none. Raises Unavailable where it is not set."""
    if reference is None:
        return None
    name = reference.removeprefix("env:")
    value = os.environ.get(name)
    if not value:
        raise Unavailable(
            f"the config names the secret {reference}, and {name} is not set in the environment"
        )
    return value
