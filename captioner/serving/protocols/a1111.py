"""The interrogation of AUTOMATIC1111's web UI."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from captioner.serving.answers import Json
from captioner.serving.service import Service
from captioner.serving.tasks import said


class InterrogateRequest(BaseModel):
    """A request to describe an image; the name of the model is ignored."""

    model_config = ConfigDict(extra="ignore")

    image: str
    model: str | None = "clip"


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111"])

    @routes.post("/interrogate", summary="A1111: caption an image")
    async def interrogate(request: Request, asked: InterrogateRequest) -> Json:
        (record,) = await service.best(request, await service.photos(request, [asked.image]))
        return Json({"caption": said(record)})

    return routes
