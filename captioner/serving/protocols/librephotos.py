"""LibrePhotos' caption service, which names photos by path: only below the folder of --root."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from captioner.serving.answers import Json
from captioner.serving.service import Service
from captioner.serving.tasks import said


class CaptionRequest(BaseModel):
    """A request to describe the photo at a path."""

    model_config = ConfigDict(extra="ignore")

    image_path: str


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["LibrePhotos"])

    @routes.post("/generate-caption", status_code=201, summary="LibrePhotos: caption the photo at a path")
    async def caption(request: Request, asked: CaptionRequest) -> Json:
        (record,) = await service.best(request, await service.photos(request, paths=[asked.image_path]))
        return Json({"caption": said(record)}, 201)

    return routes
