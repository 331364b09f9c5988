"""Ollama's protocol: generate, chat, and the calls with which clients look for a model that sees.

As in Ollama, answers are streams of JSON lines unless ``stream`` is false. Prompts are ignored, and so are options that
are not of this package.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from captioner.config import generation_options
from captioner.serving.answers import Json
from captioner.serving.protocols.openai import text_of, words_in
from captioner.serving.protocols.openai_events import pieces
from captioner.serving.refusals import Refusal
from captioner.serving.service import Service

VERSION = "0.12.0"
"""The version of Ollama whose calls these are; clients ask for it."""
_BOTH = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "seed",
)  # settings that clients send without being asked


class GenerateRequest(BaseModel):
    """A request to generate; fields that are not here are ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    images: list[str] | None = None
    prompt: str | None = ""
    stream: bool | None = True
    options: dict[str, Any] | None = None


class ChatRequest(BaseModel):
    """A chat; fields that are not here are ignored."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    messages: list[dict[str, Any]] = []
    stream: bool | None = True
    options: dict[str, Any] | None = None


class ShowRequest(BaseModel):
    """A request to describe the model."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    name: str = ""


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/api", tags=["Ollama"])
    name = service.settings.name
    details = {
        "parent_model": "",
        "format": "safetensors",
        "family": "captioner",
        "families": ["captioner"],
        "parameter_size": "",
        "quantization_level": service.settings.precision,
    }
    card = {
        "name": f"{name}:latest",
        "model": f"{name}:latest",
        "modified_at": _now(),
        "size": 0,
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "details": details,
    }

    async def caption(request: Request, images: list[str], options: dict[str, Any] | None) -> tuple[str, int]:
        photos = await service.photos(request, images)
        known = {key: value for key, value in (options or {}).items() if key in generation_options()}
        for key in _BOTH:
            known.pop(key, None)
        records = await service.best(request, photos, options=known)
        return text_of(records, 0), words_in(records, 0)

    @routes.post("/generate", summary="Ollama: caption images")
    async def generate(request: Request, asked: GenerateRequest) -> Response:
        begin, model = time.perf_counter_ns(), asked.model or name
        if not asked.images:
            if asked.prompt:
                raise Refusal("request", "this model only describes images; send images in base64")
            return Json({**_head(model), "response": "", "done": True, "done_reason": "load"})
        said = await caption(request, asked.images, asked.options)
        return _answer(model, said, asked.stream, lambda part: {"response": part}, begin)

    @routes.post("/chat", summary="Ollama: caption the images of a chat")
    async def chat(request: Request, asked: ChatRequest) -> Response:
        begin, model = time.perf_counter_ns(), asked.model or name
        images = [message["images"] for message in asked.messages if message.get("images")]
        if not asked.messages:
            message = {"role": "assistant", "content": ""}
            return Json({**_head(model), "message": message, "done": True, "done_reason": "load"})
        if not images:
            raise Refusal("request", "no message holds images; send them in base64")
        if not isinstance(images[-1], list) or not all(isinstance(image, str) for image in images[-1]):
            raise Refusal("request", "images is not a list of texts in base64")
        said = await caption(request, images[-1], asked.options)
        return _answer(
            model, said, asked.stream, lambda part: {"message": {"role": "assistant", "content": part}}, begin
        )

    @routes.get("/tags", summary="Ollama: the model")
    async def tags() -> Json:
        return Json({"models": [card]})

    @routes.get("/ps", summary="Ollama: the model, if it is in memory")
    async def running() -> Json:
        loaded = service.batches.loaded
        return Json({"models": [{**card, "expires_at": _now(), "size_vram": 0}] if loaded else []})

    @routes.get("/version", summary="Ollama: its version")
    async def version() -> Json:
        return Json({"version": VERSION})

    @routes.post("/show", summary="Ollama: the model's abilities")
    async def show(asked: ShowRequest) -> Json:
        info = {"general.architecture": "captioner", "general.basename": name}
        return Json(
            {
                "modelfile": "",
                "parameters": "",
                "template": "",
                "details": details,
                "model_info": info,
                "capabilities": ["completion", "vision"],
                "modified_at": card["modified_at"],
            }
        )

    return routes


def _answer(
    model: str, said: tuple[str, int], stream: bool | None, part: Callable[[str], dict[str, Any]], begin: int
) -> Response:
    """Return the answer with a text and the number of its words."""
    text, words = said
    took = time.perf_counter_ns() - begin
    end = {
        "done": True,
        "done_reason": "stop",
        "total_duration": took,
        "load_duration": 0,
        "prompt_eval_count": 0,
        "prompt_eval_duration": 0,
        "eval_count": words,
        "eval_duration": took,
    }
    head = _head(model)
    if stream is False:
        return Json({**head, **part(text), **end})

    def lines() -> Iterator[str]:
        for piece in pieces(text):
            yield json.dumps({**head, **part(piece), "done": False}) + "\n"
        yield json.dumps({**head, **part(""), **end}) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def _head(model: str) -> dict[str, Any]:
    return {"model": model, "created_at": _now()}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
