"""The format of Flickr8k.token.txt: ``name.jpg#0<TAB>caption`` or ``name.jpg<TAB>caption``, one caption per line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from captioner.data.paths import is_image_name, read_text, shown
from captioner.data.sources.rows import OWN_FOLDER, NotThisForm, Reach, Row, gather
from captioner.data.splits import ALL, SPLITS, Dataset
from captioner.errors import DataError

_NUMBERED = re.compile(r"([^\t]+)#\d+\t(.*)")


def matches(line: str) -> bool:
    """Return whether a file's first line has this format."""
    name, tab, caption = line.partition("\t")
    return bool(_NUMBERED.match(line)) or (bool(tab) and is_image_name(name) and "\t" not in caption)


def read(path: Path, reach: Reach = OWN_FOLDER) -> Dataset:
    """Read the file, with the splits of Flickr8k's lists beside it (``Flickr_8k.trainImages.txt`` ...)."""
    return gather(_rows(path, _split_lists(path.parent)), path, reach=reach)


def _rows(path: Path, lists: dict[str, str]) -> Iterator[Row]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        if not matches(line):
            kind = NotThisForm if number == 1 else DataError
            raise kind(f"{shown(path)}:{number} is not name.jpg#0<TAB>caption; correct or remove the line")
        numbered = _NUMBERED.match(line)
        name, caption = (numbered[1], numbered[2]) if numbered else (line.split("\t")[0], line.split("\t")[1])
        split = lists.get(name.strip(), ALL)
        yield Row(image=name.strip(), captions=(caption,), split=split, where=f"{shown(path)}:{number}")


def _split_lists(folder: Path) -> dict[str, str]:
    splits = {}
    for split in SPLITS:
        for path in sorted(folder.glob(f"*[._]{split}Images.txt")):
            splits.update({name.strip(): split for name in read_text(path).split("\n") if name.strip()})
    return splits
