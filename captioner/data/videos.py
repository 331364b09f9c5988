"""Frames of a video as images to caption: one per scene, or evenly spaced; decoded in order, a few in memory.

A scene ends where the colour histograms (red, green and blue of a small image) of two frames, a fifth of a second
apart, differ in more than ``CUT`` of their mass. They detect a cut, but not a pan or a moving face.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from captioner.data.items import Item, Refused, open_file, refusal, system_reason
from captioner.data.messages import agreeing, counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

Frames = int | Literal["scenes"]
"""A number of evenly spaced frames, or one frame per scene."""

CUT = 0.3
LOOK = 0.2  # seconds between two compared frames
SHORTEST = 1.0  # seconds of a scene
LARGEST = 1024
"""Longer side of a frame in pixels: more than any captioner needs, and small in memory."""
MAX_PIXELS = 100_000_000
_BINS = 16
# Some formats of FFmpeg are lists of other files and URLs, which it would read.
_SAFE = {"format_whitelist": "mov,mp4,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg", "protocol_whitelist": "none"}


def in_video(path: Path, frames: Frames = "scenes") -> Iterator[Item]:
    """Yield an item per scene, or for ``frames`` frames, in order, with an id such as ``clip.mp4#t=12.4`` (seconds).

    A damaged part gives an item with a ``problem``.
    """
    count = 0
    name = os.fspath(path)
    try:
        import av
    except ImportError:
        yield Item.broken(name, refusal(path, "it is a video, which needs av: pip install 'captioner[video]'"))
        return
    try:
        with open_file(path) as file, av.open(file, options=_SAFE) as container:
            stream = _stream(container)
            pairs = _scenes(container, stream) if frames == "scenes" else _spread(container, stream, frames)
            before = ""
            for time, image in pairs:
                at = f"{time:.1f}" if f"{time:.1f}" != before else f"{time:.3f}"
                before = f"{time:.1f}"
                count += 1
                yield Item(id=f"{name}#t={at}", read=partial(_itself, image))
        if not count:
            raise Refused("it has no frames")
    except Exception as error:  # PyAV raises many classes, including built-in ones
        rest = f"; {counted(count, 'frame')} before that {agreeing(count, 'were')} found" if count else ""
        yield Item.broken(name + ("#" if count else ""), refusal(path, _reason(error) + rest))


def _stream(container: Any) -> Any:
    if not container.streams.video:
        raise Refused("it has no video stream")
    stream = container.streams.video[0]
    if stream.width * stream.height > MAX_PIXELS:
        raise Refused(f"its frames of {stream.width} x {stream.height} pixels are too large")
    stream.thread_type = "AUTO"
    return stream


def _scenes(container: Any, stream: Any) -> Iterator[tuple[float, Image.Image]]:
    """Yield (seconds, frame) of each scene: the kept frame closest to its middle.

    Intervals between kept frames grow by half, so an hour without a cut keeps twenty frames.
    """
    kept: list[tuple[float, Image.Image]] = []
    previous: NDArray[np.float32] | None = None
    start = last = due = 0.0
    for frame in container.decode(stream):
        if frame.time is None or (kept and frame.time < last + LOOK):
            continue
        colours = _colours(frame)
        cut = previous is not None and float(abs(colours - previous).sum()) / 2 > CUT
        previous = colours
        if cut and frame.time - start >= SHORTEST:
            yield _middle(kept, (start + last) / 2)
            kept = []
        if not kept:
            start = due = frame.time
        last = frame.time
        if last >= due:
            kept.append((last, _image(frame, stream)))
            due = start + max(0.5, 1.5 * (last - start))
    if kept:
        yield _middle(kept, (start + last) / 2)


def _middle(kept: list[tuple[float, Image.Image]], middle: float) -> tuple[float, Image.Image]:
    return min(kept, key=lambda pair: abs(pair[0] - middle))


def _colours(frame: Any) -> NDArray[np.float32]:
    """Return the histograms of red, green and blue, which sum to 1."""
    import numpy as np

    pixels = frame.reformat(width=64, height=36, format="rgb24").to_ndarray() // (256 // _BINS)  # (36, 64, 3)
    counts = [np.bincount(pixels[..., channel].ravel(), minlength=_BINS) for channel in range(3)]
    return np.concatenate(counts).astype(np.float32) / pixels.size


def _spread(container: Any, stream: Any, count: int) -> Iterator[tuple[float, Image.Image]]:
    """Yield (seconds, frame) in the middle of each of ``count`` equal parts, without duplicate frames."""
    if stream.duration is not None:
        length = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        length = container.duration / 1e6
    else:
        raise Refused("its length is unknown; use --frames scenes")
    begin = float((stream.start_time or 0) * stream.time_base)
    part, before = 0, None
    while part < count:
        target = begin + (part + 0.5) * length / count
        container.seek(int(target / stream.time_base), stream=stream)
        match = None
        for frame in container.decode(stream):
            if frame.time is not None:
                match = frame
                if frame.time >= target - 1e-3:
                    break
        if match is not None and match.time != before:
            before = match.time
            yield match.time, _image(match, stream)
        if match is None or match.time < target - 1e-3:  # the last frame: later parts have no other
            break
        # Skip parts shorter than a frame: there may be many more of them than frames.
        part = max(part + 1, math.floor((match.time + 1e-3 - begin) * count / length + 0.5))


def _image(frame: Any, stream: Any) -> Image.Image:
    """Return a frame as an upright image with square pixels, of at most ``LARGEST`` pixels on its longer side."""
    shape = float(getattr(stream, "sample_aspect_ratio", None) or 1)  # width / height of a pixel
    width, height = frame.width * shape, float(frame.height)
    scale = min(1.0, LARGEST / max(width, height))
    size = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
    image: Image.Image = frame.reformat(**size, format="rgb24").to_image()
    turn = getattr(frame, "rotation", 0)  # degrees counterclockwise
    return image.rotate(turn, expand=True) if turn else image


def _itself(image: Image.Image) -> Image.Image:
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, PermissionError):
        return system_reason(error)
    text = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    return f"the video is damaged or its format is unsupported ({text[:100].lower()})"
