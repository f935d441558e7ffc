"""Laws that text follows, fitted to codes: Zipf's of frequencies and Heaps' of innovation (see arXiv 2411.05001)."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from smalti.eval.token_stats.counts import Counts


@dataclass(frozen=True, kw_only=True)
class Line:
    """Least-squares line through logarithms (natural)."""

    slope: float
    intercept: float
    r2: float
    """Share of the variance it explains."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def zipf_line(counts: Counts) -> Line | None:
    """ln count against ln rank over used codes; None below three of them. Text has a slope near -1."""
    if len(counts) < 3:
        return None
    ordered = np.sort(counts)[::-1]
    return _line(np.log(np.arange(1, len(ordered) + 1)), np.log(ordered))


@dataclass(frozen=True, kw_only=True)
class ZipfFit:
    """Maximum-likelihood exponent of p(rank) = rank^-alpha / sum r^-alpha over the used ranks."""

    alpha: float
    neg_log_likelihood: float
    """Nats, of all tokens."""


def zipf_likelihood(counts: Counts) -> ZipfFit | None:
    """Newton's method on the convex negative log-likelihood; None below three used codes."""
    if len(counts) < 3:
        return None
    ordered = np.sort(counts)[::-1].astype(np.float64)
    logs, total = np.log(np.arange(1, len(ordered) + 1)), ordered.sum()
    mean_log = (ordered * logs).sum() / total
    alpha = 1.0
    for _ in range(100):
        p = np.exp(-alpha * logs)
        p /= p.sum()
        expected = (p * logs).sum()
        variance = (p * logs**2).sum() - expected**2
        step = (mean_log - expected) / variance
        alpha -= step
        if abs(step) < 1e-13:
            break
    nll = total * (alpha * mean_log + np.log(np.exp(-alpha * logs).sum()))
    return ZipfFit(alpha=float(alpha), neg_log_likelihood=float(nll))


def heaps_line(tokens: np.ndarray, distinct: np.ndarray) -> Line | None:
    """ln distinct codes against ln tokens seen, one point an image; slope = Heaps' beta.

    None below two images with tokens.
    """
    some = tokens > 0
    return _line(np.log(tokens[some]), np.log(distinct[some])) if some.sum() > 1 else None


def _line(x: np.ndarray, y: np.ndarray) -> Line:
    slope, intercept = np.polyfit(x, y, 1)
    residual, spread = ((y - slope * x - intercept) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    return Line(slope=float(slope), intercept=float(intercept), r2=float(1 - residual / spread) if spread else 1.0)
