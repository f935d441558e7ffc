"""Distances of sets from the Inception features that a run has kept."""

from collections.abc import Iterable

import torch
from torch import Tensor

from smalti.eval.distances import frechet_distance
from smalti.eval.kernel_distance import kid
from smalti.eval.manifold import manifold_scores
from smalti.eval.moments import Moments
from smalti.eval.run.result import METRICS, Skip, Value

MOST = 10_000
"""Images, the first ones, that KID and the manifold scores take: they compare all pairs."""
WIDTH = 2048


def set_distances(
    fake: Iterable[Tensor], real: Iterable[Tensor], *, force_fid: bool = False
) -> tuple[dict[str, Value], list[Skip]]:
    """FID, KID, precision, recall, density and coverage of features float32 [B, 2048], given batch by batch."""
    (fake_moments, fake_ND), (real_moments, real_MD) = _taken(fake), _taken(real)
    found: dict[str, Value] = {}
    skipped: list[Skip] = []
    n = min(fake_moments.n, real_moments.n)

    def add(name: str, value: float, count: int) -> None:
        unit, better = METRICS[name]
        found[name] = Value(value=value, n=count, unit=unit, better=better)

    try:
        add("fid", frechet_distance(fake_moments.statistics(), real_moments.statistics(), force=force_fid), n)
    except ValueError as error:
        skipped.append(Skip(what="fid", reason=str(error)))
    try:
        add("kid", kid(fake_ND, real_MD), min(len(fake_ND), len(real_MD)))
        scores = manifold_scores(fake_ND, real_MD).to_dict()
        for name in ("precision", "recall", "density", "coverage"):
            add(name, scores[name], min(len(fake_ND), len(real_MD)))
    except ValueError as error:
        skipped.append(Skip(what="kid, precision, recall", reason=str(error)))
    return found, skipped


def _taken(batches: Iterable[Tensor]) -> tuple[Moments, Tensor]:
    moments, kept, count = Moments(WIDTH), [], 0
    for batch in batches:
        moments.update(batch)
        if count < MOST:
            kept.append(batch[: MOST - count])
            count += len(kept[-1])
    return moments, torch.cat(kept) if kept else torch.empty(0, WIDTH)
