"""Draw coloured shapes with captions: ``python datasets/toy/prepare.py OUT [--images 600] [--seed 0] [--language zh]``.

It writes OUT/train.jsonl, dev.jsonl and test.jsonl (``file_name`` and ``captions``, the Hugging Face imagefolder form)
and OUT/images/. The picture determines the caption, all scenes differ, and the result depends only on the number of
images and the random seed. It needs only Pillow.
"""

# No "from __future__ import annotations": with string annotations, dataclasses look this module up in sys.modules,
# which lacks it when a test loads it by path.
import argparse
import json
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw

SIDE = 96  # pixels
OVERSAMPLE = 4  # pictures are drawn this much larger, then downsampled for smooth edges
MAX_IMAGES = 20_000  # out of about 32,500 scenes: drawing different ones stays fast

SHAPES = ("circle", "square", "triangle", "star")
SIZES = {"small": (9, 11), "large": (18, 20)}  # half of the object's side in pixels, with a clear gap between the two
COLOURS = {
    "red": (220, 20, 30),
    "orange": (255, 140, 0),
    "yellow": (255, 240, 0),
    "green": (0, 140, 40),
    "blue": (20, 40, 230),
    "purple": (120, 20, 150),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
CHINESE = {
    "circle": "圆形",
    "square": "正方形",
    "triangle": "三角形",
    "star": "五角星",
    "small": "小",
    "large": "大",
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "white": "白色",
    "black": "黑色",
    "gray": "灰色",
    "pink": "粉色",
    "brown": "棕色",
    "cyan": "青色",
}
BACKGROUNDS = {"gray": (128, 128, 128), "pink": (255, 175, 200), "brown": (110, 65, 30), "cyan": (120, 225, 235)}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of a caption."""

    size: str
    colour: str
    shape: str

    def words(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"

    def chinese(self) -> str:
        return f"一个{CHINESE[self.size]}{CHINESE[self.colour]}{CHINESE[self.shape]}"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The content of a picture without positions. The first of two things is the left or the upper one."""

    things: tuple[Thing, ...]
    relation: Literal["", "left of", "above"]
    background: str

    def captions(self) -> tuple[str, str, str]:
        """Return the three references; each describes the whole scene."""
        colour = self.background
        if len(self.things) == 1:
            thing = self.things[0].words()
            return (
                f"{thing} on a {colour} background",
                f"a {colour} background with {thing}",
                f"there is {thing} on {colour}",
            )
        first, second = (thing.words() for thing in self.things)
        horizontal = self.relation == "left of"
        near, far = ("to the left", "to the right") if horizontal else ("at the top", "at the bottom")
        return (
            f"{first} {self.relation} {second} on a {colour} background",
            f"a {colour} background with {first} {self.relation} {second}",
            f"{first} {near} and {second} {far} on {colour}",
        )

    def chinese(self) -> tuple[str, str, str]:
        """Return the references in Chinese, a language without spaces between words."""
        colour = CHINESE[self.background]
        if len(self.things) == 1:
            thing = self.things[0].chinese()
            return f"{colour}背景上有{thing}", f"{thing}在{colour}背景上", f"图中是{colour}背景上的{thing}"
        first, second = (thing.chinese() for thing in self.things)
        near, far = ("左边", "右边") if self.relation == "left of" else ("上面", "下面")
        return (
            f"{colour}背景上{first}在{second}的{near}",
            f"{first}在{second}的{near}，背景是{colour}",
            f"{colour}背景，{near}是{first}，{far}是{second}",
        )


def draw(out: Path, *, images: int, seed: int, language: str = "en") -> None:
    """Write the dataset of ``images`` pictures into ``out``: a tenth dev, a tenth test, the rest train.

    Raises ``ValueError`` for fewer than 3 images (one per split) or more than ``MAX_IMAGES``.
    """
    if not 3 <= images <= MAX_IMAGES:
        raise ValueError(f"images must be from 3 to {MAX_IMAGES}, not {images}")
    rng = random.Random(seed)
    (out / "images").mkdir(parents=True, exist_ok=True)
    seen: set[Scene] = set()
    lines = []
    for index in range(images):
        while (scene := _random_scene(rng)) in seen:
            pass
        seen.add(scene)
        name = f"images/{index:05d}.png"
        _picture(scene, rng).save(out / name)
        captions = scene.chinese() if language == "zh" else scene.captions()
        lines.append(json.dumps({"file_name": name, "captions": captions}, ensure_ascii=False) + "\n")
    held = max(1, images // 10)
    splits = {"train": lines[: -2 * held], "dev": lines[-2 * held : -held], "test": lines[-held:]}
    for split, rows in splits.items():
        (out / f"{split}.jsonl").write_text("".join(rows), encoding="utf-8", newline="\n")


def _random_scene(rng: random.Random) -> Scene:
    """Return a scene with one object in a third of the draws (of 256 such scenes), two in the others."""
    background = rng.choice(list(BACKGROUNDS))
    first = _random_thing(rng)
    if rng.random() < 1 / 3:
        return Scene(things=(first,), relation="", background=background)
    while (second := _random_thing(rng)) == first:
        pass
    relation: Literal["left of", "above"] = "left of" if rng.random() < 0.5 else "above"
    return Scene(things=(first, second), relation=relation, background=background)


def _random_thing(rng: random.Random) -> Thing:
    return Thing(size=rng.choice(list(SIZES)), colour=rng.choice(list(COLOURS)), shape=rng.choice(SHAPES))


def _picture(scene: Scene, rng: random.Random) -> Image.Image:
    large = Image.new("RGB", (SIDE * OVERSAMPLE, SIDE * OVERSAMPLE), BACKGROUNDS[scene.background])
    pen = ImageDraw.Draw(large)
    for thing, (x, y) in zip(scene.things, _centres(scene, rng), strict=True):
        _draw_thing(pen, thing, (x, y), rng.randint(*SIZES[thing.size]))
    return large.reduce(OVERSAMPLE)


def _centres(scene: Scene, rng: random.Random) -> list[tuple[int, int]]:
    """Return the centres of the objects in pixels: two are far apart along their relation, and aligned across it."""
    if len(scene.things) == 1:
        return [(rng.randint(24, 72), rng.randint(24, 72))]
    along = (rng.randint(22, 25), rng.randint(71, 74))  # a distance of at least 46; two half sides are at most 40
    across = [48 + rng.randint(-5, 5) for _ in along]
    pairs = list(zip(along, across, strict=True))
    return pairs if scene.relation == "left of" else [(y, x) for x, y in pairs]


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, centre: tuple[int, int], half: int) -> None:
    x, y, r = (OVERSAMPLE * value for value in (*centre, half))
    fill = COLOURS[thing.colour]
    if thing.shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif thing.shape == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=fill)
    elif thing.shape == "triangle":
        pen.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=fill)
    else:
        radii = [r * (1.0 if corner % 2 == 0 else 0.42) for corner in range(10)]
        turns = [math.pi * corner / 5 for corner in range(10)]
        pen.polygon([(x + d * math.sin(a), y - d * math.cos(a)) for d, a in zip(radii, turns, strict=True)], fill=fill)


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(description="Draw coloured shapes with captions.")
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder, created if missing")
    parser.add_argument("--images", type=int, default=600, help="number of pictures (default 600)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the pictures (default 0)")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="language of the captions (default en)")
    args = parser.parse_args()
    try:
        draw(args.out, images=args.images, seed=args.seed, language=args.language)
    except (OSError, ValueError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    print(f"{args.images} pictures in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
