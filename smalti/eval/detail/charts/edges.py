"""Slanted edges with an exact area-sampled profile.

Shape suffixes: B batch, H W pixels.
"""

import math

import torch
from torch import Tensor

from smalti.eval.detail.charts.sampling import check_side


def slanted_edge(
    height: int,
    width: int,
    *,
    angle: float,
    levels: tuple[float, float],
    sigma: float = 0.0,
    offset: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """float64 [H, W]: `levels[0]` left of a straight edge, `levels[1]` right of it.

    The edge runs at `angle` degrees from the vertical (positive: to the right going down) through the center of the
    image shifted by `offset` (x, y) pixels; it is blurred by a Gaussian of `sigma` pixels before sampling. A pixel is
    the integral over its unit square: with a, b = |cos|, |sin| of the angle and G the second integral of the blurred
    step, (G(d + (a+b)/2) - G(d + (a-b)/2) - G(d - (a-b)/2) + G(d - (a+b)/2)) / (a b) at the distance d of its center.
    The MTF along the normal is therefore exp(-2 pi^2 sigma^2 f^2) |sinc(f a) sinc(f b)|, exactly.
    """
    check_side(min(height, width), 16, "a slanted edge")
    theta = math.radians(angle)
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2 - offset[0]
    y = torch.arange(height, dtype=torch.float64)[:, None] - (height - 1) / 2 - offset[1]
    distance_HW = x * math.cos(theta) - y * math.sin(theta)
    return levels[0] + (levels[1] - levels[0]) * half_plane(distance_HW, angle, sigma)


def half_plane(distance: Tensor, angle: float, sigma: float = 0.0) -> Tensor:
    """float64 [H, W] in 0 to 1: the share of each pixel right of a straight edge, exactly.

    `distance` [H, W] of the pixel centers from the edge in pixels, positive to the right; `angle` and `sigma` as in
    `slanted_edge`.
    """
    theta = math.radians(angle)
    a, b = (max(abs(v), 1e-5) for v in (math.cos(theta), math.sin(theta)))  # 0 would divide by 0; 1e-5 px is nothing
    near, far = (a - b) / 2, (a + b) / 2
    outer_HW = _ramp(distance + far, sigma) + _ramp(distance - far, sigma)
    inner_HW = _ramp(distance + near, sigma) + _ramp(distance - near, sigma)
    return (outer_HW - inner_HW) / (a * b)


def _ramp(t: Tensor, sigma: float) -> Tensor:
    """Second integral of a step blurred by a Gaussian: E[max(t + sigma z, 0)^2] / 2 for a standard normal z."""
    if sigma == 0:
        return t.clamp(min=0).square() / 2
    z = t / sigma
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    return ((t.square() + sigma**2) * torch.special.ndtr(z) + t * sigma * density) / 2
