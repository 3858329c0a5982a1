"""Backtests over the ledger, as jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api import deps
from api.deps import Ledgered
from api.problems import BadRequest
from api.routes.v1 import MOST, answer
from projections.backtesting.backtest_jobs import DecisionQuery
from projections.backtesting.results import SIDES

router = APIRouter(prefix="/v1/products/{product}", tags=["backtests"])

INSTANT = {"oneOf": [{"type": "string"}, {"type": "number"}]}
BACKTEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["from", "to"],
                    "properties": {
                        "config": {"type": "object"},
                        "config_text": {"type": "string", "description": "YAML or JSON, instead of `config`"},
                        "from": INSTANT,
                        "to": INSTANT,
                        "until_s": {"type": "number", "minimum": 0, "default": 0},
                    },
                }
            }
        },
    }
}


@router.post("/backtests", status_code=202, openapi_extra=BACKTEST_BODY)
async def post_backtest(product: str, request: Request, service: Ledgered) -> Response:
    """Simulate a config over a window, beside the one in force; 200 where that is done already."""
    job = await service.backtest(product, await deps.json_body(request))
    return answer(job, 200 if job["status"] == "done" else 202)


@router.get("/backtests")
async def get_backtests(product: str, service: Ledgered) -> Response:
    """The newest jobs, without their results."""
    await service.product(product)
    return answer(await service.backtests.newest(product))


@router.get("/backtests/{backtest_id}")
async def get_backtest(product: str, backtest_id: str, service: Ledgered) -> Response:
    """A job: how far it is, and what it came to."""
    return answer(await service.backtests.job(product, backtest_id))


@router.post("/backtests/{backtest_id}/cancel")
async def cancel_backtest(product: str, backtest_id: str, service: Ledgered) -> Response:
    """End a job that waits or runs."""
    return answer(await service.backtests.cancel(product, backtest_id))


@router.get("/backtests/{backtest_id}/decisions")
async def get_backtest_decisions(
    product: str,
    backtest_id: str,
    service: Ledgered,
    side: str | None = None,
    trigger_id: str | None = None,
    outcome: str | None = None,
    session_id: str | None = None,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Simulated decisions, the candidate's first, each by its number."""
    _one_of(side, "side", SIDES)
    _one_of(outcome, "outcome", ("offered", "withheld"))
    query = DecisionQuery(side, trigger_id, outcome, session_id, _after(after), limit)
    return answer(await service.backtests.decisions(product, backtest_id, query))


@router.get("/backtests/{backtest_id}/decisions/{side}/{n}")
async def get_backtest_decision(
    product: str, backtest_id: str, side: str, n: Annotated[int, Path(ge=1, le=MOST)], service: Ledgered
) -> Response:
    """One simulated decision with its explanation."""
    return answer(await service.backtests.decision(product, backtest_id, side, n))


def _one_of(value: str | None, name: str, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise BadRequest(f"is {' or '.join(known)}", name, 422)


def _after(value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    side, _, number = value.partition(":")
    if side not in SIDES or not (number.isascii() and number.isdigit()) or int(number) > MOST:
        raise BadRequest("is not the `next` of a page", "after", 422)
    return side, int(number)
