"""OpenAI's protocol: chat completions, responses and the list of models.

The images are those of the last message with any. A prompt is ignored, and so are temperature and other settings of a
language model, which clients send without being asked: the caption is that of the command line. ``captioner`` holds
options of this package.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from captioner.serving.answers import Json
from captioner.serving.protocols import openai_events
from captioner.serving.refusals import Refusal
from captioner.serving.service import Service
from captioner.serving.tasks import Record, said


class ChatRequest(BaseModel):
    """A chat completion; fields that are not here are ignored."""

    model_config = ConfigDict(extra="ignore")

    messages: list[dict[str, Any]]
    model: str = ""
    n: int | None = Field(None, ge=1)
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    captioner: dict[str, Any] = Field({}, description="generation options of captioner, such as beams")


class ResponseRequest(BaseModel):
    """A response; fields that are not here are ignored."""

    model_config = ConfigDict(extra="ignore")

    input: str | list[dict[str, Any]]
    model: str = ""
    stream: bool | None = False
    captioner: dict[str, Any] = Field({}, description="generation options of captioner, such as beams")


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI"])
    card = {"id": service.settings.name, "object": "model", "created": int(time.time()), "owned_by": "captioner"}

    async def captions(request: Request, messages: Any, options: dict[str, Any], count: int = 1) -> list[Record]:
        photos = await service.photos(request, images_of(messages))
        return await service.best(request, photos, options=options, count=count)

    @routes.get("/models", summary="OpenAI: the model")
    async def models() -> Json:
        return Json({"object": "list", "data": [card]})

    @routes.get("/models/{name:path}", summary="OpenAI: one model")
    async def model(name: str) -> Json:
        if name != service.settings.name:
            raise Refusal("path", f"the model of this server is {service.settings.name}")
        return Json(card)

    @routes.post("/chat/completions", summary="OpenAI: caption the images of a chat")
    async def chat(request: Request, asked: ChatRequest) -> Response:
        records = await captions(request, asked.messages, asked.captioner, asked.n or 1)
        texts = [text_of(records, choice) for choice in range(asked.n or 1)]
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": asked.model or service.settings.name,
        }
        usage = usage_of(records, asked.n or 1)
        if asked.stream:
            wanted = usage if (asked.stream_options or {}).get("include_usage") else None
            return _events(openai_events.of_chat(head, texts, wanted))
        choices = [
            {
                "index": place,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
            for place, text in enumerate(texts)
        ]
        return Json({**head, "object": "chat.completion", "choices": choices, "usage": usage})

    @routes.post("/responses", summary="OpenAI: caption the images of an input")
    async def responses(request: Request, asked: ResponseRequest) -> Response:
        records = await captions(request, asked.input, asked.captioner)
        text = text_of(records, 0)
        answer = openai_events.response(asked.model or service.settings.name, text, usage_of(records, 1))
        return _events(openai_events.of_response(answer, text)) if asked.stream else Json(answer)

    return routes


def images_of(messages: Any) -> list[str]:
    """Return the images of the last message with any; an input without messages is one message."""
    if not isinstance(messages, list):
        messages = []
    if messages and all(isinstance(each, dict) and "type" in each and "content" not in each for each in messages):
        messages = [{"content": messages}]
    for message in reversed(messages):
        found = list(_images(message.get("content")))
        if found:
            return found
    raise Refusal("request", "no message holds an image; send one as image_url, as a data URL or in base64")


def _images(content: Any) -> Iterator[str]:
    """Yield the images of a message's parts, in the forms of chat and of responses."""
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict) or part.get("type") not in ("image_url", "input_image", "image"):
            continue
        image = part.get("image_url", part.get("image"))
        address = image.get("url") if isinstance(image, dict) else image
        if not isinstance(address, str):
            raise Refusal("photo", "an image has no image_url; send a data URL")
        yield address


def text_of(records: list[Record], choice: int) -> str:
    """Return the answer: the caption, or for several images a numbered line each."""
    texts = [said(_choice(record, choice)) for record in records]
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"Image {number}: {text}" for number, text in enumerate(texts, 1))


def _choice(record: Record, choice: int) -> Record:
    """Return a caption of a photo, the last one if it has fewer."""
    found: list[Record] = [record, *record.get("alternatives", [])]
    return found[min(choice, len(found) - 1)]


def words_in(records: list[Record], choice: int) -> int:
    """Return the words of one caption of each photo; those of a language without spaces are its own pieces."""
    return sum(len(_choice(record, choice)["words"]) for record in records)


def usage_of(records: list[Record], choices: int) -> dict[str, int]:
    """Return the usage in words; a captioner reads no prompt."""
    words = sum(words_in(records, choice) for choice in range(choices))
    return {"prompt_tokens": 0, "completion_tokens": words, "total_tokens": words}


def _events(events: Iterator[dict[str, Any] | str]) -> StreamingResponse:
    """Return server-sent events; those of responses are named by their type."""

    def lines() -> Iterator[str]:
        for event in events:
            named = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
            yield f"{named}data: {event if isinstance(event, str) else json.dumps(event)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
