"""A model that says the names of photos, and the queue with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from captioner.serving.batching import Batches
from captioner.serving.metrics import Metrics
from captioner.serving.settings import Limits
from captioner.serving.tasks import About, Photo, Reply, Task

ABOUT = About(generation={}, labels=False, search=False)


class Toy:
    """A runner that captions a photo with its name; ``hold`` delays it, and ``act`` may raise."""

    most = places = 1

    def __init__(self, act: Callable[[list[str]], None] = lambda names: None) -> None:
        self.act, self.runs, self.stopped, self.started = act, [], 0, 0  # type: ignore[var-annotated]
        self.hold = threading.Event()
        self.hold.set()

    def start(self) -> About:
        self.started += 1
        return ABOUT

    def run(self, task: Task, photos: list[Photo], patience: float) -> Reply:
        self.hold.wait(10)
        names = [photo.name for photo in photos]
        self.runs.append((task, names))
        self.act(names)
        records = [{"caption": name, "confidence": 0.5, "words": [[name, 0.5]]} for name in names]
        return Reply(records=records, seconds={"read": 0.1})

    def stop(self) -> None:
        self.stopped += 1

    def end(self) -> None:
        self.hold.set()


def photo(name: object) -> Photo:
    return Photo(name=str(name), data=b"")


def run(toy: Toy, work: Callable[[Batches], Any], *, idle: float = 0.0, **limits: Any) -> Any:
    async def main() -> Any:
        batches = Batches(toy, Limits(**limits), Metrics(), idle=idle)
        await batches.start()
        try:
            return await work(batches)
        finally:
            await batches.close()

    return asyncio.run(main())


def said(records: list[dict[str, Any]]) -> list[str]:
    return [record["caption"] for record in records]
