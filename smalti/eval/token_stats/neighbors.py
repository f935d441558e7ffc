"""What neighboring codes know of each other, from counts of pairs."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from smalti.eval.token_stats.counts import Counts, entropy_bits


@dataclass(frozen=True, kw_only=True)
class NeighborStatistics:
    """Of pairs (code, next code) along one axis; grids are not wrapped, rows and segments not crossed."""

    pairs: int
    mutual_information_bits: float
    """H(code) + H(next) - H(pair), with the marginals of the pairs; biased upward where pairs are few."""
    conditional_entropy_bits: float
    """H(next | code) = H(pair) - H(code)."""
    equal_share: float
    """Share of pairs of equal codes."""
    moran: float
    """Moran's I of the codes as one-hot vectors: 0 = as by chance, 1 = all neighbors equal."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def neighbor_statistics(
    pairs: np.ndarray, counts: Counts, codes: np.ndarray, code_counts: Counts
) -> NeighborStatistics:
    """Statistics of distinct pairs int64 [n, 2] with their counts, given the counts of all single codes.

    Moran's I of one-hot vectors with mean p: mean over pairs of (e_a - p).(e_b - p), over the mean of |e - p|^2, which
    is 1 - sum p^2; a codebook of one used code has none and is given 0.
    """
    total = int(counts.sum())
    if not total:
        return NeighborStatistics(
            pairs=0, mutual_information_bits=0.0, conditional_entropy_bits=0.0, equal_share=0.0, moran=0.0
        )
    first, second = (_marginal(pairs[:, i], counts) for i in (0, 1))
    h_pair, h_first, h_second = entropy_bits(counts), entropy_bits(first), entropy_bits(second)
    equal = float(counts[pairs[:, 0] == pairs[:, 1]].sum()) / total
    p = code_counts / code_counts.sum()
    chance = float((p**2).sum())
    ends = sum(float((p[np.searchsorted(codes, pairs[:, i])] * counts).sum()) / total for i in (0, 1))
    return NeighborStatistics(
        pairs=total,
        mutual_information_bits=h_first + h_second - h_pair,
        conditional_entropy_bits=h_pair - h_first,
        equal_share=equal,
        moran=(equal - ends + chance) / (1 - chance) if chance < 1 else 0.0,
    )


def _marginal(codes: np.ndarray, counts: Counts) -> Counts:
    _, inverse = np.unique(codes, return_inverse=True)
    return np.bincount(inverse, counts).astype(np.int64)
