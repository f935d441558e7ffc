"""Mean and covariance of features, gathered batch by batch in constant memory.

Shape suffixes: N images, D features.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Mean and covariance of a set of features: all that a Frechet distance needs."""

    mean: Tensor
    """float64 [D]."""
    covariance: Tensor
    """float64 [D, D], the sum of squares over n - 1."""
    n: int | None
    """Number of images; None = not recorded, as in published reference files."""

    def __post_init__(self) -> None:
        dim = self.mean.shape[0] if self.mean.ndim == 1 else -1
        if self.covariance.shape != (dim, dim):
            raise ValueError(
                f"statistics need a mean [D] and a covariance [D, D], got {list(self.mean.shape)} and "
                f"{list(self.covariance.shape)}"
            )
        if not (self.mean.isfinite().all() and self.covariance.isfinite().all()):
            raise ValueError("statistics hold NaN or infinite values")

    @property
    def dim(self) -> int:
        """Number of features."""
        return self.mean.shape[0]


class Moments:
    """Count, sum and sum of outer products of features, in float64.

    The result does not depend on how the images were cut into batches (up to float64 rounding), and two halves can be
    gathered apart and merged.

    >>> moments = Moments(2)
    >>> moments.update(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
    >>> moments.statistics().mean.tolist(), moments.statistics().covariance.tolist()
    ([1.0, 1.0], [[2.0, 0.0], [0.0, 0.0]])
    """

    def __init__(self, dim: int) -> None:
        self.n = 0
        self.total_D = torch.zeros(dim, dtype=torch.float64)
        self.outer_DD = torch.zeros(dim, dim, dtype=torch.float64)

    def update(self, features_ND: Tensor) -> None:
        """Adds features [N, D]. Errors: ValueError for another width, NaN or infinity."""
        dim = len(self.total_D)
        if features_ND.ndim != 2 or features_ND.shape[1] != dim:
            raise ValueError(f"got features {list(features_ND.shape)}; these moments are of features [N, {dim}]")
        x_ND = features_ND.detach().to("cpu", torch.float64)
        if not x_ND.isfinite().all():
            raise ValueError("got features with NaN or infinite values: the images or the network are damaged")
        self.n += len(x_ND)
        self.total_D += x_ND.sum(dim=0)
        self.outer_DD += x_ND.T @ x_ND

    def merge(self, other: "Moments") -> None:
        """Adds what another one has gathered."""
        if len(other.total_D) != len(self.total_D):
            raise ValueError(f"moments of {len(other.total_D)} features do not add to those of {len(self.total_D)}")
        self.n += other.n
        self.total_D += other.total_D
        self.outer_DD += other.outer_DD

    def statistics(self) -> Statistics:
        """Mean and covariance (n - 1 in the denominator). Errors: ValueError below two images."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {self.n}")
        mean_D = self.total_D / self.n
        covariance_DD = (self.outer_DD - self.n * torch.outer(mean_D, mean_D)) / (self.n - 1)
        return Statistics(mean=mean_D, covariance=covariance_DD, n=self.n)

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything gathered, for a file of a run that may be resumed."""
        return {"n": torch.tensor(self.n), "total": self.total_D, "outer": self.outer_DD}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self:
        """Inverse of `to_tensors`."""
        moments = cls(len(tensors["total"]))
        moments.n = int(tensors["n"])
        moments.total_D = tensors["total"].to(torch.float64).clone()
        moments.outer_DD = tensors["outer"].to(torch.float64).clone()
        return moments


def statistics_of(features_ND: Tensor) -> Statistics:
    """Mean and covariance of features [N, D] at hand."""
    moments = Moments(features_ND.shape[1])
    moments.update(features_ND)
    return moments.statistics()
