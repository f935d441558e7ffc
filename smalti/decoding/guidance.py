"""Classifier-free guidance (arXiv 2207.12598) with a strength that may vary over the steps.

One convention for every family: guided = u + s * (c - u) with conditional c and unconditional u, so s = 1 is none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Curve = Literal["constant", "linear", "cosine", "power-cosine", "decreasing", "interval"]


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Guidance strength per step: s(i) = 1 + (scale - 1) * w(i / (steps - 1)).

    Curves w(r): constant 1; linear r (VAR: its cfg = scale - 1); cosine (1 - cos(pi r)) / 2;
    power-cosine (1 - cos(pi r**power)) / 2; decreasing 1 - r; interval 1 inside [start, stop], else 0.

    >>> [Guidance(scale=3.0, curve="linear").at(i, 5) for i in range(5)]
    [1.0, 1.5, 2.0, 2.5, 3.0]
    """

    scale: float | tuple[float, ...] = 1.0
    """s at full strength; 1 = no guidance. A tuple gives one value per image of the batch."""
    curve: Curve = "constant"
    """Shape of the strength over the steps."""
    power: float = 1.0
    """Exponent of power-cosine."""
    start: float = 0.0
    """First relative step (0..1) of interval."""
    stop: float = 1.0
    """Last relative step (0..1) of interval."""

    def __post_init__(self) -> None:
        if isinstance(self.scale, Sequence):
            object.__setattr__(self, "scale", tuple(float(s) for s in self.scale))
        if self.curve not in get_args(Curve):
            raise ValueError(f"guidance curve {self.curve!r} is unknown; allowed: {', '.join(get_args(Curve))}")
        if not all(math.isfinite(s) for s in self.scales):
            raise ValueError(f"guidance scale must be finite, got {self.scale}")
        if not 0 <= self.start <= self.stop <= 1:
            raise ValueError(f"guidance interval must satisfy 0 <= start <= stop <= 1, got {self.start}, {self.stop}")

    @property
    def scales(self) -> tuple[float, ...]:
        """The strengths as a tuple, one for all images or one per image."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale,)

    @property
    def active(self) -> bool:
        """False if no image is guided at all; then the null rows are not run."""
        return any(s != 1 for s in self.scales)

    def weight(self, step: int, steps: int) -> float:
        """w at a step of the full schedule."""
        r = step / (steps - 1) if steps > 1 else 1.0
        match self.curve:
            case "constant":
                return 1.0
            case "linear":
                return r
            case "cosine" | "power-cosine":
                return (1 - math.cos(math.pi * r ** (self.power if self.curve == "power-cosine" else 1))) / 2
            case "decreasing":
                return 1 - r
            case "interval":
                return float(self.start <= r <= self.stop)

    def at(self, step: int, steps: int) -> float | tuple[float, ...]:
        """s at a step: one number, or one per image."""
        w = self.weight(step, steps)
        values = tuple(1 + (s - 1) * w for s in self.scales)
        return values if isinstance(self.scale, tuple) else values[0]

    def apply(self, rows_RB: Tensor, step: int, steps: int) -> Tensor:
        """Guided prediction [B, ...] from rows [R, B, ...]: R = 1 (unguided) or 2 (conditional, null)."""
        if rows_RB.shape[0] == 1:
            return rows_RB[0]
        cond, null = rows_RB
        scale = self.at(step, steps)
        if isinstance(scale, tuple):
            if len(scale) != cond.shape[0]:
                raise ValueError(f"guidance has {len(scale)} scales for {cond.shape[0]} images")
            shape = (-1, *[1] * (cond.ndim - 1))
            return null + torch.tensor(scale, dtype=cond.dtype, device=cond.device).view(shape) * (cond - null)
        return cond if scale == 1 else null + scale * (cond - null)
