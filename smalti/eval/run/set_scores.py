"""Scores of a set of samples from what a run has kept of them: Frechet and kernel distances, manifolds, IS, classes.

Shape suffixes: B batch, N images, D features, C classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from smalti.eval.bootstrap import mean_interval
from smalti.eval.classification import class_accuracy
from smalti.eval.distances import frechet_distance
from smalti.eval.inception import WIDTHS
from smalti.eval.inception_score import inception_score
from smalti.eval.kernel_distance import kid
from smalti.eval.manifold import manifold_scores
from smalti.eval.moments import Moments, Statistics
from smalti.eval.npz import ReferenceStatistics
from smalti.eval.run.chunks import Chunk
from smalti.eval.run.features import MOST
from smalti.eval.run.result import METRICS, Skip, Value

KERNEL = ("kid", "precision", "recall", "density", "coverage")
ADM_SPLIT = 5000
"""Images per chunk of ADM's Inception Score."""


@dataclass(kw_only=True, eq=False)
class Collected:
    """What all chunks of one set say together; memory grows with N only by the logits and MOST features."""

    pool: Moments = field(default_factory=lambda: Moments(WIDTHS["2048"]))
    spatial: Moments = field(default_factory=lambda: Moments(WIDTHS["spatial"]))
    kept_ND: Tensor = field(default_factory=lambda: torch.empty(0, WIDTHS["2048"]))
    """Pooled features of the first images."""
    logits_NC: Tensor | None = None
    """Of Inception, without bias; None where its file has no classifier."""
    class_logits_NC: Tensor | None = None
    """Of the classifier of the accuracy."""


def collect(chunks: Iterable[Chunk]) -> Collected:
    """Features and logits of all chunks, one chunk in memory at a time."""
    found = Collected()
    kept, logits, class_logits, count = [], [], [], 0
    for chunk in chunks:
        tensors = chunk.tensors
        if "2048" in tensors:
            found.pool.update(tensors["2048"])
            found.spatial.update(tensors["spatial"])
            if count < MOST:
                kept.append(tensors["2048"][: MOST - count])
                count += len(kept[-1])
        logits += [tensors["logits_unbiased"]] if "logits_unbiased" in tensors else []
        class_logits += [tensors["class_logits"]] if "class_logits" in tensors else []
    found.kept_ND = torch.cat(kept) if kept else found.kept_ND
    found.logits_NC = torch.cat(logits) if logits else None
    found.class_logits_NC = torch.cat(class_logits) if class_logits else None
    return found


def distances(
    fake: Collected, real: Collected | None, published: ReferenceStatistics | None, *, force_fid: bool
) -> tuple[dict[str, Value], list[Skip]]:
    """FID, sFID, KID, precision, recall, density and coverage against images, published statistics, or both.

    Where a reference file holds statistics, FID and sFID are taken from them (ADM's are of the whole training set),
    and the rest from its images.
    """
    values: dict[str, Value] = {}
    skipped: list[Skip] = []
    pairs: dict[str, tuple[Moments, Statistics | Moments | None]] = {
        "fid": (fake.pool, published.pool if published else real.pool if real else None),
        "sfid": (fake.spatial, published.spatial if published else real.spatial if real else None),
    }
    for name, (ours, theirs) in pairs.items():
        try:
            if theirs is None:
                raise ValueError("the reference file has no statistics of spatial features (mu_s, sigma_s)")
            statistics = theirs.statistics() if isinstance(theirs, Moments) else theirs
            distance = frechet_distance(ours.statistics(), statistics, force=force_fid)
            values[name] = valued(
                name, distance, ours.n, note="forced" if force_fid and ours.n <= len(ours.total_D) else ""
            )
        except ValueError as error:
            skipped.append(Skip(what=name, reason=str(error)))
    if real is None or not len(real.kept_ND):
        reason = "the reference is a file of statistics: it needs the features of single images; give images"
        return values, [*skipped, *(Skip(what=name, reason=reason) for name in KERNEL)]
    try:
        scores = manifold_scores(fake.kept_ND, real.kept_ND).to_dict() | {"kid": kid(fake.kept_ND, real.kept_ND)}
        values |= {name: valued(name, scores[name], len(fake.kept_ND)) for name in KERNEL}
    except ValueError as error:
        skipped += [Skip(what=name, reason=str(error)) for name in KERNEL]
    return values, skipped


def score_of_logits(logits_NC: Tensor, *, adm: bool) -> Value:
    """Inception Score: by torch-fidelity's splits, or ADM's chunks. Errors: ValueError for too few images."""
    found = inception_score(logits_NC, shuffle_seed=None if adm else 2020, split_size=ADM_SPLIT if adm else None)
    note = f"standard deviation {found.std:.4f} over {found.splits} splits; {found.rule}"
    return valued("inception_score", found.mean, len(logits_NC), note=note)


def accuracy(logits_NC: Tensor, labels_N: Tensor, seed: int) -> tuple[Value, dict[str, Any]]:
    """Share of images of the class they were made for, with its interval; and class by class as plain data."""
    found = class_accuracy(logits_NC, labels_N)
    interval = mean_interval((logits_NC.topk(1, dim=1).indices[:, 0] == labels_N).double(), seed=seed)
    unit, better = METRICS["class_accuracy"]
    value = Value(
        value=found.top1, ci_lo=interval.low, ci_hi=interval.high, n=found.n, unit=unit, better=better,
        band="bootstrap",
    )  # fmt: skip
    return value, found.to_dict()


def valued(name: str, value: float, n: int, note: str = "") -> Value:
    """A number with its metric's unit and direction."""
    unit, better = METRICS[name]
    return Value(value=value, n=n, unit=unit, better=better, note=note)
