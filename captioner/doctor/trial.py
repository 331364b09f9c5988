"""A trial: the shipped model captions a drawn picture in each precision, in a second or two."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from captioner.doctor.lines import Fact, Line, Warned
from captioner.errors import reason_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from captioner.inference.precision import Precision

ROUNDS = 4


def trial() -> Iterator[Line]:
    """Yield the caption, the times and the faster precision; warn if no caption can be written."""
    names: list[Precision] = ["fp32"]
    name, device = names[0], "this machine"
    try:
        from captioner.pipelines import choose_device, load

        device = choose_device()
        names = ["fp32", "int8" if device == "cpu" else "bf16"]
        pipes = {}
        for name in names:
            pipes[name] = load(device=device, precision=name)
        drawn, times = picture(), {name: list[float]() for name in names}
        for _ in range(ROUNDS):  # in turns, so that other programs slow both down
            for name in names:
                begin = time.perf_counter()
                text = pipes[name].caption(drawn).text
                times[name].append(time.perf_counter() - begin)
                if not text:
                    raise ValueError("the caption is empty")
                if name == "fp32" and len(times[name]) == 1:
                    yield Fact(name="caption", value=text)
    except Exception as error:
        remedy = "caption with --device cpu" if device not in ("cpu", "this machine") else "see the lines above"
        problem = f"no caption could be written in {name} on {device}: {reason_of(error)}"
        yield Warned(problem=problem, remedy=remedy, fatal=True)
        return
    first, other = (min(times[name][1:]) for name in names)  # the first round warms up
    yield Fact(name="time", value=f"{1e3 * first:.0f} ms in {names[0]}, {1e3 * other:.0f} ms in {names[1]} on {device}")
    ahead = f"{first / other:.2f} times as fast as" if first / other >= 1.05 else "not faster than"
    yield Fact(
        name="precision", value=f"{names[1]} is {ahead} {names[0]} for the shipped model; large models gain more"
    )


def picture() -> Image:
    """Return a picture of a red ball on grass under a blue sky."""
    from PIL import Image, ImageDraw

    drawn = Image.new("RGB", (320, 240), (120, 180, 235))
    pen = ImageDraw.Draw(drawn)
    pen.rectangle((0, 150, 320, 240), fill=(60, 140, 50))
    pen.ellipse((110, 90, 210, 190), fill=(200, 30, 30))
    return drawn
