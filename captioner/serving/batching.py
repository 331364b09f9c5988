"""The queue: photos of all requests, captioned together in batches of equal tasks.

Everything here runs in the event loop's thread, except the calls of the model, which run in threads beside it: one, or
as many as the model has copies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from captioner.errors import CaptionerError
from captioner.serving.metrics import Metrics
from captioner.serving.refusals import Refusal
from captioner.serving.settings import Limits
from captioner.serving.tasks import About, Died, Photo, Record, Runner, Task, Unavailable

_WIDEST = 8  # captions per photo of the search that still leave a batch its full size
_TRIES = 2  # runs of a photo whose runs end the model
T = TypeVar("T")
_log = logging.getLogger("captioner.serving")


@dataclass(eq=False, kw_only=True)
class _Waiting:
    """A photo in the queue."""

    task: Task
    photo: Photo
    answer: asyncio.Future[Record]
    since: float = field(default_factory=time.monotonic)
    tries: int = 0  # runs that ended the model; after one the photo runs alone


class Batches:
    """The queue and the loop that empties it."""

    def __init__(self, runner: Runner, limits: Limits, metrics: Metrics, *, idle: float = 0.0) -> None:
        self.runner, self.limits, self.metrics = runner, limits, metrics
        self.about: About | None = None  # None until the model has answered
        self.loaded = False
        self.failing = False  # the model ended, and its replacement has not answered yet
        self._idle = idle * 60
        self._queue: deque[_Waiting] = deque()
        self._running: dict[asyncio.Task[None], list[_Waiting]] = {}
        self._arrived = asyncio.Event()
        self._threads = ThreadPoolExecutor(runner.most, thread_name_prefix="captioner-model")
        self._closed = False
        self._rate = 10.0  # photos per second
        self._loop_task: asyncio.Task[None] | None = None
        self._deaths = 0  # in a row

    async def start(self) -> None:
        """Load the model and begin. Raises ``CaptionerError`` for a model that cannot be loaded."""
        about = await self._in_thread(self.runner.start)
        self.about, self.loaded = about, True
        self.metrics.loaded(True)
        self._loop_task = asyncio.create_task(self._run())

    async def ask(self, task: Task, photos: Sequence[Photo], *, patience: float | None = None) -> list[Record]:
        """Return the records of the photos, in order.

        A caller that is cancelled frees its places. Raises ``Refusal`` if the queue is full, after ``patience``
        seconds (the time limit), and for a task that the model cannot do.
        """
        if self._closed:
            raise Refusal("busy", "the server is stopping; try again later", retry_after=5)
        self._forget()
        if len(self._queue) + len(photos) > self.limits.queue:
            wait = min(60, max(1, math.ceil(len(self._queue) / self._rate / max(1, len(self._running)))))
            message = f"server busy, please try again in {wait} s: {len(self._queue)} photos are waiting"
            raise Refusal("busy", message, retry_after=wait)
        patience = self.limits.timeout if patience is None else patience
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(task=task, photo=photo, answer=loop.create_future()) for photo in photos]
        self._queue.extend(waiting)
        self._arrived.set()
        self.metrics.waiting(len(self._queue))
        try:
            answers = [each.answer for each in waiting]
            _, late = await asyncio.wait(answers, timeout=patience, return_when=asyncio.FIRST_EXCEPTION)
            failed = [answer for answer in answers if answer.done() and answer.exception() is not None]
            if late and not failed:
                limit = f"{self.limits.timeout:g} s"
                raise Refusal("late", f"no answer within {limit}; send fewer photos, or try again later")
            return [answer.result() for answer in [*failed, *answers]]
        finally:
            for each in waiting:
                if not each.answer.cancel() and not each.answer.cancelled():
                    each.answer.exception()  # asyncio logs one that nobody looked at
            self._forget()

    async def close(self) -> None:
        """Refuse what is not answered yet, and end the model."""
        self.refuse()
        for task in (self._loop_task, *self._running):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self.runner.end()
        with contextlib.suppress(Died):
            await self._in_thread(self.runner.stop)
        self._threads.shutdown(wait=False)

    def refuse(self) -> None:
        """Refuse all requests, those that wait and those to come."""
        self._closed = True
        for each in [*self._queue, *chain.from_iterable(self._running.values())]:
            if not each.answer.done():
                each.answer.set_exception(Refusal("busy", "the server is stopping; try again later", retry_after=5))
        self._queue.clear()

    async def _run(self) -> None:
        """Give batches to the model as long as it has a place for one."""
        while True:
            try:
                while len(self._running) >= max(1, self.runner.places):
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                batch = await self._next()
            except Exception:
                _log.exception("the queue continues after an error")
                continue
            task = asyncio.create_task(self._answer(batch))
            self._running[task] = batch
            task.add_done_callback(self._running.pop)

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Caption a batch; every photo of it gets an answer, or returns to the queue."""
        try:
            await self._caption(batch)
        except asyncio.CancelledError:
            raise
        except CaptionerError as error:
            _fail(batch, Refusal("request", str(error)))
        except BaseException:
            _log.exception("the model failed; its requests get status 500")
            _fail(batch, Refusal("model", "the model failed; the server's log has the reason"))

    async def _next(self) -> list[_Waiting]:
        """Wait for photos, and return those of the oldest one's task."""
        while True:
            self._forget()
            self._arrived.clear()
            if not self._queue:
                await self._rest()
                continue
            oldest = self._queue[0]
            group = self._group(oldest)
            left = oldest.since + self.limits.wait - time.monotonic()
            if len(group) >= self._most(oldest) or left <= 0:
                taken = set(map(id, group))
                self._queue = deque(each for each in self._queue if id(each) not in taken)
                self.metrics.waiting(len(self._queue))
                return group
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _group(self, oldest: _Waiting) -> list[_Waiting]:
        if oldest.tries:
            return [oldest]
        alike = (each for each in self._queue if each.task == oldest.task and not each.tries)
        return [each for each, _ in zip(alike, range(self._most(oldest)), strict=False)]

    def _most(self, oldest: _Waiting) -> int:
        if oldest.tries:
            return 1
        return max(1, self.limits.batch * _WIDEST // max(_WIDEST, oldest.task.width))

    async def _rest(self) -> None:
        """Wait for a photo; after the idle time remove the model from memory."""
        idle = self._idle if self._idle and self.loaded and not self._running else None
        try:
            await asyncio.wait_for(self._arrived.wait(), idle)
        except asyncio.TimeoutError:
            await self._in_thread(self.runner.stop)
            self.loaded = False
            self.metrics.loaded(False)

    async def _caption(self, batch: Sequence[_Waiting]) -> None:
        start = time.monotonic()
        for each in batch:
            self.metrics.stage("queue", start - each.since)
        photos = [each.photo for each in batch]
        try:
            reply = await self._in_thread(self.runner.run, batch[0].task, photos, self.limits.timeout / 2)
        except Died as death:
            await self._again(batch, death)
            return
        self._deaths, self.loaded, self.failing = 0, True, False
        self.metrics.loaded(True)
        self._rate = 0.8 * self._rate + 0.2 * len(batch) / max(1e-3, time.monotonic() - start)
        self.metrics.batch(reply)
        for each, record in zip(batch, reply.records, strict=True):
            if not each.answer.done():
                each.answer.set_result(record)

    async def _again(self, batch: Sequence[_Waiting], death: Died) -> None:
        """Put the photos of a batch that ended the model first in the queue, to run alone, but only once.

        If the model could not be loaded, the photos wait for a model that can, as long as their requests do.
        """
        self._deaths += 1
        if len(self._running) <= 1:  # no other copy of the model is at work
            self.loaded, self.failing = False, True
        self.metrics.died()
        _log.warning("%s; it is replaced", death)
        for each in reversed(batch):
            each.tries += not isinstance(death, Unavailable)
            if each.tries < _TRIES:
                self._queue.appendleft(each)
            elif not each.answer.done():
                reason = f"cannot read {each.photo.name}: the model ended {_TRIES} times at it; it may be damaged"
                each.answer.set_result({"error": reason})
        self._arrived.set()
        await asyncio.sleep(min(10.0, 0.05 * 2**self._deaths))

    def _forget(self) -> None:
        """Remove photos without a reader."""
        if any(each.answer.done() for each in self._queue):
            self._queue = deque(each for each in self._queue if not each.answer.done())
        self.metrics.waiting(len(self._queue))

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def _fail(batch: Sequence[_Waiting], refusal: Refusal) -> None:
    for each in batch:
        if not each.answer.done():
            each.answer.set_exception(refusal)
