"""The one place that wires: settings, ledger, service, routes."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from starlette.responses import FileResponse, RedirectResponse, Response

from api import cors, metrics, problems, script
from api.prefix import ProductPrefix
from api.routes import (
    backtests,
    capture,
    chat,
    console,
    feed,
    ingest,
    inkeep,
    segment,
    streams,
    timeline,
    tours,
    v1,
    vendors,
    webhooks,
    why,
)
from api.service import Service
from api.settings import Settings
from eventstore.engine import open_ledger
from migrations import run as migrations

HERE = Path(__file__).parent


def build(settings: Settings, *, demo: bool = False) -> FastAPI:
    """The application. It opens the ledger when it starts and lets it go when it stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ledger = open_ledger(settings.database_url)
        try:
            if ledger.dialect == "sqlite":
                await migrations.upgrade(ledger)
            service = app.state.service = Service(ledger, settings)
            await service.start()
            if demo:
                from api import demo as demo_product

                await demo_product.load(service)
            # What lives from start to stop need not be looked at again and again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 100)
            try:
                yield
            finally:
                await service.stop()
        finally:
            await ledger.close()

    app = FastAPIOffline(  # its documentation page loads nothing from elsewhere
        redoc_url=None,
        title="nudgeledger",
        version=metadata.version("nudgeledger"),
        description="Decides when a product copilot should reach out to a user, and can always say why.",
        lifespan=lifespan,
        responses=problems.OPENAPI,
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=cors.EXPOSED,
        max_age=86400,
    )
    app.add_middleware(cors.Credentialed)
    app.add_middleware(ProductPrefix)
    problems.install(app)
    around = (webhooks, capture, segment, ingest, feed, chat, inkeep, vendors)
    for module in (v1, why, timeline, backtests, console, streams, tours, *around):
        app.include_router(module.router)
    app.include_router(timeline.products)
    metrics.install(app)
    _operations(app)
    _pages(app, demo)
    return app


def _operations(app: FastAPI) -> None:
    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    async def readyz(request: Request) -> dict[str, str]:
        """The ledger answers."""
        await request.app.state.service.ready()
        return {"status": "ok"}


def _pages(app: FastAPI, demo: bool) -> None:
    small = script.Script(HERE / "static" / "nudgeledger.js")

    adapters = {path.stem: script.Script(path) for path in (HERE / "static" / "adapters").glob("*.js")}

    @app.get("/nudgeledger.js", include_in_schema=False)
    async def page_script(request: Request) -> Response:
        return small.answer(request)

    @app.get("/adapters/{name}.js", include_in_schema=False)
    async def adapter(name: str, request: Request) -> Response:
        if name not in adapters:
            raise problems.BadRequest(f"no such adapter; there are {', '.join(sorted(adapters))}", status=404)
        return adapters[name].answer(request)

    if not demo:
        return

    @app.get("/demo", include_in_schema=False)
    async def demo_start() -> Response:
        return RedirectResponse("/demo/projects")

    @app.get("/demo/projects", include_in_schema=False)
    @app.get("/demo/report", include_in_schema=False)
    async def demo_page() -> Response:
        return FileResponse(HERE / "demo" / "index.html", headers={"cache-control": "no-store"})

    @app.get("/demo/{name}", include_in_schema=False)
    async def demo_file(name: str) -> Response:
        if name not in ("demo.css", "demo.js"):
            raise problems.BadRequest("no such file of the demo", status=404)
        return FileResponse(HERE / "demo" / name, headers={"cache-control": "no-store"})
