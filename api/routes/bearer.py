"""The secret of a request: of its Authorization header, or of the header that PostHog's destination has."""

from __future__ import annotations

from fastapi import Request


def given(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return request.headers.get("x-posthog-secret")
