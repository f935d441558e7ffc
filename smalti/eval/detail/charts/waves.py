"""Sinusoids and the charts whose local frequency changes with the radius.

Shape suffixes: B batch, H W pixels.
"""

import math

import torch
from torch import Tensor

from smalti.eval.detail.charts.sampling import area_sample, check_side

GRAY = (1.0, 1.0, 1.0)
RED_GREEN = (1.0, -0.2126 / 0.7152, 0.0)
"""RGB direction of constant luminance (.2126 R + .7152 G + .0722 B) from green to red."""
BLUE_YELLOW = (-0.0722 / 0.9278, -0.0722 / 0.9278, 1.0)
"""RGB direction of constant luminance from yellow to blue."""


def grating(size: int, u: Tensor, v: Tensor, phase: Tensor, contrast: Tensor) -> Tensor:
    """float64 [B, H, W]: 0.5 + contrast/2 cos(2 pi (u x + v y) + phase), area sampled, pixel (0, 0) at x = y = 0.

    `u`, `v` [B] in cycles per pixel, `phase` [B] in radians, `contrast` [B] in 0 to 1. The integral over a pixel is
    the same wave times sinc(u) sinc(v), so sampling is exact.
    """
    check_side(size, 8, "a grating")
    at = torch.arange(size, dtype=torch.float64)
    u, v, phase, contrast = (t.double()[:, None, None] for t in (u, v, phase, contrast))
    wave_BHW = torch.cos(2 * math.pi * (u * at + v * at[:, None]) + phase)
    return 0.5 + contrast / 2 * torch.sinc(u) * torch.sinc(v) * wave_BHW


def chroma(wave: Tensor, direction: tuple[float, float, float]) -> Tensor:
    """float64 [B, 3, H, W]: a gray pattern [B, H, W] around 0.5 drawn along a direction of RGB."""
    axis = torch.tensor(direction, dtype=torch.float64)[:, None, None]
    return 0.5 + (wave - 0.5)[:, None] * axis


def zone_plate(size: int, oversample: int = 16) -> Tensor:
    """float64 [H, W]: 0.5 + 0.5 cos(pi r^2 / (2 R)), R = floor(size / 2): r / (2 R) cycles per pixel at radius r.

    The Nyquist frequency is reached at r = R. `oversample=1` gives the values at the pixel centers.
    """
    check_side(size, 16, "a zone plate")
    radius, middle = size // 2, size / 2

    def pattern(x: Tensor, y: Tensor) -> Tensor:
        return 0.5 + 0.5 * torch.cos(math.pi * ((x - middle) ** 2 + (y - middle) ** 2) / (2 * radius))

    return area_sample(pattern, size, size, oversample)


def siemens_star(size: int, cycles: int = 24, oversample: int = 8) -> Tensor:
    """float64 [H, W] in 0 to 1: the sign of sin(cycles phi), area sampled; cycles / (2 pi r) cycles per pixel."""
    check_side(size, 16, "a Siemens star")
    middle = size / 2

    def pattern(x: Tensor, y: Tensor) -> Tensor:
        return torch.sin(cycles * torch.atan2(y - middle, x - middle)) > 0

    return area_sample(pattern, size, size, oversample)


def local_frequency(size: int) -> Tensor:
    """float64 [H, W]: cycles per pixel of `zone_plate(size)` at each pixel."""
    return _radius(size) / (2 * (size // 2))


def siemens_frequency(size: int, cycles: int = 24) -> Tensor:
    """float64 [H, W]: cycles per pixel of `siemens_star(size, cycles)` at each pixel, infinite outside the disk."""
    radius = _radius(size)
    inside = (radius > 0) & (radius <= size / 2)
    return torch.where(inside, cycles / (2 * math.pi * radius.clamp(min=1e-9)), torch.inf)


def _radius(size: int) -> Tensor:
    at = torch.arange(size, dtype=torch.float64) + 0.5 - size / 2
    return torch.hypot(at[None], at[:, None])
