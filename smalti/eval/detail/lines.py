"""What becomes of thin lines: how much of their contrast, along how much of their length.

Shape suffixes: B batch, H W pixels, S steps along a line.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.detail.charts.shapes import line_distance
from smalti.eval.detail.signal import by_label

STEP = 4.0
"""Pixels along the line of one step."""
REACH = 6.0
"""Pixels on either side of the line that are read with it."""
KEPT = 0.5
"""Share of its contrast at which a step counts as there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LineContrast:
    """Lines of reconstructions against those of the charts."""

    steps: Tensor
    """float64 [B, S]: faithful contrast of each step of 4 px along the line, NaN beyond its end."""

    @property
    def contrast(self) -> Tensor:
        """float64 [B]: mean over the steps; 1 for a perfect copy."""
        return self.steps.nanmean(dim=1)

    @property
    def continuity(self) -> Tensor:
        """float64 [B]: share of the steps that keep half of their contrast."""
        there = (self.steps >= KEPT).double().where(~self.steps.isnan(), math.nan)
        return there.nanmean(dim=1)

    @property
    def longest(self) -> Tensor:
        """float64 [B]: longest unbroken stretch of such steps, in pixels."""
        run = torch.zeros(len(self.steps), dtype=torch.float64)
        best = run.clone()
        for column in self.steps.unbind(dim=1):
            run = torch.where(column >= KEPT, run + STEP, 0.0)
            best = torch.maximum(best, run)
        return best


def line_contrast(
    reference: Tensor, images: Tensor, angles: list[float], offsets: list[tuple[float, float]]
) -> LineContrast:
    """Reads lines drawn by `thin_line` with these angles and offsets in [B, n, n] charts and reconstructions.

    Within 6 px of the line and for every 4 px along it, the reconstruction is regressed on the chart (`by_label`).
    """
    size = reference.shape[-1]
    count = 2 * math.ceil(size / math.sqrt(2) / STEP) + 2
    labels = [_steps(size, angle, offset, count) for angle, offset in zip(angles, offsets, strict=True)]
    faithful, _ = by_label(reference, images, torch.stack(labels), count)
    return LineContrast(steps=faithful)


def _steps(size: int, angle: float, offset: tuple[float, float], count: int) -> Tensor:
    """int64 [n, n]: the step along the line each pixel belongs to, -1 far from it and at the rim of the image."""
    at = torch.arange(size, dtype=torch.float64) + 0.5
    x, y = at[None], at[:, None]
    across = line_distance(x, y, size, angle, offset)
    along = line_distance(x, y, size, angle - 90, offset)  # the same line turned by a right angle
    step = (along / STEP).floor().long() + count // 2
    rim = torch.zeros(size, size, dtype=torch.bool)
    rim[2:-2, 2:-2] = True
    inside = (across.abs() <= REACH) & rim & (step >= 0) & (step < count)
    return torch.where(inside, step, -1)
