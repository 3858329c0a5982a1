"""Every channel that is called, by the name under which triggers list it."""

from __future__ import annotations

from collections.abc import Mapping

from api.delivery.port import Channel


def all_channels() -> Mapping[str, Channel]:
    return {}
