"""The model's end of the pipe: a process that holds the model, decodes photos and captions them.

A damaged photo, a lack of memory or ``kill -9`` can end this process, but not the server, and its end returns all of
its memory. Replies are JSON, not pickles, because this process decodes what strangers send.
"""

from __future__ import annotations

import itertools
import json
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from captioner.errors import CaptionerError, DeviceMemoryError, ImageError
from captioner.serving.memory import resident
from captioner.serving.tasks import About, Photo, Record, Reply, Task

if TYPE_CHECKING:
    from captioner.data.items import Item
    from captioner.pipelines import CaptionPipeline


def main(pipe: Connection, load: Callable[[], CaptionPipeline], pixels: int) -> None:
    """Load the model and answer tasks until the other end closes.

    Ctrl-C and SIGTERM reach a whole group of processes; the server decides when this one ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        model = Model(load(), pixels)
    except CaptionerError as error:
        _send(pipe, refused=str(error))
        return
    except Exception:
        _send(pipe, failed=traceback.format_exc())
        return
    _send(pipe, about=asdict(model.about()))
    while True:
        try:
            task, photos = pipe.recv()
            _send(pipe, **done(model, task, photos))
        except (EOFError, OSError):  # the server ended
            return


def done(model: Model, task: Task, photos: list[Photo]) -> dict[str, Any]:
    """Return the message about a task."""
    try:
        return {"reply": asdict(model.run(task, photos))}
    except (MemoryError, DeviceMemoryError):
        raise  # the process ends and gives its memory back
    except CaptionerError as error:
        return {"refused": str(error)}
    except Exception:
        return {"failed": traceback.format_exc()}


def _send(pipe: Connection, **message: Any) -> None:
    pipe.send_bytes(json.dumps(message).encode())


class Model:
    """A pipeline that runs tasks: photos in, records out."""

    def __init__(self, pipe: CaptionPipeline, pixels: int) -> None:
        self.pipe, self.pixels = pipe, pixels

    def about(self) -> About:
        from captioner.config import to_dict

        checkpoint = self.pipe.checkpoint
        labels = checkpoint.config.labels is not None
        return About(
            generation=to_dict(checkpoint.generation),
            labels=labels,
            search=labels or checkpoint.model.heads is not None,
        )

    def run(self, task: Task, photos: list[Photo]) -> Reply:
        """Return one record per photo, in order. Raises ``CaptionerError`` for a task that the model cannot do."""
        items = [self._item(photo) for photo in photos]
        if task.query is not None:
            return Reply(records=self._similarities(task.query, items), memory=resident())
        return self._captions(task, items)

    def _captions(self, task: Task, items: list[Item]) -> Reply:
        from captioner.captioning.batches import pixels_of
        from captioner.captioning.records import record_of
        from captioner.captioning.stream import settings_of, stream_captions

        checkpoint, size = self.pipe.checkpoint, len(items)
        options = json.loads(task.options)
        config = settings_of(checkpoint, task.count, options)
        times = [time.perf_counter()]
        pixels = list(pixels_of(checkpoint, items, size))
        times.append(time.perf_counter())
        stream = stream_captions(
            checkpoint,
            pixels,
            config,
            count=task.count,
            batch_size=size,
            vectors=task.vectors,
            encoded=lambda: times.append(time.perf_counter()),
        )
        found = list(stream)
        times = [*times, *[time.perf_counter()] * (4 - len(times))]
        records: list[Record] = []
        for item, result in zip(items, found, strict=True):
            if isinstance(result, ImageError):
                records.append({"error": str(result)})
                continue
            record = record_of(result, details=True)
            if task.score:
                record["scores"] = [round(score, 4) for score in self.pipe.score([item], list(task.score))[0]]
            if task.explain:
                record["explanation"] = self._explanation(item, result.text)
            records.append(record)
        stages = zip(("read", "encode", "write"), itertools.pairwise(times), strict=False)
        return Reply(records=records, seconds={name: b - a for name, (a, b) in stages}, memory=resident())

    def _similarities(self, query: str, items: list[Item]) -> list[Record]:
        from captioner.captioning.embeddings import query_scores

        scores = query_scores(self.pipe.checkpoint, query, items, batch_size=len(items))
        return [
            {"error": str(score)} if isinstance(score, ImageError) else {"similarity": round(score, 4)}
            for score in scores
        ]

    def _explanation(self, item: Item, text: str) -> Record | None:
        from captioner.explain.page import where

        if not text:
            return None
        reading = self.pipe.explain(item, text)
        words = zip(reading.words, reading.probabilities.tolist(), reading.maps, strict=True)
        return {
            "grid": list(reading.grid),
            "words": [
                {"word": word, "probability": round(p, 4), "where": where(grid), "map": grid.round(4).tolist()}
                for word, p, grid in words
            ],
        }

    def _item(self, photo: Photo) -> Item:
        from captioner.data.items import Item

        return Item(id=photo.name, read=partial(_within, photo.data, self.pixels))


def _within(data: bytes, most: int) -> bytes:
    """Return the bytes of an image of at most ``most`` pixels. Raises ``Refused``."""
    from captioner.data.images import MAX_PIXELS, image_size
    from captioner.data.items import Refused

    if most >= MAX_PIXELS:
        return data  # the reader has this limit itself
    try:
        width, height = image_size(data)
    except ImageError:
        return data  # the caller reads it again and names the reason
    if width * height > most:
        limit = f"{most / 1e6:g} megapixels"
        raise Refused(f"its {width} x {height} pixels exceed this server's limit of {limit}; scale it down")
    return data
