"""Hugging Face's image-to-text task: the bytes of an image, or base64 in JSON."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from captioner.serving.answers import Json
from captioner.serving.body import content_type
from captioner.serving.refusals import Refusal
from captioner.serving.service import Service
from captioner.serving.tasks import Photo, Unread, said

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {"inputs": {"type": "string"}, "parameters": {"type": "object"}},
                }
            },
        },
    }
}


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["Hugging Face"])

    @routes.post("/models/{name:path}", openapi_extra=_BODY, summary="Hugging Face: caption an image")
    async def caption(request: Request, name: str) -> Json:
        body = await request.body()
        photos: list[Photo | Unread] = [Photo(name="image 1", data=body)]
        if content_type(request) == "application/json":
            photos = await service.photos(request, [_inputs(body)])
        (record,) = await service.best(request, photos)
        return Json([{"generated_text": said(record)}])

    return routes


def _inputs(body: bytes) -> str:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    inputs = values.get("inputs") if isinstance(values, dict) else None
    if not isinstance(inputs, str):
        raise Refusal("request", "the body is neither an image nor JSON with its base64 in inputs")
    return inputs
