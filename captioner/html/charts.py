"""Charts as inline SVG without library or script, with the numbers as alternative text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from captioner.html.frame import Markup

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 40  # margins for the axes' numbers
NARROW = 9  # bars that fill the width; fewer have the same width


@dataclass(frozen=True, kw_only=True)
class Series:
    """A named series of points (x, y) in the colour ``tone`` of the style sheet: a or b."""

    name: str
    points: tuple[tuple[float, float], ...]
    tone: str = "a"


def histogram(
    values: Sequence[float], others: Sequence[float], names: tuple[str, str], *, width: float
) -> list[Series]:
    """Return the percentages of two sets of values in the same bins of this ``width``."""
    top = max([*values, *others], default=0.0)
    bins = min(40, max(1, math.floor(top / width) + 1))
    series = []
    for name, tone, chosen in zip(names, "ab", (values, others), strict=True):
        counts = [0] * bins
        for value in chosen:
            counts[min(bins - 1, max(0, int(value / width)))] += 1
        shares = [(place * width, 100 * count / max(1, len(chosen))) for place, count in enumerate(counts)]
        series.append(Series(name=name, points=tuple(shares), tone=tone))
    return series


def bars(series: Sequence[Series], *, title: str, x: str, y: str, width: float) -> Markup:
    """Return the first series as bars, with the second as a stepped line over them."""
    places = [point[0] for entry in series for point in entry.points]
    frame = _Frame(min(places, default=0), max(places, default=0) + width, 0, _most(series))
    body = []
    for a, b in (point for entry in series[:1] for point in entry.points):
        body.append(f"<rect {_bar(frame, a, width, b)}/>")
    for entry in series[1:]:
        steps = " ".join(f"{frame.x(a + d):.1f},{frame.y(b):.1f}" for a, b in entry.points for d in (0, width))
        body.append(f'<polyline class="b" points="{steps}"/>')
    return _of_series(frame, body, series, title=title, x=x, y=y)


def lines(series: Sequence[Series], *, title: str, x: str, y: str) -> Markup:
    """Return curves over a common axis."""
    points = [point for entry in series for point in entry.points]
    xs, ys = [a for a, _ in points], [b for _, b in points]
    low, high = (min(ys), max(ys)) if ys else (0, 1)
    frame = _Frame(min(xs, default=0), max(xs, default=1), low, high if high > low else low + 1)
    body = []
    for entry in series:
        path = " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in entry.points)
        body.append(f'<polyline class="{entry.tone}" points="{path}"/>')
        if len(entry.points) == 1:
            a, b = entry.points[0]
            body.append(f'<circle class="{entry.tone}" cx="{frame.x(a):.1f}" cy="{frame.y(b):.1f}" r="3"/>')
    return _of_series(frame, body, series, title=title, x=x, y=y)


def counts(values: Mapping[int, int] | Mapping[str, int], title: str, *, most: int = 30) -> Markup:
    """Return counts as bars: of numbers in at most ``most`` equal bins, or of names in their given order."""
    named = _bins(values, most)
    if not named:
        return Markup()
    frame = _Frame(0, max(NARROW, len(named)), 0, max(count for _, count in named))
    wide = 7 * max(len(name) for name, _ in named)  # approximate width of a name in pixels
    every = math.ceil(wide / (frame.x(1) - frame.x(0)))
    body = []
    for i, (name, count) in enumerate(named):
        body.append(f"<rect {_bar(frame, i, 1, count)}><title>{escape(name)}: {count}</title></rect>")
        if i % every == 0 and frame.x(i) + wide <= WIDTH:
            body.append(f'<text x="{frame.x(i):.1f}" y="{HEIGHT - 24}">{escape(name)}</text>')
    summary = ", ".join(f"{name}: {count}" for name, count in named)
    return _figure([*_levels(frame), *body], title=title, legend="", summary=summary)


def _bins(values: Mapping[int, int] | Mapping[str, int], most: int) -> list[tuple[str, int]]:
    numbers = {key: count for key, count in values.items() if isinstance(key, int)}
    if not numbers:
        return [(str(key), count) for key, count in values.items()]
    low, high = min(numbers), max(numbers)
    wide = -(-(high - low + 1) // most)
    bins = Counter(dict.fromkeys(range(low, high + 1, wide), 0))
    for value, count in numbers.items():
        bins[low + (value - low) // wide * wide] += count
    return [(str(start) if wide == 1 else f"{start}–{start + wide - 1}", bins[start]) for start in sorted(bins)]


@dataclass(frozen=True)
class _Frame:
    """The map from values to places in the picture."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.left) / ((self.right - self.left) or 1)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.low) / ((self.high - self.low) or 1)


def _most(series: Sequence[Series]) -> float:
    return max((b for entry in series for _, b in entry.points), default=1.0) or 1.0


def _bar(frame: _Frame, place: float, width: float, value: float) -> str:
    """Return the attributes of a bar at ``place``."""
    left, right = frame.x(place), frame.x(place + width)
    return (
        f'class="a" x="{left:.1f}" y="{frame.y(value):.1f}" width="{max(1, right - left - 1):.1f}" '
        f'height="{frame.y(0) - frame.y(value):.1f}"'
    )


def _levels(frame: _Frame) -> list[str]:
    """Return the lowest, middle and highest value of the vertical axis with their lines."""
    marks = []
    for share in (0, 0.5, 1):
        value = frame.low + share * (frame.high - frame.low)
        place = f"{frame.y(value):.1f}"
        marks.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place}" y2="{place}"/>')
        marks.append(f'<text x="{LEFT - 4}" y="{frame.y(value) + 4:.1f}" text-anchor="end">{short(value)}</text>')
    return marks


def _of_series(frame: _Frame, body: Sequence[str], series: Sequence[Series], *, title: str, x: str, y: str) -> Markup:
    marks = _levels(frame)
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        place = frame.left + share * (frame.right - frame.left)
        marks.append(f'<text x="{frame.x(place):.1f}" y="{HEIGHT - 24}" text-anchor="{anchor}">{short(place)}</text>')
    marks.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
    keys = "".join(f'<span class="key {entry.tone}">{escape(entry.name)}</span> ' for entry in series)
    summary = "; ".join(f"{entry.name}: {_in_words(entry)}" for entry in series)
    legend = f' <span class="unit">{escape(y)}</span><br>{keys}'
    return _figure([*marks, *body], title=title, legend=legend, summary=summary)


def _figure(drawing: Sequence[str], *, title: str, legend: str, summary: str) -> Markup:
    return Markup(
        f'<figure class="chart"><figcaption><strong>{escape(title)}</strong>{legend}</figcaption>'
        f'<svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{escape(title)}. {escape(summary)}">'
        f"{''.join(drawing)}</svg></figure>"
    )


def _in_words(series: Series) -> str:
    if not series.points:
        return "nothing"
    peak, last = max(series.points, key=lambda point: point[1]), series.points[-1]
    return f"highest {short(peak[1])} at {short(peak[0])}, last {short(last[1])} at {short(last[0])}"


def short(value: float) -> str:
    """Return a number for an axis."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
