"""The application: the routes of all protocols behind one check and one limit of bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from captioner.serving import life
from captioner.serving.answers import Errors, Json
from captioner.serving.body import Bodies
from captioner.serving.guard import Guard, Guarded
from captioner.serving.protocols import a1111, huggingface, librephotos, ollama, openai, own, photoprism
from captioner.serving.service import Service
from captioner.version import __version__

_SUMMARY = "Captions of photos, at the addresses of several protocols."


def application(service: Service) -> ASGIApp:
    """Return the ASGI application of a service. The caller starts the service and ends it."""
    settings = service.settings
    errors = Errors(service.metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with life.of(service):
            yield

    app = FastAPI(
        title="captioner",
        version=__version__,
        summary=_SUMMARY,
        default_response_class=Json,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers={
            HTTPException: errors.raised,
            RequestValidationError: errors.raised,
            Exception: errors.raised,
        },
    )
    for routes in (life, own, photoprism, openai, ollama, huggingface, a1111, librephotos):
        app.include_router(routes.router(service))
    app.openapi = partial(_openapi, app, app.openapi)  # type: ignore[method-assign]
    guarded: ASGIApp = Guarded(app, Guard(settings), errors.of_path)
    if settings.sites:
        guarded = CORSMiddleware(
            guarded, allow_origins=settings.sites, allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    return Bodies(guarded, settings.limits, service.metrics)


def _openapi(app: FastAPI, make: Any) -> dict[str, Any]:
    """Return the OpenAPI document, with the statuses that this server has instead of the framework's."""
    if app.openapi_schema is None:
        document = make()
        error = {"description": "An error in the protocol's own JSON", "content": {"application/json": {}}}
        for path in document["paths"].values():
            for method in path.values():
                method["responses"].pop("422", None)
                method["responses"].update({"4XX": error, "5XX": error})
        app.openapi_schema = document
    return app.openapi_schema
