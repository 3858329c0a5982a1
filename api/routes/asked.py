"""What calls of published front ends have in common: ids in a JSON body, and perhaps the product."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from api import deps
from api.ingest.fields import MAX_ID
from api.problems import BadRequest
from api.routes.products import resolve
from api.service import Service

TEXT: dict[str, Any] = {"type": "string"}


def body_of(*required: str, **optional: Any) -> dict[str, Any]:
    """The body of a call, for the documentation."""
    properties = {**dict.fromkeys(required, TEXT), "product_id": TEXT, **optional}
    schema = {"type": "object", "required": list(required), "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def product_and_body(request: Request, service: Service) -> tuple[str, dict[str, Any]]:
    """The product that the body names, else the one that the request means; and the body."""
    body = await deps.json_object(request)
    named = body.get("product_id")
    if isinstance(named, str) and named:
        await service.product(named)
        return named, body
    return await resolve(request, service), body


def text(body: dict[str, Any], name: str) -> str:
    """A required id. Raises BadRequest."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name} is required and must be text", name)
    return identifier(value, name)


def optional(body: dict[str, Any], name: str) -> str | None:
    return text(body, name) if body.get(name) not in (None, "") else None


def identifier(value: str, name: str) -> str:
    """An id of a path, a query or a body. Raises BadRequest."""
    if not 0 < len(value) <= MAX_ID or not value.isprintable():
        raise BadRequest(f"{name} is 1 to {MAX_ID} characters without control characters", name)
    return value
