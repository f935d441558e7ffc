"""From readings of known strings to error rates, their spread, and the smallest size that is legible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smalti.eval.strings import Preset, StringScore, normalize, score

UNMEASURABLE = 0.05
"""CER of the original above which a size says nothing of the reconstruction."""
LEGIBLE = 0.1
"""dCER up to which text counts as legible."""
RESAMPLED = 200


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Scores of the same strings on originals and on reconstructions, each against the known text."""

    original: tuple[StringScore, ...]
    reconstruction: tuple[StringScore, ...]

    def __add__(self, other: "Readings") -> "Readings":
        return Readings(
            original=self.original + other.original, reconstruction=self.reconstruction + other.reconstruction
        )

    @property
    def cer_original(self) -> float:
        """Corpus CER of the originals: the floor of the reader."""
        return corpus(self.original, "char")[0]

    @property
    def cer(self) -> float:
        """Corpus CER of the reconstructions."""
        return corpus(self.reconstruction, "char")[0]

    @property
    def dcer(self) -> float:
        """CER of the reconstructions minus CER of the originals."""
        return self.cer - self.cer_original

    @property
    def measurable(self) -> bool:
        """Whether the reader reads the originals."""
        return self.cer_original <= UNMEASURABLE


def readings(truth: Sequence[str], original: Sequence[str], reconstruction: Sequence[str], preset: Preset) -> Readings:
    """Scores of readings in the same order as the known texts, normalized first."""
    pairs = zip(truth, original, reconstruction, strict=True)
    scored = [
        [score(normalize(known, preset), normalize(seen, preset)) for seen in (first, second)]
        for known, first, second in pairs
    ]
    return Readings(original=tuple(s[0] for s in scored), reconstruction=tuple(s[1] for s in scored))


def corpus(scores: Sequence[StringScore], unit: str, seed: int = 0) -> tuple[float, float, float]:
    """Sum of `char` or `word` edits over sum of lengths, with the 10 and 90 per cent quantiles over resampled texts."""
    edits = np.array([getattr(s, f"{unit}_edits") for s in scores], dtype=float)
    lengths = np.array([getattr(s, f"ref_{unit}s") for s in scores], dtype=float)
    return ratio(edits, lengths, seed)


def difference(pair: Readings, seed: int = 0) -> tuple[float, float, float]:
    """dCER with its 10 and 90 per cent quantiles; the same texts are drawn for both sides."""
    edits = [r.char_edits - o.char_edits for r, o in zip(pair.reconstruction, pair.original, strict=True)]
    return ratio(np.array(edits, dtype=float), np.array([s.ref_chars for s in pair.original], dtype=float), seed)


def mean(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean with the 10 and 90 per cent quantiles over resampled values."""
    return ratio(np.array(values, dtype=float), np.ones(len(values)), seed)


def isotonic(sizes: Sequence[float], rates: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The closest rates, by weighted squares, that never grow with the ascending sizes."""
    from scipy.optimize import isotonic_regression

    if not len(sizes) == len(rates) == len(weights) or list(sizes) != sorted(set(sizes)):
        raise ValueError(f"an isotonic fit needs ascending sizes with a rate and a weight each, got {list(sizes)}")
    if not sizes:
        return []
    return [float(v) for v in isotonic_regression(rates, weights=weights, increasing=False).x]


def smallest_legible(sizes: Sequence[float], rates: Sequence[float], weights: Sequence[float]) -> float | None:
    """The smallest size at which the fitted dCER, and that of all larger sizes, is at most 0.1; None if there is none.

    >>> smallest_legible([8, 12, 16, 24], [0.9, 0.05, 0.12, 0.0], [1, 1, 1, 1])
    12
    """
    fitted = isotonic(sizes, rates, weights)
    return next((size for size, rate in zip(sizes, fitted, strict=True) if rate <= LEGIBLE + 1e-9), None)


def ratio(edits: np.ndarray, lengths: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Sum of edits [N] over sum of lengths [N], with the 10 and 90 per cent quantiles over resampled texts."""
    draws = np.random.default_rng(seed).integers(len(edits), size=(RESAMPLED, len(edits)))
    resampled = edits[draws].sum(axis=1) / np.maximum(lengths[draws].sum(axis=1), 1)
    low, high = np.quantile(resampled, [0.1, 0.9])
    return float(edits.sum() / max(lengths.sum(), 1)), float(low), float(high)
