"""Curves and points of several subjects as inline SVG: linear or logarithmic x, bands, a legend under the title."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from smalti.eval.report.plot import nice_ticks

WIDTH, HEIGHT = 520, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 30, 46
COLORS = 6
"""Style classes c0 .. c5 of the style sheet, used in turn."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One subject's curve or points."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    points: bool = False
    """Points joined by a thin line, for measurements at a few places."""


def curves_plot(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str = "",
    log_x: bool = False,
    floor: float | None = None,
) -> str:
    """A <figure> with an <svg> and its legend; "" without any point. `floor`: lowest y of the axis."""
    lines = [line for line in lines if line.x]
    if not lines:
        return ""
    scale: Callable[[float], float] = math.log if log_x else lambda v: v
    xs = [scale(v) for line in lines for v in line.x]
    ys = [v for line in lines for v in (*line.y, *line.low, *line.high)]
    lowest = min(ys) if floor is None else floor
    ticks = nice_ticks(lowest, max(*ys, lowest + 1e-3), 5)
    bottom = ticks[0]
    x0, x1 = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1
    pad = 0.04 * (x1 - x0)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (scale(x) - x0 + pad) / (x1 - x0 + 2 * pad)
        up = (max(y, bottom) - bottom) / (ticks[-1] - bottom)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(ticks, at, x_label, y_label, lines[0].x[0])]
    x_ticks = sorted({v for line in lines for v in line.x}) if log_x else nice_ticks(x0, x1, 5)
    parts.append(_x_axis([v for v in x_ticks if x0 - pad <= scale(v) <= x1 + pad], at, ticks[0]))
    for i, line in enumerate(lines):
        parts.append(_line(line, f"c{i % COLORS}", at))
    legend = "".join(f'<span class="c{i % COLORS}"><i></i>{escape(line.label)}</span>' for i, line in enumerate(lines))
    label = escape(f"{title} over {x_label}: {', '.join(line.label for line in lines)}")
    return (
        f'<figure class="plot"><h3>{escape(title)}</h3><p class="legend">{legend}</p>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg></figure>'
    )


Place = Callable[[float, float], tuple[float, float]]


def _grid(ticks: Sequence[float], at: Place, x_label: str, y_label: str, some_x: float) -> str:
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0])))
    parts = []
    for tick in ticks:
        y = at(some_x, tick)[1]
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.{digits}f}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text x="{LEFT - 44}" y="18">{escape(y_label)}</text>')
    return "".join(parts)


def _x_axis(values: Sequence[float], at: Place, bottom: float, gap: float = 46) -> str:
    parts, last = [], -gap
    for value in values:
        x, y = at(value, bottom)
        if x - last < gap:
            continue
        last = x
        shown = f"{value:.3f}".rstrip("0").rstrip(".") if value < 10 else f"{value:.0f}"
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 5:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{shown}</text>')
    return "".join(parts)


def _line(line: Line, style: str, at: Place) -> str:
    points = [at(x, y) for x, y in zip(line.x, line.y, strict=True)]
    drawn = ""
    if line.low and line.high:
        upper = [at(x, y) for x, y in zip(line.x, line.high, strict=True)]
        lower = [at(x, y) for x, y in zip(line.x, line.low, strict=True)][::-1]
        drawn = f'<polygon class="{style}" points="{_joined(upper + lower)}"/>'
    drawn += f'<polyline class="{style}" points="{_joined(points)}"/>'
    if line.points:
        drawn += "".join(f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points)
    return drawn


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
