"""Means with bootstrap confidence intervals."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROUNDS = 1000
AT_ONCE = 1 << 20
"""Draws in memory, 16 bytes each: all of 1000 rounds over 10,000 images would be 160 MB a metric."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over images and its 95 % percentile interval."""

    value: float
    low: float
    high: float
    n: int
    """Number of images."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def __format__(self, spec: str) -> str:
        """The mean and half the width of the interval, e.g. "21.3 ±0.4" for the format ".1f"."""
        return f"{self.value:{spec}} ±{(self.high - self.low) / 2:{spec}}"


def mean_interval(values: Tensor, *, seed: int = 0, rounds: int = ROUNDS) -> Interval:
    """Mean of finite values [N] and its 95 % percentile bootstrap interval over images.

    For a paired comparison pass the differences. The same seed and N draw the same images, so intervals of several
    metrics over one set are comparable. With one image there is no spread: the interval is the value.
    """
    numbers = torch.as_tensor(values).detach().cpu().numpy().astype(np.float64)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"mean_interval needs at least one finite number, got {numbers.tolist()[:8]}")
    low, high = np.percentile(_means(numbers, seed, rounds), [2.5, 97.5])
    return Interval(value=float(numbers.mean()), low=float(low), high=float(high), n=len(numbers))


def _means(numbers: np.ndarray, seed: int, rounds: int) -> np.ndarray:
    """Means of `rounds` resamples, a few at a time; the draws are those of one array [rounds, N]."""
    random, n = np.random.default_rng(seed), len(numbers)
    at_once = max(1, AT_ONCE // n)
    sizes = [min(at_once, rounds - start) for start in range(0, rounds, at_once)]
    return np.concatenate([numbers[random.integers(n, size=(size, n))].mean(axis=1) for size in sizes])
