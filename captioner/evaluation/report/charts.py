"""Charts as inline SVG without library or script, with the numbers as alternative text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 40  # margins for the axes' numbers


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


def bars(series: Sequence[Series], *, title: str, x: str, y: str, width: float) -> str:
    """Return the first series as bars, with the second as a stepped line over them."""
    places = [point[0] for entry in series for point in entry.points]
    frame = _Frame(min(places, default=0), max(places, default=0) + width, 0, _most(series))
    body = []
    for a, b in (point for entry in series[:1] for point in entry.points):
        left, right = frame.x(a), frame.x(a + width)
        body.append(
            f'<rect class="a" x="{left:.1f}" y="{frame.y(b):.1f}" width="{max(1, right - left - 1):.1f}" '
            f'height="{frame.y(0) - frame.y(b):.1f}"/>'
        )
    for entry in series[1:]:
        steps = " ".join(f"{frame.x(a + d):.1f},{frame.y(b):.1f}" for a, b in entry.points for d in (0, width))
        body.append(f'<polyline class="b" points="{steps}"/>')
    return _figure(frame, body, series, title=title, x=x, y=y)


def lines(series: Sequence[Series], *, title: str, x: str, y: str) -> str:
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
    return _figure(frame, body, series, title=title, x=x, y=y)


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


def _figure(frame: _Frame, body: Sequence[str], series: Sequence[Series], *, title: str, x: str, y: str) -> str:
    marks = []
    for share in (0, 0.5, 1):
        value, place = frame.low + share * (frame.high - frame.low), frame.left + share * (frame.right - frame.left)
        y_place = f"{frame.y(value):.1f}"
        marks.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_place}" y2="{y_place}"/>')
        marks.append(f'<text x="{LEFT - 4}" y="{frame.y(value) + 4:.1f}" text-anchor="end">{short(value)}</text>')
        anchor = ("start", "middle", "end")[int(2 * share)]
        marks.append(f'<text x="{frame.x(place):.1f}" y="{HEIGHT - 24}" text-anchor="{anchor}">{short(place)}</text>')
    axis = f'<text class="axis" x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>'
    legend = "".join(f'<span class="key {entry.tone}">{escape(entry.name)}</span> ' for entry in series)
    summary = "; ".join(f"{entry.name}: {_in_words(entry)}" for entry in series)
    return (
        f'<figure class="chart"><figcaption><strong>{escape(title)}</strong> <span class="unit">{escape(y)}</span><br>'
        f'{legend}</figcaption><svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'aria-label="{escape(title)}. {escape(summary)}">'
        f"{''.join(marks)}{axis}{''.join(body)}</svg></figure>"
    )


def _in_words(series: Series) -> str:
    if not series.points:
        return "nothing"
    peak, last = max(series.points, key=lambda point: point[1]), series.points[-1]
    return f"highest {short(peak[1])} at {short(peak[0])}, last {short(last[1])} at {short(last[0])}"


def short(value: float) -> str:
    """Return a number for an axis."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
