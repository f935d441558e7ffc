"""A line plot with confidence bands as inline SVG: logarithmic x axis, two or more series."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from smalti.eval.bootstrap import Interval

WIDTH, HEIGHT = 520, 380
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 46, 50


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve."""

    label: str
    style: str
    """CSS class that gives the color: "ours" or "theirs"."""
    x: tuple[float, ...]
    y: tuple[Interval, ...]
    notes: tuple[str, ...] = ()
    """A word at each point."""


def line_plot(series: Sequence[Series], *, title: str, x_label: str, y_digits: int = 0) -> str:
    """An <svg> of curves over a logarithmic x axis, with 95 % bands, axis ticks and a legend."""
    xs = [x for s in series for x in s.x]
    lows = [y.low for s in series for y in s.y]
    highs = [y.high for s in series for y in s.y]
    x_range = (math.log(min(xs)) - 0.12, math.log(max(xs)) + 0.25)
    ticks = nice_ticks(min(lows), max(highs))
    frame = _Frame(x_range, (ticks[0], ticks[-1]))
    parts = [_axes(frame, ticks, sorted({x for s in series for x in s.x}), x_label, y_digits)]
    parts += [_band(frame, s) for s in series]
    parts += [_curve(frame, s) for s in series]
    parts.append(_legend(series, title))
    label = f"{title} over {x_label}: " + ", ".join(s.label for s in series)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def nice_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers that enclose [low, high], about `count` of them.

    >>> nice_ticks(11.2, 22.9)
    [10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 22.0, 24.0]
    """
    span = max(high - low, 1e-6)
    raw = span / count
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 10) for i in range(first, last + 1)]


@dataclass(frozen=True)
class _Frame:
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (math.log(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _axes(frame: _Frame, ticks: Sequence[float], xs: Sequence[float], x_label: str, digits: int) -> str:
    parts = []
    for tick in ticks:
        y = frame.y(tick)
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.{digits}f}</text>')
    bottom = HEIGHT - BOTTOM
    for x in _spread(frame, xs):
        at = frame.x(x)
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 19}" text-anchor="middle">{_short(x)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(parts)


def _spread(frame: _Frame, xs: Sequence[float], gap: float = 44) -> list[float]:
    """The x values that can be labelled without their labels touching; the largest always is."""
    kept: list[float] = []
    for x in reversed(xs):
        if not kept or frame.x(kept[-1]) - frame.x(x) >= gap:
            kept.append(x)
    return kept[::-1]


def _short(x: float) -> str:
    return f"{x:.4f}".rstrip("0").rstrip(".") if x < 0.1 else f"{x:.2f}"


def _band(frame: _Frame, series: Series) -> str:
    upper = [f"{frame.x(x):.1f},{frame.y(y.high):.1f}" for x, y in zip(series.x, series.y, strict=True)]
    lower = [f"{frame.x(x):.1f},{frame.y(y.low):.1f}" for x, y in zip(series.x, series.y, strict=True)]
    return f'<polygon class="{series.style}" points="{" ".join(upper + lower[::-1])}"/>'


def _curve(frame: _Frame, series: Series) -> str:
    points = [(frame.x(x), frame.y(y.value)) for x, y in zip(series.x, series.y, strict=True)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle class="{series.style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points)
    notes = "".join(
        f'<text class="{series.style}" x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle">{escape(note)}</text>'
        for (x, y), note in zip(points, series.notes, strict=False)
    )
    return f'<polyline class="{series.style}" points="{line}"/>{dots}{notes}'


def _legend(series: Sequence[Series], title: str) -> str:
    parts = [f'<text class="title" x="{LEFT - 34}" y="24">{escape(title)}</text>']
    x = WIDTH - RIGHT
    for s in reversed(series):
        x -= 7 * len(s.label)
        parts.append(f'<text class="{s.style}" x="{x}" y="24">{escape(s.label)}</text>')
        parts.append(f'<circle class="{s.style}" cx="{x - 9}" cy="20" r="4"/>')
        x -= 34
    return "".join(parts)
