"""The console's files: one page for every address under `/console`, and what that page loads."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.problems import BadRequest

router = APIRouter(include_in_schema=False)

HERE = Path(__file__).parents[1] / "console"
INDEX = "index.html"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing from elsewhere, nothing inline, and no text that becomes markup: everything the console shows
# was sent by somebody.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


class File(NamedTuple):
    """One file, as it is sent."""

    plain: bytes
    zipped: bytes
    media_type: str
    etag: str


def _read(path: Path) -> File:
    plain = path.read_bytes()
    etag = f'"{hashlib.sha256(plain).hexdigest()[:16]}"'
    return File(plain, gzip.compress(plain, 9, mtime=0), TYPES[path.suffix], etag)


# Read once at start, so a name in an address never reaches the file system.
FILES = {path.name: _read(path) for path in sorted(HERE.iterdir()) if path.suffix in TYPES}


def answer(request: Request, name: str) -> Response:
    """A file; browsers ask each time whether it changed, which costs them a 304. Raises BadRequest (404)."""
    file = FILES.get(name)
    if file is None:
        raise BadRequest("no such file of the console", status=404)
    headers = {
        "cache-control": "no-cache",
        "content-security-policy": POLICY,
        "etag": file.etag,
        "referrer-policy": "no-referrer",
        "vary": "accept-encoding",
        "x-content-type-options": "nosniff",
    }
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    body = file.plain
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["content-encoding"] = file.zipped, "gzip"
    return Response(body, headers=headers, media_type=file.media_type)


@router.get("/console")
@router.get("/console/{page:path}")
async def page(request: Request) -> Response:
    """The one page; which of its views is meant, its script reads from the address."""
    return answer(request, INDEX)


@router.get("/console-files/{name}")
async def file(name: str, request: Request) -> Response:
    """A script, a style or the picture in the tab."""
    return answer(request, name)
