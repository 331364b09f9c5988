"""PhotoPrism's native vision service: captions, and labels of a model that has them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from captioner.serving.answers import Json
from captioner.serving.refusals import Refusal
from captioner.serving.service import Service
from captioner.serving.tasks import Record


class VisionRequest(BaseModel):
    """A request of PhotoPrism; its other fields are for models with prompts."""

    model_config = ConfigDict(extra="ignore")

    id: str = ""
    images: list[str] | None = None  # data URLs
    url: str | None = None


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api/v1/vision", tags=["PhotoPrism"])

    async def first(request: Request, asked: VisionRequest) -> Record:
        request.state.id = asked.id
        texts = asked.images or ([asked.url] if asked.url else [])
        photos = await service.photos(request, texts[:1])
        return (await service.best(request, photos))[0]

    def answer(asked: VisionRequest, result: dict[str, Any]) -> Json:
        model = {"type": next(iter(result)), "name": service.settings.name, "version": "latest"}
        return Json({"id": asked.id, "model": model, "result": result})

    async def caption(request: Request, asked: VisionRequest) -> Json:
        record = await first(request, asked)
        result = {"text": record["caption"], "source": "image", "confidence": record["confidence"]}
        return answer(asked, {"caption": result})

    async def labels(request: Request, asked: VisionRequest) -> Json:
        if not service.about.labels:
            request.state.id = asked.id
            raise Refusal("request", "this model names no labels; use it for captions only")
        record = await first(request, asked)
        found = [
            {
                "name": name,
                "source": "image",
                "priority": 0,
                "confidence": probability,
                "topicality": probability,
                "categories": [],
            }
            for name, probability in record.get("labels", [])
        ]
        return answer(asked, {"labels": found})

    for name, route in {"caption": caption, "labels": labels}.items():
        summary = f"PhotoPrism: {name} of the first image"
        routes.post(f"/{name}", summary=summary)(route)
        routes.post(f"/{name}/{{model}}", include_in_schema=False)(route)
        routes.post(f"/{name}/{{model}}/{{version}}", include_in_schema=False)(route)
    return routes
