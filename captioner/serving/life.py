"""The life of a server: whether it lives, whether its model answers, its metrics, and the page of its paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from captioner.html.frame import Markup, document, table
from captioner.serving.answers import Json
from captioner.serving.service import Service

_METRICS = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def of(service: Service) -> AsyncIterator[None]:
    """Load the model in the background, and at the end close the service."""
    loading = asyncio.create_task(service.start())
    try:
        yield
    finally:
        loading.cancel()
        await service.batches.close()


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["state"])

    @routes.get("/", include_in_schema=False)
    async def index() -> PlainTextResponse:
        return PlainTextResponse("captioner is running; /docs lists its paths\n")

    @routes.get("/livez", summary="200 while the server runs")
    async def livez() -> Json:
        return Json({"status": "alive"})

    @routes.get("/readyz", summary="200 when the model answers, 503 before and while the server stops")
    async def readyz() -> Json:
        if service.stopping:
            return Json({"status": "stopping"}, 503, headers={"Retry-After": "5"})
        if service.batches.failing:
            return Json({"status": "replacing the model"}, 503, headers={"Retry-After": "5"})
        if service.batches.about is None:
            return Json({"status": "loading"}, 503, headers={"Retry-After": "5"})
        return Json({"status": "ready" if service.batches.loaded else "unloaded"})

    @routes.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type=_METRICS)

    @routes.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        rows = [
            (path, method.upper(), about.get("summary", ""))
            for path, methods in request.app.openapi()["paths"].items()
            for method, about in methods.items()
        ]
        note = Markup("<p>The schemas of bodies and answers are in <a href='/openapi.json'>openapi.json</a>.</p>")
        paths = table("Paths", ("path", "method", "use"), rows, columns="lll")
        return HTMLResponse(document("captioner: paths of this server", [paths, note]))

    for path, answer in (("/", index), ("/livez", livez), ("/readyz", readyz)):  # monitors ask for the head alone
        routes.head(path, include_in_schema=False)(answer)
    return routes
