"""The server's own protocol: all options of the command line, several photos, JSON, forms or bytes."""

from __future__ import annotations

import json
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from starlette.datastructures import UploadFile
from starlette.requests import Request

from captioner.config import generation_options
from captioner.data.messages import shown
from captioner.serving.answers import Json, sentence
from captioner.serving.body import content_type, is_form, is_image
from captioner.serving.refusals import Refusal
from captioner.serving.service import Service
from captioner.serving.tasks import Photo, Record, Unread

_FILES = ("image", "images", "file", "files")
_LONGEST_BIAS = 100_000  # characters of the field ``bias`` of a form: values in memory are far larger than their text


class Photos(BaseModel):
    """The photos of a request."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    images: list[str] = Field([], description="base64, data URLs, or http(s) URLs if the server allows them")
    image: str | None = Field(None, description="one such image")
    paths: list[str] = Field([], description="files below the folder of --root, if the server has one")
    model: str = Field("", description="ignored: a server has one model")


class Search(Photos):
    """A request to compare photos with a text."""

    query: str = Field(description="what the photos should show, in a few words")


class _Wishes(Photos):
    count: int = Field(1, ge=1, description="captions per photo, best first")
    details: bool = Field(False, description="add the probability of each word")
    labels: bool = Field(False, description="add the names of what the photo shows, from a model with labels")
    vectors: Literal["embeddings", "features"] | None = Field(None, description="add vectors")
    score: list[str] = Field([], description="add the log-probability of each of these captions")
    explain: bool = Field(False, description="add where the model looked for each word")


def _generation() -> dict[str, Any]:
    """Return the generation options as fields; the service checks their values."""
    fields: dict[str, Any] = {}
    for name, known in generation_options().items():
        kind = dict[str, float] if name == "bias" else list[str] if name in ("require", "forbid") else known.hint
        fields[name] = (kind | None, Field(None, description=known.option.help.replace("%%", "%")))
    return fields


Wishes: Any = create_model("Caption", __base__=_Wishes, **_generation())
_LISTS = ("images", "paths", "score", "require", "forbid")


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["captioner"])

    @routes.post("/caption", openapi_extra=_body(Wishes), summary="Caption photos")
    async def caption(request: Request) -> Json:
        wishes, photos = await _read(request, Wishes, service)
        options = {name: getattr(wishes, name) for name in generation_options()}
        if wishes.labels and not service.about.labels:
            raise Refusal("request", "this model names no labels; leave out labels")
        records = await service.caption(
            request,
            photos,
            options,
            count=wishes.count,
            vectors=wishes.vectors,
            score=wishes.score,
            explain=wishes.explain,
        )
        hidden = {name for name, wish in (("words", wishes.details), ("labels", wishes.labels)) if not wish}
        captions = [_without(record, hidden) for record in records]
        return _answer(service, {"captions": captions}, records)

    @routes.post("/search", openapi_extra=_body(Search), summary="Compare photos with a text, most similar first")
    async def search(request: Request) -> Json:
        wishes, photos = await _read(request, Search, service)
        records = await service.search(request, wishes.query, photos)
        found = [
            {"photo": place, "name": photo.name, **record}
            for place, (photo, record) in enumerate(zip(photos, records, strict=True))
        ]
        found.sort(key=lambda record: -record.get("similarity", float("-inf")))
        return _answer(service, {"found": found}, records)

    return routes


def _answer(service: Service, content: dict[str, Any], records: list[Record]) -> Json:
    """Return the records; the status is 400 if no photo could be read."""
    content = {"model": service.settings.name, **content}
    failed = [record["error"] for record in records if "error" in record]
    if len(failed) < len(records):
        return Json(content)
    service.metrics.error("photo")
    return Json({"error": failed[0], "kind": "photo", **content}, 400)


def _without(record: Record, names: set[str]) -> Record:
    kept = {name: value for name, value in record.items() if name not in names}
    if "alternatives" in kept:
        kept["alternatives"] = [_without(other, names) for other in kept["alternatives"]]
    return kept


async def _read(request: Request, model: Any, service: Service) -> tuple[Any, list[Photo | Unread]]:
    """Return the wishes and the photos of a request in any of the three forms. Raises ``Refusal``."""
    kind = content_type(request)
    sent: list[Photo] = []
    if is_form(kind):
        values, sent = await _form(request, service)
    elif is_image(kind):
        values = _flat(request.query_params.multi_items())
        sent = [Photo(name="image 1", data=await request.body())]
    else:
        values = await _json(request)
    try:
        wishes = model.model_validate(values)
    except ValidationError as error:
        raise Refusal("request", sentence(error.errors(include_context=False), model)) from None
    texts = [*([wishes.image] if wishes.image is not None else []), *wishes.images]
    service.door.check_count(len(sent) + len(texts) + len(wishes.paths))
    named = await service.photos(request, texts, wishes.paths) if texts or wishes.paths else []
    return wishes, [*sent, *named]


async def _json(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal("request", "the body is neither JSON, nor a form, nor an image with its Content-Type") from None
    if not isinstance(values, dict):
        raise Refusal("request", "the body is not a JSON object with fields such as images")
    return values


async def _form(request: Request, service: Service) -> tuple[dict[str, Any], list[Photo]]:
    limits = service.settings.limits
    async with request.form(max_files=limits.photos, max_fields=200, max_part_size=limits.body) as form:
        texts: list[tuple[str, str]] = []
        photos: list[Photo] = []
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name not in _FILES:
                    raise Refusal("request", f"a file in the field {shown(name[:80])!a}; name the field image")
                photos.append(Photo(name=shown((value.filename or "image")[:200]), data=await value.read()))
            else:
                texts.append((name, value))
    return _flat(texts), photos


def _flat(items: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the fields of a form or query. Lists are repeated fields, and ``bias`` is JSON."""
    values: dict[str, Any] = {}
    for name, value in items:
        if name in _LISTS:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    if isinstance(values.get("bias"), str):
        if len(values["bias"]) > _LONGEST_BIAS:
            raise Refusal("size", f"bias has more than {_LONGEST_BIAS:,} characters; send fewer words")
        try:
            values["bias"] = json.loads(values["bias"])
        except (ValueError, RecursionError):
            raise Refusal("request", 'bias is not a JSON object such as {"dog": 2}') from None
    return values


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a body in its three forms."""
    schema = model.model_json_schema()
    form = {**schema, "properties": {**schema["properties"]}}
    for name in ("image", "images"):
        form["properties"][name] = {"type": "array", "items": {"type": "string", "format": "binary"}}
    image = {"schema": {"type": "string", "format": "binary"}}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema},
                "multipart/form-data": {"schema": form},
                "image/jpeg": image,
                "image/png": image,
            },
        }
    }
