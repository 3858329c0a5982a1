"""Which of what a product's config knows answers a question, if any does.

What is known is what `/knowledge-base` searches (`api.feed.knowledge`). That ranks; here a piece may be said
as the answer itself, so its score is a share of the question, which can be too little.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import NamedTuple

from api.feed.knowledge import Entry, entries
from api.model.words import COMMON
from domain.config import Config

ENOUGH = 0.25  # of a question's weight that a piece must hold to be said as an answer


class Piece(NamedTuple):
    title: str
    text: str
    score: float  # 0 to 1: which share of the question's words it holds, rare ones counting more


def choose(config: Config, query: str, most: int = 3) -> list[Piece]:
    """The few pieces that share most words with the question, best first; none that share nothing."""
    wanted = _words(query[:2_000])
    held = [(entry, _words(entry.text)) for entry in entries(config) if entry.steps]
    spread = Counter(word for _, words in held for word in words)
    weights = {word: math.log(1 + (1 + len(held)) / (1 + spread[word])) for word in sorted(wanted)}
    whole = sum(weights.values())
    scored = [
        Piece(
            entry.title,
            _text(entry),
            round(sum(weights[word] for word in sorted(wanted & words)) / whole, 4),
        )
        for entry, words in held
        if wanted & words
    ]
    return sorted(scored, key=lambda piece: -piece.score)[:most]


def _text(entry: Entry) -> str:
    if len(entry.steps) == 1:
        return entry.steps[0]
    return "\n".join(f"{number}. {step}" for number, step in enumerate(entry.steps, 1))


def _words(text: str) -> frozenset[str]:
    """The words that say something, plural and singular alike."""
    found = re.findall(r"\w+", text.casefold())
    return frozenset(w[:-1] if len(w) > 3 and w.endswith("s") else w for w in found if w not in COMMON)
