"""Photos of a few pixels, with captions made from their names: tests of files need no model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from captioner.captioning.captions import Caption
from captioner.data.find import find_items
from captioner.data.images import open_image
from captioner.errors import ImageError
from captioner.folder.job import photos_of
from captioner.folder.plan import Plan, place_of
from captioner.folder.run import Outcome, Run

NAMES = ("1.png", "2.png", "more/3.png", "more/10.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of four photos, two of them in a subfolder."""
    folder = tmp_path / "photos"
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (40 * number, 0, 0)).save(folder / name)
    return folder


def say(sources: Iterable[Any], said: list[str] | None = None) -> Iterator[Caption | ImageError]:
    """Yield ``photo 1.png`` for ``.../1.png``; the name also decides the confidence."""
    for source in sources:
        if isinstance(source, ImageError):
            yield source
            continue
        name = os.fsencode(source.id).decode("utf-8", "replace").rpartition("/")[2]
        if said is not None:
            said.append(name)
        try:
            open_image(source)
        except ImageError as error:
            yield error
        else:
            yield Caption(f"photo {name}", -0.5, 0.2 if "doubt" in name else 0.8, unsure="unsure" in name)


Go = Callable[..., list[Outcome]]


@pytest.fixture
def go(photos: Path) -> Go:
    """Return ``go(outputs, ...)``: a whole run with its outcomes; ``go.said`` lists the captioned names."""

    def whole(*outputs: str, out: Path | None = None, settings: Any = None, paths: Any = None, **options: Any) -> Any:
        named = [os.fspath(path) for path in paths or [photos]]
        plan = Plan(place=place_of(named, os.fspath(out) if out else None), outputs=outputs, **options)  # type: ignore[arg-type]
        run = Run(plan, settings or {})
        whole.said = []  # type: ignore[attr-defined]
        try:
            walk = photos_of(find_items(named), plan.place)
            found = list(run.caption(run.todo(walk), lambda sources: say(sources, whole.said), together=3))  # type: ignore[attr-defined]
            whole.problems = [*run.problems, *run.finish()]  # type: ignore[attr-defined]
            whole.counts = run.counts  # type: ignore[attr-defined]
        finally:
            run.close()
        return found

    return whole
