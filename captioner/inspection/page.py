"""The HTML report of an inspection: problems, histograms, and images of duplicates."""

from __future__ import annotations

import base64
import io
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from PIL import Image

from captioner.data.images import open_image
from captioner.data.messages import counted, names_of, shown
from captioner.errors import ImageError
from captioner.inspection.examine import Entry, Group, Inspection

MOST_GROUPS, MOST_IMAGES, THUMB = 60, 6, 128  # groups, images per group, longer side in pixels
Histogram = Mapping[int, int] | Mapping[str, int]
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --line: #c9c9c9; --bar: #0b57d0; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececec; --paper: #161616; --line: #4a4a4a; --bar: #8ab4f8; --bad: #f2b8b5 } }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; font: 1rem/1.45 system-ui, sans-serif; color: var(--ink);
       background: var(--paper); overflow-wrap: anywhere }
h1 { font-size: 1.3rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.bad li::marker { color: var(--bad) } .bad strong { color: var(--bad) }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1.5rem }
figure { margin: 0 } figcaption { font-weight: 600; font-size: .95rem }
svg { width: 100%; height: auto; display: block } svg text { fill: var(--ink); font-size: 11px }
svg rect { fill: var(--bar) } svg path { stroke: var(--line) }
.group { display: flex; flex-wrap: wrap; gap: .6rem; border-bottom: 1px solid var(--line); padding: .6rem 0 }
.group figure { width: 8rem; font-size: .8rem } .group img { max-width: 8rem; max-height: 8rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .95rem }
th, td { text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid var(--line) }
td.n { text-align: right }
"""


def page(inspection: Inspection, title: str) -> str:
    """Return the HTML file, with thumbnails of duplicates."""
    pairs = (("problem", inspection.problems, " class='bad'"), ("note", inspection.notes, ""))
    lists = "".join(f"<h2>{counted(len(a), name)}</h2><ul{style}>{_items(a)}</ul>" for name, a, style in pairs if a)
    verdict = "" if inspection.problems else "<p><strong>No problems were found.</strong></p>"
    sizes = {"longer side, pixels": _longer_sides(inspection), "width / height": _aspects(inspection)}
    plots: dict[str, Histogram] = {
        "captions per image": inspection.captions_per_image,
        "words per caption": inspection.caption_words,
        **sizes,
    }
    inner = tuple(group for group in inspection.same_bytes if group not in inspection.leaks)
    alike = tuple(group for group in inspection.look_alike if group not in inspection.leaks)
    body = [
        f"<h1>{escape(title)}</h1>{verdict}{lists}",
        _table(("split", "images", "captions"), [(s, n, inspection.captions[s]) for s, n in inspection.images.items()]),
        f"<h2>Distributions</h2><div class='plots'>{''.join(histogram(n, v) for n, v in plots.items())}</div>",
        *(
            _pictures(*part)
            for part in (
                ("Split leaks", inspection.leaks),
                ("Exact duplicates", inner),
                ("Near duplicates", alike),
            )
        ),
        _unreadable(inspection),
        f"<h2>Words</h2><p>{inspection.vocabulary} different words, {inspection.said_once} of them used once.</p>",
        _table(("most frequent", "times"), inspection.frequent),
    ]
    if inspection.shared_captions:
        body += ["<h2>Captions of several images</h2>", _table(("caption", "images"), inspection.shared_captions[:20])]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta http-equiv='Content-Security-Policy' "
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def histogram(name: str, values: Histogram, most: int = 30) -> str:
    """Return a bar chart in SVG, of sorted numbers in at most ``most`` equal bins, or of names in their given order."""
    bars = _bins(values, most)
    if not bars:
        return ""
    width, height, foot = 320, 150, 34
    step = min(width / len(bars), 40.0)
    top = max(count for _, count in bars)
    wide = 7 * max(len(label) for label, _ in bars)  # approximate width of a label
    every = -(-wide // int(step))
    parts = []
    for i, (label, count) in enumerate(bars):
        tall = height * count / top
        parts.append(
            f"<rect x='{i * step + 1:.1f}' y='{14 + height - tall:.1f}' width='{max(step - 2, 1):.1f}' "
            f"height='{tall:.1f}'><title>{escape(label)}: {count}</title></rect>"
        )
        if i % every == 0 and i * step + wide <= width + 7:
            parts.append(f"<text x='{i * step + 1:.1f}' y='{height + 30}'>{escape(label)}</text>")
    description = f"{name}: " + ", ".join(f"{label}: {count}" for label, count in bars)
    return (
        f"<figure><figcaption>{escape(name)}</figcaption><svg viewBox='0 0 {width} {height + foot}' role='img' "
        f"aria-label='{escape(description)}'><text x='0' y='10'>{top}</text><path d='M0 {14 + height}h{width}'/>"
        f"{''.join(parts)}</svg></figure>"
    )


def _bins(values: Histogram, most: int) -> list[tuple[str, int]]:
    numbers = {key: count for key, count in values.items() if isinstance(key, int)}
    if not numbers:
        return [(str(key), count) for key, count in values.items()]
    low, high = min(numbers), max(numbers)
    wide = -(-(high - low + 1) // most)
    bins = Counter(dict.fromkeys(range(low, high + 1, wide), 0))
    for value, count in numbers.items():
        bins[low + (value - low) // wide * wide] += count
    return [(str(start) if wide == 1 else f"{start}–{start + wide - 1}", bins[start]) for start in sorted(bins)]


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


def _pictures(title: str, groups: Sequence[Group]) -> str:
    if not groups:
        return ""
    rows = "".join(
        f"<div class='group'>{''.join(map(_thumb, group[:MOST_IMAGES]))}{_more(group)}</div>"
        for group in groups[:MOST_GROUPS]
    )
    more = groups[MOST_GROUPS:]
    rest = f"<p>{counted(len(more), 'more group', 'are')} named in the list above, without images.</p>" if more else ""
    return f"<h2>{escape(title)}: {len(groups)}</h2>{rows}{rest}"


def _more(group: Group) -> str:
    return f"<p>and {len(group) - MOST_IMAGES} more</p>" if len(group) > MOST_IMAGES else ""


def _thumb(entry: Entry) -> str:
    name = escape(str(entry))
    try:
        image = open_image(entry.sample.image(), min_side=THUMB)
    except ImageError:  # removed since the examination
        return f"<figure>{name}</figure>"
    image.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    data = base64.b64encode(out.getvalue()).decode()
    return f"<figure><img alt='' src='data:image/jpeg;base64,{data}'><br>{name}</figure>"


def _unreadable(inspection: Inspection) -> str:
    if not inspection.unreadable:
        return ""
    rows = [(str(entry), reason) for entry, reason in inspection.unreadable]
    return f"<h2>Not readable: {len(inspection.unreadable)}</h2>{_table(('image', 'reason'), rows)}"


def _items(sentences: Sequence[str]) -> str:
    return "".join(f"<li>{escape(sentence)}{_names(sentence)}</li>" for sentence in sentences)


def _names(sentence: str) -> str:
    """Return a collapsible list of all names of a message, if its text shows only some of them."""
    names = [shown(name) for name in names_of(sentence)]
    if all(name in sentence for name in names):
        return ""
    listed = "".join(f"<li>{escape(name)}</li>" for name in names)
    return f"<details><summary>all {len(names)}</summary><ul>{listed}</ul></details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = "".join(
        "<tr>" + "".join(f"<td{' class=n' if isinstance(c, int) else ''}>{escape(str(c))}</td>" for c in row) + "</tr>"
        for row in rows
    )
    names = "".join(f"<th scope='col'>{escape(name)}</th>" for name in head)
    return f"<div class='wide'><table><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table></div>"
