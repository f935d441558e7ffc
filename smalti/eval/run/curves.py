"""A metric over token budgets as two numbers: its area and its knee."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class BudgetCurve:
    """A metric at every budget of one tokenizer."""

    budgets: tuple[int, ...]
    bits: tuple[float, ...]
    values: tuple[float, ...]
    area: float | None
    """Mean of the metric over log2 of the bits, by trapezoids between the first and the last budget."""
    knee: int | None
    """Budget of the largest distance to the chord from first to last point, both axes scaled to 1: more tokens than
    this buy less. None below three budgets or without any change."""


def budget_curve(budgets: Sequence[int], bits: Sequence[float], values: Sequence[float]) -> BudgetCurve:
    """Area and knee of values over budgets in ascending order.

    >>> budget_curve([1, 2, 4, 8], [8.0, 16.0, 32.0, 64.0], [10.0, 18.0, 19.0, 20.0]).knee
    2
    """
    xs = [math.log2(b) for b in bits]
    points = list(zip(xs, values, strict=True))
    span = xs[-1] - xs[0] if len(xs) > 1 else 0.0
    area = None
    if span > 0:
        area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points)) / span
    return BudgetCurve(
        budgets=tuple(budgets), bits=tuple(bits), values=tuple(values), area=area, knee=_knee(budgets, points)
    )


def _knee(budgets: Sequence[int], points: Sequence[tuple[float, float]]) -> int | None:
    (x0, y0), (x1, y1) = points[0], points[-1]
    if len(points) < 3 or x0 == x1 or y0 == y1:
        return None
    above = [(y - y0) / (y1 - y0) - (x - x0) / (x1 - x0) for x, y in points]
    best = max(range(len(points)), key=lambda i: above[i])
    return budgets[best] if above[best] > 0 else None
