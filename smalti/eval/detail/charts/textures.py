"""Textures with the statistics of natural images: dead leaves and 1/f noise."""

import math

import numpy as np
import torch
from torch import Tensor

from smalti.eval.detail.charts.sampling import check_side

OVERSAMPLE = 4


def dead_leaves(size: int, generator: np.random.Generator, *, smallest: float = 0.75, largest: float = 0.25) -> Tensor:
    """float64 [3, H, W] in 0.05 to 0.95: disks that cover each other (Lee, Mumford, Huang, IJCV 41, 2001).

    Radii follow the density r^-3 between `smallest` pixels and `largest` times the size, colors are uniform; area
    sampled with 4 x 4 points a pixel. Painted front to back until nothing of the ground is left.
    """
    check_side(size, 16, "a dead-leaves chart")
    side = size * OVERSAMPLE
    picture = np.zeros((3, side, side))
    empty = np.ones((side, side), bool)
    low, high = smallest * OVERSAMPLE, largest * side
    while empty.any():
        count = 512
        radii = 1 / np.sqrt(generator.uniform(1 / high**2, 1 / low**2, count))
        centers = generator.uniform(-high, side + high, (count, 2))
        colors = generator.uniform(0.05, 0.95, (count, 3))
        if empty.mean() < 0.02:  # the last gaps are as good as never met by chance: draw around them
            holes = np.argwhere(empty)
            centers = holes[generator.integers(len(holes), size=count)] + generator.uniform(-1, 1, (count, 2))
        for center, radius, color in zip(centers, radii, colors, strict=True):
            _paint(picture, empty, center, radius, color)
    shape = (3, size, OVERSAMPLE, size, OVERSAMPLE)
    return torch.from_numpy(picture.reshape(shape).mean(axis=(2, 4)))


def _paint(picture: np.ndarray, empty: np.ndarray, center: np.ndarray, radius: float, color: np.ndarray) -> None:
    """Colors the pixels of a disk that are still empty."""
    low = np.maximum(np.floor(center - radius).astype(int), 0)
    high = np.minimum(np.ceil(center + radius).astype(int) + 1, empty.shape[0])
    if (low >= high).any():
        return
    box = (slice(low[0], high[0]), slice(low[1], high[1]))
    if not empty[box].any():
        return
    y, x = (np.arange(a, b) - c for a, b, c in zip(low, high, center, strict=True))
    fresh = empty[box] & (x**2 + (y**2)[:, None] <= radius**2)
    picture[:, *box][:, fresh] = color[:, None]
    empty[box] &= ~fresh


def pink_noise(size: int, generator: np.random.Generator, *, deviation: float = 0.15) -> Tensor:
    """float64 [H, W] in 0 to 1: Gaussian noise of amplitude 1/f, mean 0.5 and the given standard deviation, clipped."""
    check_side(size, 16, "a noise chart")
    spectrum = np.fft.fft2(generator.standard_normal((size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    frequency[0, 0] = math.inf
    noise = np.fft.ifft2(spectrum / frequency).real
    return torch.from_numpy((0.5 + deviation * noise / noise.std()).clip(0, 1))
