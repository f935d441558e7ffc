"""Inception Score (arXiv 1606.03498), with the splits that change its value stated.

Shape suffixes: N images, C classes.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class InceptionScore:
    """exp of the mean KL divergence of an image's class distribution from the split's mean distribution."""

    mean: float
    """Over the splits."""
    std: float
    """Population standard deviation over the splits."""
    splits: int
    rule: str
    """How the splits were made."""


def inception_score(
    logits_NC: Tensor, *, splits: int = 10, shuffle_seed: int | None = 2020, split_size: int | None = None
) -> InceptionScore:
    """Score of logits [N, C] without bias ("logits_unbiased").

    torch-fidelity's rule by default: shuffled by NumPy's legacy RandomState(2020), `splits` parts of N/splits images.
    ADM's rule: `split_size=5000, shuffle_seed=None`, consecutive chunks, the last one as long as it comes.
    Errors: ValueError for too few images.
    """
    if logits_NC.ndim != 2 or len(logits_NC) < max(1, splits if split_size is None else 1):
        raise ValueError(f"got logits {list(logits_NC.shape)}; needed are [N, classes] with at least {splits} images")
    logits = logits_NC.to(torch.float64)
    order = "as given"
    if shuffle_seed is not None:
        permutation = np.random.RandomState(shuffle_seed).permutation(len(logits))
        logits, order = logits[torch.from_numpy(permutation)], f"shuffled with seed {shuffle_seed}"
    if split_size is not None:
        parts, cut = list(logits.split(split_size)), f"chunks of {split_size}"
    else:
        edges = [i * len(logits) // splits for i in range(splits + 1)]
        parts, cut = [logits[a:b] for a, b in pairwise(edges)], f"{splits} splits"
    scores = [_score(part) for part in parts]
    return InceptionScore(
        mean=float(np.mean(scores)), std=float(np.std(scores)), splits=len(parts), rule=f"{order}, {cut}"
    )


def _score(logits_NC: Tensor) -> float:
    log_p = logits_NC.log_softmax(dim=1)
    p = log_p.exp()
    log_mean = p.mean(dim=0).log()
    return float((p * (log_p - log_mean)).sum(dim=1).mean().exp())
