"""Precision, recall, density and coverage: how far one set of images lies inside the other's manifold.

Shape suffixes: N fake images, M real images, D features.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

BLOCK = 1024
_EQUAL = 1e-12
"""Squared distance, relative to the squared norms, below which two rows count as one point (float64 rounding)."""


@dataclass(frozen=True, kw_only=True)
class ManifoldScores:
    """All in [0, 1] but density, which may exceed 1."""

    precision: float
    """Share of fake images inside the ball of some real image (arXiv 1904.06991)."""
    recall: float
    """Share of real images inside the ball of some fake image."""
    f_score: float
    """2 precision recall / (precision + recall); 0 if both are."""
    density: float
    """Mean number of real balls around a fake image, over k (arXiv 2002.09797)."""
    coverage: float
    """Share of real images whose ball holds a fake image."""
    k: int
    """Neighbor whose distance is the radius of a ball; the image itself is none."""

    def to_dict(self) -> dict[str, float]:
        """Plain data for JSON."""
        return asdict(self)


def manifold_scores(fake_ND: Tensor, real_MD: Tensor, *, k: int = 3) -> ManifoldScores:
    """Scores of features [N, D] against [M, D]; the ball of an image reaches to its k-th neighbor, border included.

    Euclidean distances in float64, in blocks of rows. Which network gave the features belongs to the result: ADM takes
    Inception's pooled 2048, torch-fidelity VGG16's second fully connected layer. Errors: ValueError for k images or
    fewer on a side.
    """
    fake, real = fake_ND, real_MD
    if fake.ndim != 2 or real.ndim != 2 or fake.shape[1] != real.shape[1]:
        raise ValueError(f"got features {list(fake.shape)} and {list(real.shape)}; needed are [N, D] and [M, D]")
    if not 1 <= k < min(len(fake), len(real)):
        raise ValueError(f"the neighbor k={k} needs more than k images on both sides, got {len(fake)} and {len(real)}")
    fake_radius_N, real_radius_M = _radii(fake, k), _radii(real, k)
    balls_N = torch.zeros(len(fake), dtype=torch.int64)
    covered_M = torch.zeros(len(real), dtype=torch.bool)
    recalled_M = torch.zeros(len(real), dtype=torch.bool)
    for start in range(0, len(fake), BLOCK):
        squared = _squared(fake[start : start + BLOCK], real)
        in_real = squared <= real_radius_M
        balls_N[start : start + BLOCK] = in_real.sum(dim=1)
        covered_M |= in_real.any(dim=0)
        recalled_M |= (squared <= fake_radius_N[start : start + BLOCK, None]).any(dim=0)
    precision, recall = float((balls_N > 0).double().mean()), float(recalled_M.double().mean())
    return ManifoldScores(
        precision=precision,
        recall=recall,
        f_score=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        density=float(balls_N.double().mean()) / k,
        coverage=float(covered_M.double().mean()),
        k=k,
    )


def _squared(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """Squared distances [N, M]; exactly 0 for equal rows."""
    return torch.cat([_squared_block(a_ND.double(), b.double()) for b in b_MD.split(BLOCK)], dim=1)


def _squared_block(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    norms = a_ND.square().sum(dim=1)[:, None] + b_MD.square().sum(dim=1)
    squared = norms - 2 * a_ND @ b_MD.T
    return torch.where(squared <= _EQUAL * norms, 0, squared)


def _radii(x_ND: Tensor, k: int) -> Tensor:
    """Squared distance [N] of every row to its k-th other row."""
    parts = []
    for start in range(0, len(x_ND), BLOCK):
        squared = _squared(x_ND[start : start + BLOCK], x_ND)
        rows = torch.arange(len(squared))
        squared[rows, start + rows] = torch.inf
        parts.append(squared.kthvalue(k, dim=1).values)
    return torch.cat(parts)
