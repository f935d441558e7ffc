"""Frechet distances of two sets of features: FID, sFID and the limit of infinitely many images.

Which name a value carries is decided by its features: Inception's pooled 2048 (FID, arXiv 1706.08500) or its spatial
2023 (sFID, arXiv 2103.03841). Shape suffixes: N images, D features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smalti.eval.moments import Statistics, statistics_of


def frechet_distance(a: Statistics, b: Statistics, *, force: bool = False) -> float:
    """|mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr (S_a^(1/2) S_b S_a^(1/2))^(1/2), in float64.

    Both roots through eigenvalues of symmetric matrices, negative ones (rounding) clipped to 0: no imaginary part can
    arise, and rank-deficient covariances are exact.

    Below D + 1 images a covariance cannot have full rank, and the distance says more about the number of images than
    about the images. Errors: ValueError then, unless `force`; and for features of different width.
    """
    if a.dim != b.dim:
        raise ValueError(f"features of {a.dim} and {b.dim} dimensions have no Frechet distance: use one network layer")
    least = min((s.n for s in (a, b) if s.n is not None), default=a.dim + 1)
    if least < a.dim + 1 and not force:
        raise ValueError(
            f"a Frechet distance of {a.dim} features needs at least {a.dim + 1} images on both sides, got {least}: "
            "use KID, which has no such bias, take more images, or force it (and report the number of images)"
        )
    values, vectors = torch.linalg.eigh(a.covariance)
    root_DD = vectors * values.clamp(min=0).sqrt() @ vectors.T
    inner_DD = root_DD @ b.covariance @ root_DD
    cross = torch.linalg.eigvalsh((inner_DD + inner_DD.T) / 2).clamp(min=0).sqrt().sum()
    shift = (a.mean - b.mean).square().sum()
    return max(0.0, float(shift + a.covariance.trace() + b.covariance.trace() - 2 * cross))


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """A Frechet distance as the number of images goes to infinity."""

    value: float
    """Intercept of the line."""
    sizes: list[int]
    """Images per subset."""
    distances: list[float]
    """Distance of every subset to all reference images."""


def fd_infinity(
    fake_ND: Tensor, real_ND: Tensor, *, smallest: int, points: int = 8, seed: int = 123, force: bool = False
) -> Extrapolation:
    """The distance at 1/n = 0 of a least-squares line through distances of subsets of n images (arXiv 1911.07023).

    n runs in `points` equal steps from `smallest` to all fake images; subsets are drawn in that order, without
    replacement, by NumPy's legacy RandomState(seed). Errors: ValueError for too few images, as `frechet_distance`.
    """
    count = len(fake_ND)
    if not 2 <= smallest < count or points < 2:
        raise ValueError(f"fd_infinity needs 2 <= smallest < {count} images and 2 points, got {smallest} and {points}")
    real = statistics_of(real_ND)
    draw = np.random.RandomState(seed)
    sizes = [int(n) for n in np.linspace(smallest, count, points).astype(int)]
    picks = [torch.from_numpy(draw.choice(count, n, replace=False)) for n in sizes]
    distances = [frechet_distance(statistics_of(fake_ND[p]), real, force=force) for p in picks]
    _, intercept = np.polyfit(1 / np.asarray(sizes), distances, 1)
    return Extrapolation(value=float(intercept), sizes=sizes, distances=distances)
