"""What each further token brings: gains along the sequence of a tokenizer whose tokens may be cut.

Shape suffixes: B images.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from smalti.eval.bootstrap import Interval, mean_interval
from smalti.eval.budgets import BudgetSweep


@dataclass(frozen=True, kw_only=True)
class PositionGain:
    """Gain of a metric between two legal budgets, paired by image."""

    first: int
    """Number of tokens before."""
    last: int
    """Number of tokens after."""
    gain: Interval
    """Change of the metric."""
    per_token: float
    """Mean change over the tokens in between."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def position_gains(sweep: BudgetSweep, metric: str = "psnr", *, seed: int = 0) -> list[PositionGain]:
    """Gains between neighboring budgets of a sweep; with a sweep over all legal prefixes, of every token.

    `metric` is a name of the sweep's values ("psnr", "ssim", or "lpips" where the sweep was given it; there a gain is
    negative). Errors: ValueError for a sweep of one budget or without that metric.
    """
    budgets: Sequence[int] = [row.tokens for row in sweep.rows]
    if len(budgets) < 2 or metric not in sweep.values[0]:
        raise ValueError(f"gains of {metric!r} need two budgets scored by it, got budgets {list(budgets)}")
    gains = []
    for (a, b), (before, after) in zip(pairwise(budgets), pairwise(sweep.values), strict=True):
        gain = mean_interval(after[metric] - before[metric], seed=seed)
        gains.append(PositionGain(first=a, last=b, gain=gain, per_token=gain.value / (b - a)))
    return gains
