"""A realistic mix of traffic, the same for the same size: sessions of some two hundred events."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from tests.benchmarks.load import PAGES, TITLES

Event = dict[str, Any]

START = 1_779_188_839  # seconds: where the traffic's clock begins
SIZE = 200  # events of a session
ABREAST = 50  # sessions at the same time
PAUSE = 6  # seconds between a session's batches: long enough for timeouts and cooldowns


def batches(events: int) -> Iterator[tuple[int, list[Event]]]:
    """(second, the events of one request of one session), in time, until there are so many events.

    Of two hundred events some 190 are actions; the others chat, take a tour and click options.
    """
    left = events
    for wave in count():
        for step in range(SIZE // 10):
            for index in range(ABREAST):
                if left <= 0:
                    return
                size = min(10, left)
                left -= size
                number = wave * ABREAST + index
                instant = START + (wave * SIZE // 10 + step) * PAUSE
                yield instant, [_event(number, step * 10 + i, instant) for i in range(size)]


def _event(session: int, number: int, instant: int) -> Event:
    kind, data = _content(session, number)
    return {
        "event_id": f"{instant:010d}-{session:08d}-{number:06d}",
        "type": kind,
        "session_id": f"s{session}",
        "user_id": f"u{session % 5_000}",
        "occurred_at": f"{instant}.{number % 10}00000",
        "data": data,
    }


def _content(session: int, number: int) -> tuple[str, dict[str, Any]]:
    match (session + number) % 100:
        case 17:
            return "chat_message", {"role": "user", "text": "How do I change them all?"}
        case 18:
            return "chat_message", {"role": "assistant", "text": "Open the menu above the table."}
        case 52:
            return "tour_started", {"tour_id": "tour-1"}
        case 55:
            return "tour_step", {"tour_id": "tour-1", "step": 1}
        case 58:
            return "tour_ended", {"tour_id": "tour-1", "outcome": "completed"}
        case _:
            page = PAGES[(session + number // 20) % len(PAGES)]
            url = f"https://app.example.com/{page}"
            return "action", {"type": "click", "title": TITLES[number % len(TITLES)], "raw_url": url}
