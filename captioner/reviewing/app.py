"""The application behind the page: photos and captions as JSON, changes, pictures, and questions to the model."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from captioner.data.decisions import STATES
from captioner.errors import CaptionerError, ImageError, UsageError
from captioner.folder.entry import Photo
from captioner.folder.lock import Held
from captioner.html.frame import asset
from captioner.reviewing.asking import Asked, Wish, captions_in
from captioner.reviewing.guard import Guard, TooLarge, TooSlow, answer, body_of, refusal
from captioner.reviewing.seen import Change, Conflict, Seen, lines_of
from captioner.reviewing.shelf import Shelf
from captioner.reviewing.thumbnails import Size, Thumbnails

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
SCRIPTS = ("main.js", "store.js", "grid.js", "single.js", "replace.js", "asking.js", "elements.js")
_TYPES = {"js": "text/javascript", "css": "text/css", "html": "text/html"}


def app_of(shelf: Shelf, asked: Asked, *, token: str) -> ASGIApp:
    """Return the application; every path begins with ``/TOKEN/``."""
    pages = _Pages(shelf, asked)
    routes = [
        Route("/", pages.page),
        Route("/{name}.{kind}", pages.file),
        Route("/api/photos", _guarded(pages.photos)),
        Route("/api/changes", _guarded(pages.change), methods=["POST"]),
        Route("/api/suggestions", _guarded(pages.suggest), methods=["POST"]),
        Route("/api/words", _guarded(pages.explain), methods=["POST"]),
        *(Route(f"/{size}/{{id}}", _guarded(partial(pages.picture, size))) for size in ("thumb", "photo")),
    ]
    return Guard(Starlette(routes=routes), token)


def record_of(seen: Seen) -> dict[str, object]:
    """Return a photo for the page."""
    confidence = seen.confidence
    return {
        "id": seen.id,
        "name": seen.photo.key,
        "captions": seen.texts,
        "state": seen.state,
        "confidence": None if confidence is None else round(confidence, 4),
        "doubtful": seen.doubtful,
        "version": seen.version,
        "problem": seen.problem,
    }


class _Pages:
    def __init__(self, shelf: Shelf, asked: Asked) -> None:
        self._shelf, self._asked, self._thumbnails = shelf, asked, Thumbnails()

    async def page(self, request: Request) -> Response:
        return answer(asset("review.html", "captioner.reviewing").encode(), "text/html")

    async def file(self, request: Request) -> Response:
        name = f"{request.path_params['name']}.{request.path_params['kind']}"
        if name == "page.css":
            return answer(asset("page.css").encode(), "text/css")
        if name != "review.css" and name not in SCRIPTS:
            return refusal(404, "there is no such file")
        return answer((files("captioner.reviewing") / name).read_bytes(), _TYPES[name.rpartition(".")[2]])

    async def photos(self, request: Request) -> Response:
        seen = await run_in_threadpool(self._shelf.all)
        outputs = ", ".join(self._shelf.sources.outputs)
        return _json(
            {
                "folder": self._shelf.place.root,
                "outputs": outputs,
                "model": self._asked.available,
                "notices": self._shelf.notices,
                "photos": [record_of(photo) for photo in seen],
            }
        )

    async def change(self, request: Request) -> Response:
        changes = _changes((await _values(request)).get("changes"))
        try:
            seen = await run_in_threadpool(self._shelf.save, changes)
        except Conflict as conflict:
            theirs = [record_of(photo) for photo in conflict.seen]
            return refusal(412, "somebody else changed this caption meanwhile; nothing was saved", photos=theirs)
        return _json({"photos": [record_of(photo) for photo in seen]})

    async def suggest(self, request: Request) -> Response:
        values = await _values(request)
        photo, wish = self._photo(values.get("id")), Wish.of(values)
        return _json({"suggestions": await run_in_threadpool(self._asked.suggest, photo, wish)})

    async def explain(self, request: Request) -> Response:
        values = await _values(request)
        photo, caption = self._photo(values.get("id")), " ".join(lines_of(captions_in(values)[:1]))
        return _json({"words": await run_in_threadpool(self._asked.explain, photo, caption)})

    async def picture(self, size: Size, request: Request) -> Response:
        photo = self._shelf.photo(request.path_params["id"])
        if photo is None:
            return refusal(404, "there is no such photo in this folder")
        data = await run_in_threadpool(self._thumbnails.of, photo, size)
        return answer(data, "image/jpeg", cache="private, max-age=600")

    def _photo(self, id: object) -> Photo:
        photo = self._shelf.photo(id) if isinstance(id, str) else None
        if photo is None:
            raise UsageError("there is no such photo in this folder; load the page again")
        return photo


def _guarded(handler: Handler) -> Handler:
    """Return a handler whose errors are JSON with one sentence."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except TooLarge:
            return refusal(413, "that is too much at once; send less")
        except TooSlow:
            return refusal(408, "the request did not arrive in time; try again")
        except ImageError as error:
            return refusal(422, str(error))
        except Held as error:
            return refusal(423, str(error))
        except UsageError as error:
            return refusal(400, str(error))
        except CaptionerError as error:
            return refusal(409, str(error))

    return handle


async def _values(request: Request) -> dict[str, Any]:
    try:
        values = json.loads(await body_of(request))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UsageError("send a JSON object")
    return values


def _changes(values: object) -> list[Change]:
    """Return the changes that the page sent. Raises ``UsageError`` for other values."""
    if not isinstance(values, list) or not values:
        raise UsageError("changes must be a list of changes")
    changes = []
    for value in values:
        if not isinstance(value, dict) or value.get("state") not in STATES:
            raise UsageError(f"each change needs a state: {', '.join(STATES[1:])}, or empty")
        id, version = value.get("id"), value.get("version")
        if not isinstance(id, str) or not isinstance(version, str):
            raise UsageError("each change needs the photo's id, and the version of its caption")
        changes.append(Change(id=id, version=version, captions=lines_of(captions_in(value)), state=value["state"]))
    return changes


def _json(values: object) -> Response:
    return answer(json.dumps(values).encode(), "application/json")
