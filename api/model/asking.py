"""Asks for a grounded answer."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from api.model import grounding, prompts
from api.model.grounding import Sources
from api.model.port import Counting, ModelFailed, Prompt
from domain.config_around import Model as Settings

TRIES = 2  # an answer that is not grounded is asked for once more


class Said(NamedTuple):
    """An answer, or what came of asking."""

    text: str | None  # None: no answer that may be used
    model: str | None = None  # that answered last
    version: str | None = None  # of the prompt
    tokens: int | None = None  # of all tries
    failure: str | None = None  # a reason of ModelFailed, or ungrounded


async def grounded(
    models: Counting, product: str, settings: Settings, asked: Prompt, sources: Sources
) -> Said:
    """The model's answer, if it names nothing that the sources do not; asked again with what was wrong."""
    tokens: int | None = None
    model: str | None = None
    prompt = asked
    for _ in range(TRIES):
        try:
            answer = await models.ask(product, settings, prompt)
        except ModelFailed as error:
            return Said(None, model, asked.version, tokens, error.reason)
        model = answer.model
        tokens = tokens if answer.tokens is None else (tokens or 0) + answer.tokens
        text = grounding.clean(answer.text)
        faults = await asyncio.to_thread(grounding.faults, text, sources)
        if not faults:
            return Said(text, model, asked.version, tokens)
        models.count(product, "ungrounded")
        prompt = prompts.again(asked, faults)
    return Said(None, model, asked.version, tokens, "ungrounded")
