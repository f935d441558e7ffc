"""Distances of sets from the Inception features that a run has kept."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from smalti.eval.distances import frechet_distance
from smalti.eval.kernel_distance import kid
from smalti.eval.manifold import manifold_scores
from smalti.eval.moments import Moments
from smalti.eval.run.result import METRICS, Skip, Value
from smalti.eval.stopwatch import Stopwatch

MOST = 10_000
"""Images, the first ones, that KID and the manifold scores take: they compare all pairs."""
WIDTH = 2048


@dataclass(frozen=True, kw_only=True, eq=False)
class SetFeatures:
    """What distances of sets need of one set, whatever its size."""

    moments: Moments
    kept_ND: Tensor
    """float32 [N, 2048]: of the first MOST images."""


def taken(batches: Iterable[Tensor]) -> SetFeatures:
    """Reads features float32 [B, 2048], batch by batch."""
    moments, kept, count = Moments(WIDTH), [], 0
    for batch in batches:
        moments.update(batch)
        if count < MOST:
            kept.append(batch[: MOST - count].clone())  # a view would keep its file mapped
            count += len(kept[-1])
    return SetFeatures(moments=moments, kept_ND=torch.cat(kept) if kept else torch.empty(0, WIDTH))


def set_distances(
    fake: SetFeatures, real: SetFeatures, *, force_fid: bool = False, watch: Stopwatch | None = None
) -> tuple[dict[str, Value], list[Skip]]:
    """FID, KID, precision, recall, density and coverage; `watch` gets the time of each."""
    found: dict[str, Value] = {}
    skipped: list[Skip] = []
    watch = watch or Stopwatch()
    n, kept = min(fake.moments.n, real.moments.n), min(len(fake.kept_ND), len(real.kept_ND))

    def add(name: str, value: float, count: int) -> None:
        unit, better = METRICS[name]
        found[name] = Value(value=value, n=count, unit=unit, better=better)

    try:
        with watch.measure("fid", n):
            add("fid", frechet_distance(fake.moments.statistics(), real.moments.statistics(), force=force_fid), n)
    except ValueError as error:
        skipped.append(Skip(what="fid", reason=str(error)))
    try:
        with watch.measure("kid", kept):
            add("kid", kid(fake.kept_ND, real.kept_ND), kept)
        with watch.measure("precision", kept):
            scores = manifold_scores(fake.kept_ND, real.kept_ND).to_dict()
        for name in ("precision", "recall", "density", "coverage"):
            add(name, scores[name], kept)
    except ValueError as error:
        skipped.append(Skip(what="kid, precision, recall", reason=str(error)))
    return found, skipped
