"""Landolt rings, three-bar targets and thin lines, area sampled.

Shape suffixes: P placements, H W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.detail.charts.edges import half_plane
from smalti.eval.detail.charts.sampling import area_sample, check_side

ORIENTATIONS = 8
"""Gaps of a Landolt ring point to k * 45 degrees, counter-clockwise from the right."""
MARGIN = 4
"""Pixels around a ring in its cell."""


def landolt_cell(gap: float) -> int:
    """Side in pixels of the cell of a ring with this gap.

    >>> landolt_cell(1.25)
    15
    """
    return math.ceil(5 * gap) + 2 * MARGIN


def landolt_rings(
    gap: float, offsets: Sequence[tuple[float, float]], *, levels: tuple[float, float] = (0.9, 0.1), cell: int = 0
) -> Tensor:
    """float64 [P, 8, s, s]: Landolt rings (ISO 8596) in all orientations at each sub-pixel offset.

    The ring has diameter 5 gap, stroke gap and a gap of width gap with parallel sides; `offsets` (x, y) move its
    center from the center of the cell; `levels` are background and ring; `cell` is the side s (default:
    `landolt_cell(gap)`). 16 x 16 points a pixel, 8 x 8 for gaps above 4 px.
    """
    side = cell or landolt_cell(gap)
    if gap <= 0 or side < 5 * gap:
        raise ValueError(f"a ring of gap {gap} px is {5 * gap:g} px wide and does not fit its cell of {side} px")

    def pattern(x: Tensor, y: Tensor, offset: tuple[float, float]) -> Tensor:
        right, up = x - side / 2 - offset[0], side / 2 + offset[1] - y
        square = right**2 + up**2
        ring = (square <= (2.5 * gap) ** 2) & (square >= (1.5 * gap) ** 2)
        return torch.stack([ring & ~_gap(right, up, k, gap) for k in range(ORIENTATIONS)])

    points = 16 if gap <= 4 else 8
    ink = torch.stack([area_sample(lambda x, y, o=o: pattern(x, y, o), side, side, points) for o in offsets])
    return levels[0] + (levels[1] - levels[0]) * ink


def _gap(right: Tensor, up: Tensor, orientation: int, gap: float) -> Tensor:
    angle = orientation * math.pi / 4
    along = right * math.cos(angle) + up * math.sin(angle)
    across = up * math.cos(angle) - right * math.sin(angle)
    return (across.abs() <= gap / 2) & (along > 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class BarChart:
    """Three-bar elements: one pattern and the element each pixel belongs to."""

    gray: Tensor
    """float64 [H, W]."""
    element: Tensor
    """int64 [H, W]: index of the element, -1 outside."""
    widths: tuple[float, ...]
    """Bar width of each element in pixels: w_k = w_0 2^(-k/6)."""


def three_bars(size: int, *, vertical: bool, levels: tuple[float, float] = (0.9, 0.1), count: int = 24) -> BarChart:
    """Elements of three bars of width w and length 5 w, w apart, in rows from the top left (after USAF 1951).

    Widths fall by 2^(-1/6) from a sixteenth of the image, at most 8 px, down to 0.7 px, as far as there is room.
    """
    check_side(size, 16, "a bar chart")
    widest = min(8.0, size / 16)
    gray = torch.full((size, size), levels[0], dtype=torch.float64)
    element = torch.full((size, size), -1, dtype=torch.int64)
    kept: list[float] = []
    left = top = 1
    row = 0
    for k in range(count):
        width = widest * 2 ** (-k / 6)
        if width < 0.7:
            break
        side = math.ceil(5 * width) + 2
        if left + side > size:
            left, top, row = 1, top + row, 0
        if top + side > size:
            break
        box = (slice(top, top + side), slice(left, left + side))
        ink = _bars(side, width) if vertical else _bars(side, width).T
        gray[box] = levels[0] + (levels[1] - levels[0]) * ink
        element[box] = k
        kept.append(width)
        left, row = left + side, max(row, side)
    return BarChart(gray=gray, element=element, widths=tuple(kept))


def _bars(side: int, width: float) -> Tensor:
    start = (side - 5 * width) / 2

    def pattern(x: Tensor, y: Tensor) -> Tensor:
        inside = (y >= start) & (y < start + 5 * width)
        at = (x - start) / width
        return inside & (at >= 0) & (at < 5) & (at.floor() % 2 == 0)

    return area_sample(pattern, side, side)


def thin_line(
    size: int,
    *,
    width: float,
    angle: float,
    offset: tuple[float, float] = (0.0, 0.0),
    levels: tuple[float, float] = (0.9, 0.1),
) -> Tensor:
    """float64 [H, W]: a line of `width` pixels through the center (moved by `offset`), `angle` degrees from vertical.

    It crosses the whole image; a pixel is the exact integral over its unit square.
    """
    check_side(size, 16, "a thin line")
    centers = torch.arange(size, dtype=torch.float64) + 0.5
    distance_HW = line_distance(centers, centers[:, None], size, angle, offset)
    ink_HW = half_plane(distance_HW + width / 2, angle) - half_plane(distance_HW - width / 2, angle)
    return levels[0] + (levels[1] - levels[0]) * ink_HW


def line_distance(x: Tensor, y: Tensor, size: int, angle: float, offset: tuple[float, float]) -> Tensor:
    """Signed distance in pixels of the points (x, y) from the axis of `thin_line`."""
    theta = math.radians(angle)
    return (x - size / 2 - offset[0]) * math.cos(theta) - (y - size / 2 - offset[1]) * math.sin(theta)
