"""The HTML report of a run: photos and captions, least confident first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from captioner.data.images import ImageSource
from captioner.data.items import Item
from captioner.folder.entry import Entry
from captioner.folder.journal import Journal
from captioner.folder.plan import Plan
from captioner.html.charts import Series, bars
from captioner.html.frame import Section, bullets, folded
from captioner.html.gallery import MOST, card, gallery, gallery_page
from captioner.html.pictures import Picture, tag, thumbnail, thumbnails

BINS = 20
Walk = Callable[[list[str]], Iterable[Item]]
"""``find_items``, to locate photos in an archive again."""


def page(journal: Journal, plan: Plan, title: str, statements: Sequence[str], *, walk: Walk, most: int = MOST) -> str:
    """Return the HTML report of the captions in the journal; ``statements`` describe the run."""
    counts = journal.confidences(BINS)
    entries = journal.sample(most)
    status = f"{len(entries):,} {'image' if len(entries) == 1 else 'images'}"
    if len(entries) < sum(counts):
        status += f" of {sum(counts):,}: the least confident, the most confident, and a sample of all"
    parts = [Section(name="run", link="Run", title="The run", body=bullets(statements))]
    if sum(counts):
        points = tuple((number / BINS, 100 * count / sum(counts)) for number, count in enumerate(counts))
        chart = bars(
            [Series(name="these captions", points=points)],
            title="Confidence",
            x="confidence",
            y="% of captions",
            width=1 / BINS,
        )
        parts.append(Section(name="plots", link="Plots", title="Plots", body=f'<div class="charts">{chart}</div>'))
    photos = gallery(
        _cards(entries, journal, plan, walk),
        status,
        orders={
            "doubtful": "least confident first",
            "surest": "most confident first",
            "longest": "longest first",
            "data": "order of captioning",
        },
        flags={"repeats": "captions with repetitions", "empty": "empty captions"},
    )
    return gallery_page(title, parts, photos)


def _cards(entries: Sequence[Entry], journal: Journal, plan: Plan, walk: Walk) -> Iterator[str]:
    # An existing journal may name any file of this machine, so only show photos that the command names.
    ids = [entry.id for entry in entries if not journal.resumed or plan.place.holds(entry.id)]
    pictures = _pictures(ids, walk)
    for entry in entries:
        best, *others = entry.captions
        text = plan.compose(best.text, entry.id)
        details = f"confidence {100 * best.confidence:.0f} %, score {best.score:.2f}"
        details += ", unsure" if best.unsure else ""
        details += "" if best.confidence >= plan.min_confidence else ", for review"
        yield card(
            text,
            best.text.split(),
            tag(pictures.get(entry.id), f"Photo with the caption: {text}", gone="This photo is not shown here."),
            name=entry.id.encode("utf-8", "backslashreplace").decode(),
            details=details,
            figures={"sure": best.confidence},
            more=folded(f"{len(others)} others", [other.text for other in others]) if others else "",
        )


def _pictures(ids: Sequence[str], walk: Walk) -> dict[str, Picture | None]:
    """Return thumbnails of photos in files, archives and videos; URLs are not downloaded again."""
    requested = set(ids)
    outer = dict.fromkeys(name.partition(mark)[0] for name in ids for mark in ("!/", "#t=") if mark in name)
    inside = (item for name in outer if os.path.isfile(name) for item in walk([name]) if item.id in requested)
    files = [(name, partial(_file, name)) for name in ids if os.path.isfile(name)]
    outside = dict(zip((name for name, _ in files), thumbnails(read for _, read in files), strict=True))
    return {**{item.id: thumbnail(partial(_item, item)) for item in inside}, **outside}


def _file(name: str) -> ImageSource:
    return Path(name)


def _item(item: Item) -> ImageSource:
    return item
