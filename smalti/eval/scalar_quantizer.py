"""Uniform scalar quantization of continuous latents: what they cost in bits, so that they compare with codes.

Shape suffixes: N values, C channels.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

DEPTHS = range(2, 9)
"""Bits per value that are scanned."""
_SPREADS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScalarQuantizer:
    """2^depth equal steps per channel between two limits; values come back at the middle of their step."""

    low: Tensor
    """float [C]."""
    high: Tensor
    """float [C]."""
    depth: int
    """Bits per value."""

    @classmethod
    def fit(cls, latents_NC: Tensor, depth: int) -> Self:
        """Limits mean +- k standard deviations, per channel the k of least square error on these latents.

        Limits belong to the coder, as a codebook does, and cost no bits. Errors: ValueError for depth or shape.
        """
        if depth not in DEPTHS or latents_NC.ndim != 2 or len(latents_NC) < 2:
            raise ValueError(f"needed are latents [N, C] and 2 to 8 bits, got {list(latents_NC.shape)} and {depth}")
        mean, deviation = latents_NC.mean(dim=0), latents_NC.std(dim=0).clamp(min=1e-6)
        best, limits = torch.full_like(mean, torch.inf), deviation
        for spread in _SPREADS:
            trial = cls(low=mean - spread * deviation, high=mean + spread * deviation, depth=depth)
            error = (trial(latents_NC) - latents_NC).square().mean(dim=0)
            limits = torch.where(error < best, spread * deviation, limits)
            best = torch.minimum(best, error)
        return cls(low=mean - limits, high=mean + limits, depth=depth)

    def codes(self, latents: Tensor) -> Tensor:
        """int64 of the same shape [..., C], in 0 .. 2^depth - 1."""
        scaled = (latents - self.low) / (self.high - self.low) * 2**self.depth
        return scaled.floor().clamp(0, 2**self.depth - 1).long()

    def values(self, codes: Tensor) -> Tensor:
        """Latents [..., C] of codes."""
        return self.low + (codes + 0.5) / 2**self.depth * (self.high - self.low)

    def __call__(self, latents: Tensor) -> Tensor:
        """Latents as they come back."""
        return self.values(self.codes(latents))
