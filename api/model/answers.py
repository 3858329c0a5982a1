"""Reads what an endpoint answered; hostile, like everything from outside."""

from __future__ import annotations

import re
from typing import Any

import orjson

from api.model import grounding
from api.model.port import Answer, ModelFailed, Prompt

CHARS_PER_TOKEN = 8  # an answer of more than that for each token allowed is none
_MAX_NAME = 100
_THOUGHTS = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)  # what some local models say first
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)


def read(content: bytes, name: str, prompt: Prompt) -> Answer:
    """The answer in a response's body; `name`: of the model that was asked. Raises ModelFailed, nonsense."""
    try:
        body = orjson.loads(content)
    except ValueError:
        raise ModelFailed("nonsense", "the body is no JSON") from None
    if not isinstance(body, dict):
        raise ModelFailed("nonsense", "the body is no object")
    text = _text(body)
    if len(text) > prompt.max_tokens * CHARS_PER_TOKEN:
        raise ModelFailed("nonsense", "the answer is too long")
    text = grounding.clean(_THOUGHTS.sub("", text, count=1) if text.lstrip().startswith("<think>") else text)
    if prompt.json:
        text = _object(text)
    if not text:
        raise ModelFailed("nonsense", "the answer is empty")
    model = body.get("model")
    named = grounding.clean(model)[:_MAX_NAME] if isinstance(model, str) else ""
    return Answer(text, named or name[:_MAX_NAME], _tokens(body))


def _text(body: dict[str, Any]) -> str:
    match body.get("choices"):
        case [{"finish_reason": "length"}, *_]:
            raise ModelFailed("nonsense", "the answer was cut off")
        case [{"message": {"content": str() as text}}, *_]:
            return text
        case _:
            raise ModelFailed("nonsense", "the body holds no answer")


def _object(text: str) -> str:
    fenced = _FENCED.match(text)
    text = fenced[1] if fenced is not None else text
    try:
        found = orjson.loads(text)
    except ValueError:
        raise ModelFailed("nonsense", "the answer is no JSON") from None
    if not isinstance(found, dict):
        raise ModelFailed("nonsense", "the answer is no JSON object")
    return text


def _tokens(body: dict[str, Any]) -> int | None:
    match body.get("usage"):
        case {"total_tokens": int() as total} if not isinstance(total, bool) and 0 <= total < 10_000_000:
            return total
        case _:
            return None
