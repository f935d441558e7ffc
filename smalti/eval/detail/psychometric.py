"""Psychometric function of a forced choice: from right answers by size to the size that is just read.

Shape suffixes: B fits, G sizes.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

SLOPES = (0.5, 64.0)
"""Slopes that are looked for, per octave; a step in the answers has no finite slope of its own."""
REACH = 1.0
"""Octaves beyond the sizes shown in which the threshold is looked for."""
PASS = 0.75
"""Share of right answers that counts as read."""


@dataclass(frozen=True, kw_only=True)
class Psychometric:
    """P(right) = chance + (1 - chance) logistic(slope (log2 size - threshold)), fitted by maximum likelihood."""

    size: float
    """Pixels at half way between chance and certainty: 2^threshold."""
    slope: float
    """Per octave."""
    nll: float
    """Negative log likelihood in nats."""
    low: float
    high: float
    """10 and 90 per cent quantiles of the size over 100 sets of resampled answers."""
    beyond: Literal["", "below", "above"]
    """`below`: the threshold is smaller than every size shown; `above`: larger than every one."""
    smallest: float | None
    """The smallest size read (>= 0.75 right) with all larger ones read too; None if the largest is not."""


def fit(sizes: list[float], right: list[int], shown: list[int], chance: float, *, seed: int = 0) -> Psychometric:
    """Fits answers: `right` of `shown` at each of the ascending `sizes` in pixels, guessing right with `chance`."""
    _check(sizes, right, shown, chance)
    hits, trials = torch.tensor(right, dtype=torch.float64), torch.tensor(shown, dtype=torch.float64)
    rates = (hits / trials).numpy()
    draws = np.random.default_rng(seed).binomial(np.array(shown), rates, size=(100, len(shown)))
    unique, counts = np.unique(draws, axis=0, return_counts=True)
    x = torch.tensor(sizes, dtype=torch.float64).log2()
    threshold, slope, nll = maximum_likelihood(x, hits[None], trials, chance)
    resampled, _, _ = maximum_likelihood(x, torch.from_numpy(unique).double(), trials, chance, rounds=12)
    low, high = np.quantile(resampled.numpy().repeat(counts), [0.1, 0.9])
    at = float(threshold[0])
    return Psychometric(
        size=2**at,
        slope=float(slope[0]),
        nll=float(nll[0]),
        low=float(2**low),
        high=float(2**high),
        beyond="below" if at < float(x[0]) else "above" if at > float(x[-1]) else "",
        smallest=smallest_read(sizes, rates.tolist()),
    )


def smallest_read(sizes: list[float], rates: list[float], level: float = PASS) -> float | None:
    """The smallest of the ascending sizes whose rate and those of all larger ones reach `level`.

    >>> smallest_read([1.0, 2.0, 4.0], [0.8, 0.7, 0.9])
    4.0
    """
    found = None
    for size, rate in reversed(list(zip(sizes, rates, strict=True))):
        if rate < level:
            break
        found = size
    return found


def maximum_likelihood(
    x: Tensor, right: Tensor, shown: Tensor, chance: float, rounds: int = 40
) -> tuple[Tensor, Tensor, Tensor]:
    """Threshold, slope and negative log likelihood, three float64 [B], of answers [B, G] at x [G] in octaves.

    A grid over threshold and log slope, narrowed to 0.55 of its width around its best point in every round: 12 rounds
    leave steps of a thousandth of an octave, 40 of 1e-11.
    """
    batch = len(right)
    ranges = torch.tensor([[float(x[0]) - REACH, float(x[-1]) + REACH], [math.log(s) for s in SLOPES]], dtype=x.dtype)
    center = ranges.mean(dim=1).repeat(batch, 1)
    half = (ranges[:, 1] - ranges[:, 0]) / 2
    ticks = torch.linspace(-1, 1, 21, dtype=x.dtype)
    best = x.new_zeros(batch)
    for _ in range(rounds):
        points = [(center[:, i : i + 1] + half[i] * ticks).clamp(*ranges[i].tolist()) for i in (0, 1)]
        costs = _cost(points[0][:, :, None], points[1][:, None, :].exp(), x, right, shown, chance).flatten(1)
        best, index = costs.min(dim=1)
        center = torch.stack([points[0].gather(1, index[:, None] // 21), points[1].gather(1, index[:, None] % 21)], 1)
        center = center.squeeze(-1)
        half = half * 0.55
    return center[:, 0], center[:, 1].exp(), best


def _cost(threshold: Tensor, slope: Tensor, x: Tensor, right: Tensor, shown: Tensor, chance: float) -> Tensor:
    """Negative log likelihood [B, n, n]; log P and log(1 - P) written so that neither overflows."""
    total = torch.zeros(torch.broadcast_shapes(threshold.shape, slope.shape), dtype=x.dtype)
    for g in range(len(x)):
        z = slope * (x[g] - threshold)
        log_right = torch.log(chance + (1 - chance) * torch.sigmoid(z))
        log_wrong = math.log(1 - chance) + torch.nn.functional.logsigmoid(-z)
        hits = right[:, g, None, None]
        total = total - hits * log_right - (shown[g] - hits) * log_wrong
    return total


def _check(sizes: list[float], right: list[int], shown: list[int], chance: float) -> None:
    if not len(sizes) == len(right) == len(shown) or len(sizes) < 2:
        raise ValueError(f"a fit needs two or more sizes with their answers, got {len(sizes)} sizes")
    if any(a >= b for a, b in pairwise(sizes)) or sizes[0] <= 0:
        raise ValueError(f"sizes must be positive and ascending, got {sizes}")
    if any(not 0 <= r <= n or n < 1 for r, n in zip(right, shown, strict=True)) or not 0 <= chance < 1:
        raise ValueError(f"answers must be between 0 and the number shown, got {right} of {shown}, chance {chance}")
