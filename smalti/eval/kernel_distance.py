"""Squared maximum mean discrepancy of two sets of features: KID and CMMD.

All in float64, in blocks: features may lie in a file (see `feature_file`), whatever their number.
Shape suffixes: N M images, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Kernel = Callable[[Tensor, Tensor], Tensor]
"""(x [N, D], y [M, D]) -> [N, M]."""
CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0
BLOCK = 2048


def polynomial(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """(x . y / D + 1)^3, the kernel of KID."""
    return (x_ND @ y_MD.T / x_ND.shape[1] + 1) ** 3


def gaussian(x_ND: Tensor, y_MD: Tensor, *, sigma: float) -> Tensor:
    """exp(-|x - y|^2 / (2 sigma^2))."""
    squared = x_ND.square().sum(dim=1)[:, None] + y_MD.square().sum(dim=1) - 2 * x_ND @ y_MD.T
    return torch.exp(squared.clamp(min=0) / (-2 * sigma**2))


def mmd2(x_ND: Tensor, y_MD: Tensor, kernel: Kernel = polynomial, *, unbiased: bool = True) -> float:
    """mean k(x, x') + mean k(y, y') - 2 mean k(x, y).

    `unbiased` leaves the pairs of an image with itself out of the first two means. Errors: ValueError below two rows.
    """
    x, y = x_ND, y_MD
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"got features {list(x.shape)} and {list(y.shape)}; needed are [N, D] and [M, D], N, M >= 2")
    return _within(x, kernel, unbiased) + _within(y, kernel, unbiased) - 2 * _sum(x, y, kernel) / (len(x) * len(y))


def kid(fake_ND: Tensor, real_MD: Tensor) -> float:
    """Kernel inception distance (arXiv 1801.01401) over all images: unbiased, and nothing is drawn."""
    return mmd2(fake_ND, real_MD)


@dataclass(frozen=True, kw_only=True)
class SubsetKid:
    """KID over random subsets, as torch-fidelity and torchmetrics report it."""

    mean: float
    std: float
    """Population standard deviation over the subsets."""
    subsets: int
    size: int
    """Images per subset."""
    seed: int


def kid_subsets(
    fake_ND: Tensor,
    real_MD: Tensor,
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
    first: Literal["fake", "real"] = "fake",
    kernel: Kernel = polynomial,
) -> SubsetKid:
    """KID of `subsets` pairs of subsets of `size` images, drawn by NumPy's legacy RandomState(seed).

    In every round the side named `first` is drawn first (torch-fidelity: fake; clean-fid: real). Errors: ValueError
    if a side has fewer images than a subset.
    """
    if size > min(len(fake_ND), len(real_MD)):
        raise ValueError(
            f"KID subsets of {size} images need as many on both sides, got {len(fake_ND)} and {len(real_MD)}: "
            "use the KID over all images, or smaller subsets (another protocol)"
        )
    draw = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        picks = {}
        for side in ("fake", "real") if first == "fake" else ("real", "fake"):
            picks[side] = torch.from_numpy(draw.choice(len(fake_ND if side == "fake" else real_MD), size, False))
        values.append(mmd2(fake_ND[picks["fake"]], real_MD[picks["real"]], kernel))
    return SubsetKid(mean=float(np.mean(values)), std=float(np.std(values)), subsets=subsets, size=size, seed=seed)


def cmmd(a_ND: Tensor, b_MD: Tensor) -> float:
    """The formula of CMMD (arXiv 2401.09603): rows scaled to length 1, Gaussian kernel of sigma 10, biased, times 1000.

    The name belongs to features of CLIP ViT-L/14-336 at 336 pixels; over other features it is not CMMD.
    """
    a, b = (F.normalize(x.to(torch.float64), dim=1) for x in (a_ND, b_MD))
    return CMMD_SCALE * mmd2(a, b, partial(gaussian, sigma=CMMD_SIGMA), unbiased=False)


def _sum(x: Tensor, y: Tensor, kernel: Kernel) -> float:
    return sum(float(kernel(a.double(), b.double()).sum()) for a in x.split(BLOCK) for b in y.split(BLOCK))


def _within(x: Tensor, kernel: Kernel, unbiased: bool) -> float:
    n = len(x)
    total = _sum(x, x, kernel)
    if not unbiased:
        return total / n**2
    diagonal = sum(float(kernel(a.double(), a.double()).trace()) for a in x.split(BLOCK // 8))
    return (total - diagonal) / (n * (n - 1))
