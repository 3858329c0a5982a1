"""What a product's config knows, searched by words: how-tos of triggers, the playbook's rows, tours.

BM25 over case-folded words. The same config, question and number always give the same answer.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from domain.config import Config

MOST = 20  # results
LONGEST = 2_000  # characters of a question
_SATURATION, _LENGTH = 1.2, 0.75  # BM25's k1 and b, as commonly set
_WORD = re.compile(r"\w+")
_STEP = re.compile(r"(?:^|\s)\d{1,2}[.)]\s+|\s*\n\s*")


class Entry(NamedTuple):
    title: str
    steps: tuple[str, ...]
    text: str  # what is searched


class Result(NamedTuple):
    title: str
    steps: tuple[str, ...]
    score: float


def search(config: Config, query: str, most: int) -> list[Result]:
    """The entries that share words with the query, the best first; entries alike in the config's order."""
    listed = entries(config)
    counts = [Counter(_words(entry.text)) for entry in listed]
    lengths = [sum(count.values()) for count in counts]
    average = sum(lengths) / len(lengths) if lengths else 1.0
    found: list[Result] = []
    asked = sorted(set(_words(query)))
    holding = {word: sum(word in count for count in counts) for word in asked}
    for entry, count, length in zip(listed, counts, lengths, strict=True):
        score = 0.0
        for word in asked:
            times = count[word]
            if times:
                rare = math.log(1 + (len(listed) - holding[word] + 0.5) / (holding[word] + 0.5))
                long = 1 - _LENGTH + _LENGTH * length / average
                score += rare * times * (_SATURATION + 1) / (times + _SATURATION * long)
        if score > 0:
            found.append(Result(entry.title, entry.steps, round(score, 4)))
    found.sort(key=lambda result: -result.score)
    return found[:most]


def entries(config: Config) -> list[Entry]:
    """Everything that the config can tell a user, in its order. A tour is found by what it is called; one
    that a how-to offers is part of that."""
    found: list[Entry] = []
    told: set[str] = set()
    for trigger in config.triggers:
        if trigger.how_to:
            offered = [tour for tour in config.tours if tour.id in trigger.tours]
            told |= {tour.id for tour in offered}
            words = (trigger.name, trigger.body, trigger.how_to, *(tour.user_tour_name for tour in offered))
            found.append(Entry(trigger.name, steps(trigger.how_to), " ".join(words)))
    found += [
        Entry(row.section_id, steps(row.body), f"{row.section_id} {row.body}") for row in config.playbook
    ]
    for tour in config.tours:
        if tour.id not in told:
            words = (tour.user_tour_name, tour.id, tour.page_contains or "")
            found.append(Entry(tour.user_tour_name, (), " ".join(words)))
    return found


def steps(how_to: str) -> tuple[str, ...]:
    """A numbered text as its steps; without numbers, its lines."""
    return tuple(part for piece in _STEP.split(how_to) if (part := piece.strip()))


def _words(text: str) -> Sequence[str]:
    # Names hold dashes and underscores: `data-source_open` is three words.
    return _WORD.findall(text.casefold().replace("_", " "))
