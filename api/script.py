"""The script in the page, made small once at start: comments and spaces out, compressed where asked."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import rjsmin
from starlette.requests import Request
from starlette.responses import Response


class Script:
    def __init__(self, path: Path) -> None:
        self._plain: bytes = rjsmin.jsmin(path.read_bytes())
        self._zipped = gzip.compress(self._plain, 9, mtime=0)
        self._etag = f'"{hashlib.sha256(self._plain).hexdigest()[:16]}"'

    def answer(self, request: Request) -> Response:
        """The script; browsers ask each time whether it changed, which costs them a 304."""
        headers = {"etag": self._etag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == self._etag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            return Response(self._zipped, headers=headers, media_type="text/javascript")
        return Response(self._plain, headers=headers, media_type="text/javascript")
