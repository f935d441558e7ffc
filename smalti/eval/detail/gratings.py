"""Lock-in analysis of sinusoidal gratings: what of a wave is kept, and what is put in its place.

Shape suffixes: B batch, H W pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.detail.signal import check_gray, first_crossing, hann


@dataclass(frozen=True, kw_only=True, eq=False)
class LockIn:
    """Gratings of reconstructions against those of the charts; all float64 [B]."""

    gain: Tensor
    """|<r, b>| / |<x, b>| for the wave b."""
    phase: Tensor
    """Radians by which the wave moved."""
    coherence2: Tensor
    """<r, x>^2 / (<r, r> <x, x>): share of the reconstruction's energy that is the chart; 0 for a flat one."""
    energy: Tensor
    """<r, r> / <x, x>."""

    @property
    def faithful(self) -> Tensor:
        """Faithful contrast: gain cos(phase), 1 for a perfect copy, negative for an inverted wave."""
        return self.gain * torch.cos(self.phase)

    @property
    def hallucinated(self) -> Tensor:
        """Hallucinated energy: energy - faithful^2, what was not in the chart; 0 for a perfect copy or a flat image."""
        return self.energy - self.faithful.square()


def lock_in(reference: Tensor, images: Tensor, u: Tensor, v: Tensor) -> LockIn:
    """Compares waves of frequency u, v [B] (cycles per pixel along x and y) in [B, H, W] charts and reconstructions.

    With a periodic Hann window w, <a, b> = sum(w a conj(b)), x and r with their weighted means removed and
    b = exp(2 pi i (u x + v y)). Errors: ValueError for images of different shapes, below 8 pixels, NaN, or a
    chart without the wave.
    """
    check_gray(reference, images, minimum=8, what="the lock-in")
    height, width = images.shape[1:]
    window = hann(height, width).to(images.device)
    x, r = (_centered(t.double(), window) for t in (reference, images))
    columns = torch.arange(width, dtype=torch.float64, device=images.device)
    rows = torch.arange(height, dtype=torch.float64, device=images.device)[:, None]
    turns = u.to(columns)[:, None, None] * columns + v.to(columns)[:, None, None] * rows
    wave = torch.polar(window.expand_as(turns), -2 * math.pi * turns)
    xb, rb = (wave * x).sum(dim=(1, 2)), (wave * r).sum(dim=(1, 2))
    xx, xr, rr = ((window * a * b).sum(dim=(1, 2)) for a, b in ((x, x), (x, r), (r, r)))
    if bool((xb.abs() <= 1e-6 * window.sum()).any()):
        raise ValueError("a chart does not hold the wave of its frequency u, v: pass the frequencies it was made with")
    ratio = rb / xb
    coherence2 = torch.where(rr > 0, xr.square() / (rr * xx), 0.0)
    return LockIn(gain=ratio.abs(), phase=ratio.angle(), coherence2=coherence2, energy=rr / xx)


def f50(frequency: Tensor, faithful: Tensor) -> Tensor:
    """float64 [...]: the first of the ascending frequencies [F] at which faithful contrast [..., F] is below 0.5.

    Linearly interpolated; inf if never, the first frequency if at once.
    """
    return first_crossing(frequency, faithful, 0.5)


def third_octaves(lowest: float, highest: float = 0.5, step: int = 1) -> list[float]:
    """Ascending frequencies in cycles per pixel, step/3 octaves apart, `highest` included.

    >>> third_octaves(1 / 8, step=3)
    [0.125, 0.25, 0.5]
    """
    count = math.floor(3 / step * math.log2(highest / lowest) + 1e-9)
    return [highest * 2 ** (-k * step / 3) for k in range(count, -1, -1)]


def _centered(images: Tensor, window: Tensor) -> Tensor:
    means = (images * window).sum(dim=(1, 2)) / window.sum()
    return images - means[:, None, None]
