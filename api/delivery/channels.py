"""Every channel that is called, by the name under which triggers list it."""

from __future__ import annotations

from collections.abc import Mapping

from api.delivery.calls import Calls
from api.delivery.intercom import Intercom
from api.delivery.parts import Parts
from api.delivery.port import Channel
from api.delivery.rasa import Rasa
from api.delivery.webhook import Webhook


def all_channels(calls: Calls, parts: Parts) -> Mapping[str, Channel]:
    """One line each; see `port` for what a channel must say and may leave to others."""
    channels: tuple[Channel, ...] = (
        Rasa(calls),
        Webhook(calls),
        Intercom(calls, parts),
    )
    return {channel.name: channel for channel in channels}
