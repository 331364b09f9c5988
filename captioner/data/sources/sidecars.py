"""Images with caption files beside them: ``dog.jpg`` and ``dog.caption`` or ``dog.txt``, as diffusion trainers use.

``captioner/data/beside.py`` matches files and images. Every line is a caption, or the whole file is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from captioner.data.beside import CAPTION_SUFFIXES, Beside
from captioner.data.leftout import LeftOut
from captioner.data.messages import Problem, counted
from captioner.data.paths import MAX_SIDECAR, is_image_name, list_folder, read_text, shown
from captioner.data.sources.rows import ImageFinder, NotThisForm, Row, gather
from captioner.data.splits import Dataset
from captioner.errors import DataError

Reading = Literal["lines", "one"]
"""The treatment of a caption file of several lines: several captions, or one."""
_LINE_END = re.compile("\r\n|\r|\n")  # str.splitlines would also split at characters that a caption may contain
READINGS: tuple[Reading, ...] = ("lines", "one")


def read(folder: Path, reading: Reading = "lines") -> Dataset:
    """Read a folder with its subfolders, except hidden ones. Names are paths relative to ``folder``, with slashes.

    Raises ``NotThisForm`` if no image has a caption file.
    """
    left = LeftOut()
    images = list(_images(folder, left))
    notes = tuple(f"{shown(folder)}: {sentence}" for sentence in left.sentences(remedy=False))
    if not any(files for _, files in images):
        content = f"{counted(len(images), 'image')} but no caption file beside" if images else "no images"
        content += (" it" if len(images) == 1 else " them") if images else "".join(f" ({note})" for note in notes[:1])
        raise NotThisForm(f"{shown(folder)} contains {content}")
    unread: dict[str, str] = {}
    lengths: dict[str, int] = {}
    data = gather(_rows(folder, images, reading, unread, lengths), folder, ImageFinder(folder))
    problems: tuple[str, ...] = ()
    if unread:
        first = next(iter(unread.values()))
        sentence = f"{counted(len(unread), 'caption file')} cannot be read, the first because: {first}"
        problems = (Problem(sentence, unread),)
    if note := note_of(sum(length > 1 for length in lengths.values()), len(lengths), reading):
        notes += (f"{shown(folder)}: {note}",)
    return Dataset(splits=data.splits, problems=problems + data.problems, notes=data.notes + notes)


def note_of(several: int, count: int, reading: Reading) -> str:
    """Return a note about the treatment of files of several lines; empty without such files."""
    if not several:
        return ""
    what = "each line is a caption; --sidecars one reads each file as one caption"
    if reading == "one":
        what = "each file is one caption; --sidecars lines reads each line as one caption"
    return f"{several} of {counted(count, 'caption file')} {'has' if several == 1 else 'have'} several lines: {what}"


def captions_of(text: str, reading: Reading) -> list[str]:
    """Return the captions in the text of a file."""
    lines = [line for line in _LINE_END.split(text) if line.strip()]
    return lines if reading == "lines" or not lines else [" ".join(lines)]


def _images(top: Path, left: LeftOut) -> Iterator[tuple[str, list[str]]]:
    """Yield every image below ``top`` with the files that may hold its captions, as relative paths."""
    seen: set[str] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(top / folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            files, folders = list_folder(str(top / folder), left)
        except OSError as error:
            raise DataError(f"{shown(top / folder)} cannot be listed: {(error.strerror or '').lower()}") from None
        prefix = f"{folder}/" if folder else ""
        beside = Beside(entry.name for entry in files)
        for entry in files:
            if is_image_name(entry.name):
                names = (name for suffix in CAPTION_SUFFIXES for name in beside.files(entry.name, suffix))
                yield prefix + entry.name, [prefix + name for name in names]
            else:
                left.see(entry.name)
        waiting.extend(prefix + entry.name for entry in reversed(folders))


def _rows(
    folder: Path, images: list[tuple[str, list[str]]], reading: Reading, unread: dict[str, str], lengths: dict[str, int]
) -> Iterator[Row]:
    """Yield rows; fill ``unread`` with reasons by file, and ``lengths`` with the lines of each file with a caption."""
    for image, files in images:
        captions: list[str] = []
        for file in files:
            try:
                text = read_text(folder / file, most=MAX_SIDECAR)
            except DataError as error:
                unread.setdefault(str(folder / file), str(error))
                continue
            if captions := captions_of(text, reading):
                lengths[file] = len(captions_of(text, "lines"))
                break
        yield Row(image=image, captions=tuple(captions))
