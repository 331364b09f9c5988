"""Charts as inline SVG: no library, no script, and the numbers in words for those who do not see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 40  # room for the axes' numbers


@dataclass(frozen=True, kw_only=True)
class Series:
    """A name and points (x, y), drawn in the colour ``tone`` of the style sheet: a or b."""

    name: str
    points: tuple[tuple[float, float], ...]
    tone: str = "a"


def histogram(
    values: Sequence[float], others: Sequence[float], names: tuple[str, str], *, width: float
) -> list[Series]:
    """Shares in percent of two sets of values in bins of this ``width``, both over the same bins."""
    top = max([*values, *others], default=0.0)
    bins = min(40, max(1, math.floor(top / width) + 1))
    found = []
    for name, tone, chosen in zip(names, "ab", (values, others), strict=True):
        counts = [0] * bins
        for value in chosen:
            counts[min(bins - 1, max(0, int(value / width)))] += 1
        shares = [(place * width, 100 * count / max(1, len(chosen))) for place, count in enumerate(counts)]
        found.append(Series(name=name, points=tuple(shares), tone=tone))
    return found


def bars(series: Sequence[Series], *, title: str, x: str, y: str, width: float) -> str:
    """Bars of the first series with the second one as a stepped line upon them."""
    places = [point[0] for one in series for point in one.points]
    frame = _Frame(min(places, default=0), max(places, default=0) + width, 0, _most(series))
    body = []
    for a, b in (point for one in series[:1] for point in one.points):
        left, right = frame.x(a), frame.x(a + width)
        body.append(
            f'<rect class="a" x="{left:.1f}" y="{frame.y(b):.1f}" width="{max(1, right - left - 1):.1f}" '
            f'height="{frame.y(0) - frame.y(b):.1f}"/>'
        )
    for one in series[1:]:
        steps = " ".join(f"{frame.x(a + d):.1f},{frame.y(b):.1f}" for a, b in one.points for d in (0, width))
        body.append(f'<polyline class="b" points="{steps}"/>')
    return _figure(frame, body, series, title=title, x=x, y=y)


def lines(series: Sequence[Series], *, title: str, x: str, y: str) -> str:
    """Curves over a common axis."""
    points = [point for one in series for point in one.points]
    xs, ys = [a for a, _ in points], [b for _, b in points]
    low, high = (min(ys), max(ys)) if ys else (0, 1)
    frame = _Frame(min(xs, default=0), max(xs, default=1), low, high if high > low else low + 1)
    body = []
    for one in series:
        path = " ".join(f"{frame.x(a):.1f},{frame.y(b):.1f}" for a, b in one.points)
        body.append(f'<polyline class="{one.tone}" points="{path}"/>')
        if len(one.points) == 1:
            a, b = one.points[0]
            body.append(f'<circle class="{one.tone}" cx="{frame.x(a):.1f}" cy="{frame.y(b):.1f}" r="3"/>')
    return _figure(frame, body, series, title=title, x=x, y=y)


@dataclass(frozen=True)
class _Frame:
    """From values to places in the picture."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.left) / ((self.right - self.left) or 1)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.low) / ((self.high - self.low) or 1)


def _most(series: Sequence[Series]) -> float:
    return max((b for one in series for _, b in one.points), default=1.0) or 1.0


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
    legend = "".join(f'<span class="key {one.tone}">{escape(one.name)}</span> ' for one in series)
    told = "; ".join(f"{one.name}: {_in_words(one)}" for one in series)
    return (
        f'<figure class="chart"><figcaption><strong>{escape(title)}</strong> <span class="unit">{escape(y)}</span><br>'
        f'{legend}</figcaption><svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'aria-label="{escape(title)}. {escape(told)}">'
        f"{''.join(marks)}{axis}{''.join(body)}</svg></figure>"
    )


def _in_words(one: Series) -> str:
    if not one.points:
        return "nothing"
    peak, last = max(one.points, key=lambda point: point[1]), one.points[-1]
    return f"highest {short(peak[1])} at {short(peak[0])}, last {short(last[1])} at {short(last[0])}"


def short(value: float) -> str:
    """A number for an axis."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
