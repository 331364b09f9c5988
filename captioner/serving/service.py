"""The service that all protocols share: photos and wishes in, records out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from starlette.requests import Request

from captioner.config import GenerationConfig, from_dict, generation_options, with_options
from captioner.errors import CaptionerError, reason_of
from captioner.serving.batching import Batches
from captioner.serving.body import body_of
from captioner.serving.metrics import Metrics
from captioner.serving.photos import PhotoDoor
from captioner.serving.refusals import Refusal
from captioner.serving.settings import Settings
from captioner.serving.tasks import About, Died, Photo, Record, Runner, Task, Unread

_EXPLAINING = 64  # captions whose search takes as long as the attention maps of one
T = TypeVar("T")


class Service:
    """One model behind one queue, and the door for photos."""

    def __init__(self, settings: Settings, runner: Runner, metrics: Metrics | None = None) -> None:
        self.settings, self.metrics = settings, metrics or Metrics()
        self.batches = Batches(runner, settings.limits, self.metrics, idle=settings.idle)
        self.door = PhotoDoor(settings)
        self.stopping = False
        self.failure: str | None = None  # the reason why the model could not be loaded
        self.failed: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Load the model; if that fails, keep the reason and call ``failed``."""
        try:
            await self.batches.start()
        except (CaptionerError, Died, RuntimeError) as error:
            self.failure = str(error)
        except Exception as error:  # the system's, which may lack memory or processes
            self.failure = f"the model's process cannot be started ({reason_of(error)}); free memory, and try again"
        if self.failure is not None:
            self.failed()

    @property
    def about(self) -> About:
        """The facts about the model. Raises ``Refusal`` while it is loading."""
        if self.batches.about is None:
            raise Refusal("busy", "the model is loading; try again in 5 s", retry_after=5)
        return self.batches.about

    async def photos(
        self, request: Request, texts: Sequence[str] = (), paths: Sequence[str] = ()
    ) -> list[Photo | Unread]:
        """Return the photos that a request names by texts (base64, data URLs, addresses) and by paths.

        Raises ``Refusal`` for too many photos, and after the time limit.
        """
        body = body_of(request)

        async def enter() -> list[Photo | Unread]:
            found = await self.door.of_texts(texts, body) if texts else []
            return [*found, *(await self.door.of_paths(paths, body) if paths else [])]

        self.door.check_count(len(texts) + len(paths))
        try:
            return await unless_gone(request, asyncio.wait_for(enter(), body.left))
        except asyncio.TimeoutError:
            limit = f"{self.settings.limits.timeout:g} s"
            raise Refusal("late", f"the images did not arrive within {limit}; send fewer of them") from None

    async def caption(
        self,
        request: Request,
        photos: Sequence[Photo | Unread],
        options: Mapping[str, Any] | None = None,
        *,
        count: int = 1,
        vectors: Literal["embeddings", "features"] | None = None,
        score: Sequence[str] = (),
        explain: bool = False,
    ) -> list[Record]:
        """Return one record per photo: a caption with its details, or ``error``.

        Raises ``Refusal`` for options that are wrong or too costly, and for a request that cannot be answered.
        """
        options = {name: value for name, value in (options or {}).items() if value is not None}
        if unknown := options.keys() - generation_options().keys():
            raise Refusal("request", f"unknown generation option {min(map(str, unknown))[:80]!r}")
        options = self._with_own(options)
        self._check_texts(score)
        width = max(self._width(options, count), len(score), _EXPLAINING if explain else 0)
        task = Task.of(options, count=count, vectors=vectors, score=tuple(score), explain=explain, width=width)
        return await self._ask(request, task, photos)

    async def search(self, request: Request, query: str, photos: Sequence[Photo | Unread]) -> list[Record]:
        """Return one record per photo: its ``similarity`` to the query, or ``error``."""
        if not self.about.search:
            raise Refusal("request", "this model cannot search: it has neither a contrastive head nor labels")
        self._check_texts([query])
        return await self._ask(request, Task(query=query), photos)

    async def best(self, request: Request, photos: Sequence[Photo | Unread], **settings: Any) -> list[Record]:
        """Return the records like ``caption``. Raises ``Refusal`` for the first photo that cannot be read."""
        records = await self.caption(request, photos, **settings)
        for record in records:
            if "error" in record:
                raise Refusal("photo", record["error"])
        return records

    async def _ask(self, request: Request, task: Task, photos: Sequence[Photo | Unread]) -> list[Record]:
        self.door.check_count(len(photos))
        there = [photo for photo in photos if isinstance(photo, Photo)]
        records: list[Record] = []
        if there:
            records = await unless_gone(request, self.batches.ask(task, there, patience=body_of(request).left))
        found = iter(records)
        return [next(found) if isinstance(photo, Photo) else {"error": photo.error} for photo in photos]

    def _with_own(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return a request's options with those of the server that a request cannot lift."""
        own = self.settings.generation
        if own.get("neutral"):
            options["neutral"] = True
        asked = options.get("forbid")
        asked = [asked] if isinstance(asked, str) else asked
        if own.get("forbid") and isinstance(asked, list):  # another type is refused with the other options
            options["forbid"] = [*own["forbid"], *asked]
        return options

    def _width(self, options: Mapping[str, Any], count: int) -> int:
        """Return the captions per photo of a search with these options, of all its rounds. Raises ``Refusal``."""
        limits = self.settings.limits
        try:
            own = from_dict(GenerationConfig, self.about.generation)
            config = with_options(own, options)
            if count > config.candidates:
                config = with_options(own, {**options, "candidates": count})
        except CaptionerError as error:
            raise Refusal("request", str(error)) from None
        width = max(config.beams, config.candidates, count)
        most = max(limits.beams, own.beams, own.candidates)
        if width > most or config.refine > max(limits.beams, own.refine):
            words = "beams, candidates, count and refine"
            raise Refusal("request", f"this server allows {words} of at most {most}; lower them")
        # The server's own words are no client's doing, so they are not counted.
        rules, given = config.rules, {own.rules.prefix, *own.rules.require, *own.rules.forbid, *own.rules.bias}
        required = _new(rules.require, given)
        if len(required) > limits.required:
            raise Refusal("request", f"this server allows at most {limits.required} required words; leave some out")
        phrases = _new((*rules.forbid, *rules.bias), given)
        if len(phrases) > limits.phrases:
            raise Refusal("request", f"this server allows at most {limits.phrases} words to forbid and to favour")
        self._check_texts([*_new([rules.prefix], given), *required, *phrases])
        return width * (1 + config.refine)

    def _check_texts(self, texts: Sequence[str]) -> None:
        limits = self.settings.limits
        if len(texts) > limits.phrases + limits.required + 1:
            raise Refusal("request", f"this server reads at most {limits.phrases} texts per request; send fewer")
        for text in texts:
            if len(text) > limits.text:
                raise Refusal("request", f"a text has more than {limits.text} characters; shorten it")


def _new(phrases: Iterable[str], given: set[str]) -> list[str]:
    return [phrase for phrase in phrases if phrase not in given]


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of ``work``, or cancel it when the client closes the connection. Raises ``Refusal``."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Refusal("gone", "the client closed the connection")
    finally:
        for each in (task, gone):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await each


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
