"""Classifier-free guidance (arXiv 2207.12598) with a strength that may vary over the steps.

One convention for every family: guided = u + s * (c - u) with conditional c and unconditional u, so s = 1 is none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor

Curve = Literal["constant", "linear", "cosine", "power-cosine", "decreasing", "interval"]


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Guidance strength per step: s(i) = base + (scale - base) * w(i / (steps - 1)), base 1 unless a paper differs.

    Curves w(r): constant 1; linear r (VAR: its cfg = scale - 1); cosine (1 - cos(pi r)) / 2;
    power-cosine (1 - cos(pi r**power)) / 2; decreasing 1 - r; interval 1 inside [start, stop], else 0; or one number w
    per step.

    >>> [Guidance(scale=3.0, curve="linear").at(i, 5) for i in range(5)]
    [1.0, 1.5, 2.0, 2.5, 3.0]
    """

    scale: float | tuple[float, ...] = 1.0
    """s at full strength; 1 = no guidance. A tuple gives one value per image of the batch."""
    curve: Curve | tuple[float, ...] = "constant"
    """Shape of the strength over the steps, by name or as one weight w per step of the full schedule."""
    base: float = 1.0
    """s where the weight is 0."""
    power: float = 1.0
    """Exponent of power-cosine."""
    start: float = 0.0
    """First relative step (0..1) of interval."""
    stop: float = 1.0
    """Last relative step (0..1) of interval."""
    image_scale: float | None = None
    """For models with a third branch, the condition without its text: u + image_scale * (t - u) + s * (c - t). None =
    two branches."""
    renormalize: bool = False
    """Shrink a guided velocity to the length of the conditional one where it is longer."""

    def __post_init__(self) -> None:
        if isinstance(self.scale, Sequence):
            object.__setattr__(self, "scale", tuple(float(s) for s in self.scale))
        if isinstance(self.curve, (tuple, list)):
            object.__setattr__(self, "curve", tuple(float(w) for w in self.curve))
        elif self.curve not in get_args(Curve):
            raise ValueError(f"guidance curve {self.curve!r} is unknown; allowed: {', '.join(get_args(Curve))}")
        if not all(math.isfinite(s) for s in (*self.scales, self.base, self.image_scale or 0.0)):
            raise ValueError(f"guidance scales must be finite, got {self.scale}, {self.base}, {self.image_scale}")
        if not 0 <= self.start <= self.stop <= 1:
            raise ValueError(f"guidance interval must satisfy 0 <= start <= stop <= 1, got {self.start}, {self.stop}")

    @classmethod
    def first_steps(cls, scale: float, count: int, steps: int) -> Self:
        """Guidance in the first `count` of `steps` steps, none after them."""
        return cls(scale=scale, curve=tuple(float(i < count) for i in range(steps)))

    @property
    def scales(self) -> tuple[float, ...]:
        """The strengths as a tuple, one for all images or one per image."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale,)

    @property
    def active(self) -> bool:
        """False if no image is guided at all; then the null rows are not run."""
        return self.base != 1 or self.image_scale not in (None, 1) or any(s != 1 for s in self.scales)

    def branches(self, available: Sequence[str]) -> tuple[str, ...]:
        """The row blocks this guidance needs of those a model has: "cond" alone, with "null", or with a third.

        Errors: ValueError for a model without a null branch, or without a third where `image_scale` is given.
        """
        wanted = 1 if not self.active else 2 if self.image_scale is None else 3
        if wanted > len(available):
            lacks = "a third branch: leave out image_scale" if len(available) == 2 else "an empty condition"
            raise ValueError(f"this generator was trained without {lacks} and cannot be guided so: use guidance 1")
        return tuple(available[:wanted])

    def check(self, available: Sequence[str], images: int, steps: int) -> None:
        """A ValueError if a model with these branches, images and steps cannot be guided so."""
        self.branches(available)
        if isinstance(self.scale, tuple) and len(self.scale) != images:
            raise ValueError(f"guidance has {len(self.scale)} scales for {images} images")
        if isinstance(self.curve, tuple) and len(self.curve) != steps:
            raise ValueError(f"guidance has weights for {len(self.curve)} steps, the schedule has {steps}")

    def last_guided(self, steps: int) -> int:
        """The last step with s other than 1 for some image; -1 = none."""
        return max((i for i in range(steps) if self.guides(i, steps)), default=-1)

    def guides(self, step: int, steps: int) -> bool:
        """True if s differs from 1 for some image at a step of the full schedule."""
        scale = self.at(step, steps)
        return self.image_scale not in (None, 1) or any(
            s != 1 for s in (scale if isinstance(scale, tuple) else (scale,))
        )

    def weight(self, step: int, steps: int) -> float:
        """w at a step of the full schedule."""
        if isinstance(self.curve, tuple):
            return self.curve[step]
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
        raise AssertionError(self.curve)

    def at(self, step: int, steps: int) -> float | tuple[float, ...]:
        """s at a step: one number, or one per image."""
        w = self.weight(step, steps)
        values = tuple(self.base + (s - self.base) * w for s in self.scales)
        return values if isinstance(self.scale, tuple) else values[0]

    def apply(self, rows_RB: Tensor, step: int, steps: int) -> Tensor:
        """Guided prediction [B, ...] from rows [R, B, ...] of the branches: (c), (c, u) or (c, u, t)."""
        cond, scale = rows_RB[0], self._factor(rows_RB, step, steps)
        if rows_RB.shape[0] == 1 or (isinstance(scale, float) and scale == 1 and self.image_scale in (None, 1)):
            return cond
        null, *rest = rows_RB[1:]
        image_scale = 1.0 if self.image_scale is None else self.image_scale
        start = null + image_scale * (rest[0] - null) if rest else null
        guided = start + scale * (cond - (rest[0] if rest else null))
        if self.renormalize:
            length = guided.norm(dim=-1, keepdim=True)
            guided = guided * (cond.norm(dim=-1, keepdim=True) / length + 1e-8).clamp(0, 1)
        return guided

    def _factor(self, rows_RB: Tensor, step: int, steps: int) -> float | Tensor:
        """s as a number, or as a tensor [B, 1, ...] where images differ."""
        scale = self.at(step, steps)
        if not isinstance(scale, tuple):
            return float(scale)
        shape = (-1, *[1] * (rows_RB.ndim - 2))
        return torch.tensor(scale, dtype=rows_RB.dtype, device=rows_RB.device).view(shape)
