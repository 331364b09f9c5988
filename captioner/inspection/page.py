"""The HTML report of an inspection: problems, histograms, and images of duplicates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from captioner.data.messages import counted, names_of, shown
from captioner.html.charts import counts
from captioner.html.frame import Markup, Section, bullets, document, folded, html_of, table
from captioner.html.pictures import thumbnail
from captioner.inspection.examine import Entry, Group, Inspection

MOST_GROUPS, MOST_IMAGES, SIDE = 60, 6, 128  # groups, images per group, longer side in pixels


def page(inspection: Inspection, title: str) -> str:
    """Return the HTML file, with thumbnails of duplicates."""
    return document(title, list(_parts(inspection)))


def _parts(inspection: Inspection) -> Iterator[Section | Markup]:
    if not inspection.problems:
        yield Markup("<p><strong>No problems were found.</strong></p>")
    for noun, sentences in (("problem", inspection.problems), ("note", inspection.notes)):
        if sentences:
            listed = bullets(map(_with_names, sentences), kind=noun)
            yield Section(name=f"{noun}s", title=counted(len(sentences), noun), body=listed)
    splits = [(split, n, inspection.captions[split]) for split, n in inspection.images.items()]
    yield _table("contents", "Contents", ("split", "images", "captions"), splits, caption="Numbers of each split")
    plots: dict[str, Mapping[int, int] | Mapping[str, int]] = {
        "captions per image": inspection.captions_per_image,
        "words per caption": inspection.caption_words,
        "longer side, pixels": _longer_sides(inspection),
        "width / height": _aspects(inspection),
    }
    drawn = "".join(counts(values, name) for name, values in plots.items())
    yield Section(name="plots", title="Distributions", body=f'<div class="charts">{drawn}</div>')
    inner = tuple(group for group in inspection.same_bytes if group not in inspection.leaks)
    alike = tuple(group for group in inspection.look_alike if group not in inspection.leaks)
    for name, title, groups in (
        ("leaks", "Split leaks", inspection.leaks),
        ("same", "Exact duplicates", inner),
        ("alike", "Near duplicates", alike),
    ):
        if groups:
            yield Section(name=name, title=f"{title}: {len(groups)}", body=_pictures(groups))
    if inspection.unreadable:
        rows = [(str(entry), reason) for entry, reason in inspection.unreadable]
        yield _table(
            "unreadable", f"Not readable: {len(rows)}", ("image", "reason"), rows, columns="ll", caption="Reasons"
        )
    different = f"{inspection.vocabulary} different words, {inspection.said_once} of them used once"
    yield _table("words", "Words", ("most frequent", "times"), inspection.frequent, caption=different)
    if inspection.shared_captions:
        shared = inspection.shared_captions[:20]
        yield _table(
            "shared", "Captions of several images", ("caption", "images"), shared, caption="The most frequent of them"
        )


def _table(
    name: str,
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    columns: str = "",
    caption: str = "",
) -> Section:
    return Section(name=name, title=title, body=table(caption or title, heads, rows, columns=columns))


def _longer_sides(inspection: Inspection) -> dict[str, int]:
    edges = (64, 128, 224, 256, 384, 512, 768, 1024, 2048, 4096)
    names = [f"< {edges[0]}", *(f"{a}–{b - 1}" for a, b in itertools.pairwise(edges)), f"≥ {edges[-1]}"]
    counts = dict.fromkeys(names, 0)
    for size, count in inspection.sizes.items():
        counts[names[sum(max(size) >= edge for edge in edges)]] += count
    return _trimmed(counts)


def _aspects(inspection: Inspection) -> dict[str, int]:
    edges = (1 / 3, 0.5, 0.6, 0.7, 0.8, 0.95, 1.05, 1.25, 1.4, 1.6, 2, 3)
    names = ["< 0.33", *(f"{a:.2f}–{b:.2f}" for a, b in itertools.pairwise(edges)), "≥ 3"]
    counts = dict.fromkeys(names, 0)
    for (width, height), count in inspection.sizes.items():
        counts[names[sum(width / height >= edge for edge in edges)]] += count
    return _trimmed(counts)


def _trimmed(counts: dict[str, int]) -> dict[str, int]:
    """Return the counts without empty bins at the ends."""
    full = [i for i, count in enumerate(counts.values()) if count]
    return dict(list(counts.items())[full[0] : full[-1] + 1]) if full else {}


def _pictures(groups: Sequence[Group]) -> str:
    rows = "".join(
        f'<div class="group">{"".join(map(_figure, group[:MOST_IMAGES]))}{_more(group)}</div>'
        for group in groups[:MOST_GROUPS]
    )
    more = groups[MOST_GROUPS:]
    rest = f"<p>{counted(len(more), 'more group', 'are')} named in the list above, without images.</p>" if more else ""
    return rows + rest


def _more(group: Group) -> str:
    return f"<p>and {len(group) - MOST_IMAGES} more</p>" if len(group) > MOST_IMAGES else ""


def _figure(entry: Entry) -> str:
    picture = thumbnail(entry.sample.image, SIDE)  # None if it was removed since the examination
    return f"<figure>{picture.tag('') if picture else ''}<figcaption>{escape(str(entry))}</figcaption></figure>"


def _with_names(sentence: str) -> Markup:
    """Return a message with a collapsible list of all its names, if its text shows only some of them."""
    names = [shown(name) for name in names_of(sentence)]
    hidden = not all(name in sentence for name in names)
    return Markup(html_of(str(sentence)) + (folded(f"all {len(names)}", names) if hidden else ""))
