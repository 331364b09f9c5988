"""The service that all protocols share: photos and wishes in, records out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, TypeVar

from starlette.requests import Request

from captioner.config import GenerationConfig, from_dict, with_options
from captioner.errors import CaptionerError
from captioner.serving.batching import Batches
from captioner.serving.metrics import Metrics
from captioner.serving.photos import PhotoDoor
from captioner.serving.refusals import Refusal
from captioner.serving.settings import Settings
from captioner.serving.tasks import About, Died, Photo, Record, Runner, Task

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
            self.failed()

    @property
    def about(self) -> About:
        """The facts about the model. Raises ``Refusal`` while it is loading."""
        if self.batches.about is None:
            raise Refusal("busy", "the model is loading; try again in 5 s", retry_after=5)
        return self.batches.about

    async def caption(
        self,
        request: Request,
        photos: Sequence[Photo],
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
        options = self._with_own({name: value for name, value in (options or {}).items() if value is not None})
        self._check_texts(score)
        width = max(self._width(options, count), len(score), _EXPLAINING if explain else 0)
        task = Task.of(options, count=count, vectors=vectors, score=tuple(score), explain=explain, width=width)
        return await self._ask(request, task, photos)

    async def search(self, request: Request, query: str, photos: Sequence[Photo]) -> list[Record]:
        """Return one record per photo: its ``similarity`` to the query, or ``error``."""
        if not self.about.search:
            raise Refusal("request", "this model cannot search: it has neither a contrastive head nor labels")
        self._check_texts([query])
        return await self._ask(request, Task(query=query), photos)

    async def best(self, request: Request, photos: Sequence[Photo], **settings: Any) -> list[Record]:
        """Return the records like ``caption``. Raises ``Refusal`` for the first photo that cannot be read."""
        records = await self.caption(request, photos, **settings)
        for record in records:
            if "error" in record:
                raise Refusal("photo", record["error"])
        return records

    async def _ask(self, request: Request, task: Task, photos: Sequence[Photo]) -> list[Record]:
        self.door.check_count(len(photos))
        return await unless_gone(request, self.batches.ask(task, photos))

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
            config = with_options(
                own, {**options, "candidates": options.get("candidates", count if count > 1 else None)}
            )
        except CaptionerError as error:
            raise Refusal("request", str(error)) from None
        width = max(config.beams, config.candidates, count)
        most = max(limits.beams, own.beams)
        if width > most or config.refine > limits.beams:
            words = "beams, candidates, count and refine"
            raise Refusal("request", f"this server allows {words} of at most {most}; lower them")
        rules = config.rules
        if len(rules.require) > limits.required:
            raise Refusal("request", f"this server allows at most {limits.required} required words; leave some out")
        forbidden = [phrase for phrase in rules.forbid if phrase not in own.rules.forbid]
        if len(forbidden) + len(rules.bias) > limits.phrases:
            raise Refusal("request", f"this server allows at most {limits.phrases} words to forbid and to favour")
        self._check_texts([rules.prefix, *rules.require, *forbidden, *rules.bias])
        return width * (1 + config.refine)

    def _check_texts(self, texts: Sequence[str]) -> None:
        limits = self.settings.limits
        if len(texts) > limits.phrases + limits.required + 1:
            raise Refusal("request", f"this server reads at most {limits.phrases} texts per request; send fewer")
        for text in texts:
            if len(text) > limits.text:
                raise Refusal("request", f"a text has more than {limits.text} characters; shorten it")


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
