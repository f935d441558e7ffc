"""From logits to the distribution that is drawn from: temperature, top-k, top-p.

Shape suffixes: B batch, n positions, V codes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How ids are drawn. `temperature`, `top_k` and `top_p` are one value, or one per step of the full schedule."""

    temperature: float | tuple[float, ...] = 1.0
    """Logits are divided by it; 0 = greedy."""
    top_k: int | tuple[int, ...] = 0
    """Keep the k most likely codes (ties with the k-th stay); 0 = all."""
    top_p: float | tuple[float, ...] = 1.0
    """Keep the fewest codes whose probability reaches p (arXiv 1904.09751); 1 = all."""
    temperature_order: Literal["first", "last"] = "first"
    """Divide by the temperature before top-k and top-p, or after them (CoDe)."""
    soft: bool = False
    """Feed a Gumbel-softmax mixture of codes forward instead of one code, where the family can (VAR's more_smooth)."""

    def __post_init__(self) -> None:
        for name, low, high in (("temperature", 0, float("inf")), ("top_k", 0, float("inf")), ("top_p", 0, 1)):
            value = getattr(self, name)
            values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
            if not values or not all(low <= v <= high for v in values):
                limit = f"at least {low}" if high == float("inf") else f"within {low}..{high}"
                raise ValueError(f"sampling {name} must be {limit}, got {value}")
            if isinstance(value, list):
                object.__setattr__(self, name, values)

    @classmethod
    def greedy(cls) -> "Sampling":
        """Always the most likely code."""
        return cls(temperature=0.0)

    def check(self, steps: int) -> None:
        """A ValueError if there are per-step values for another number of steps."""
        for name in ("temperature", "top_k", "top_p"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != steps:
                raise ValueError(
                    f"sampling {name} has {len(value)} values, one per step; the schedule has {steps} steps"
                )

    def _at(self, name: str, step: int) -> float:
        value = getattr(self, name)
        if not isinstance(value, tuple):
            return value
        if step >= len(value):
            raise ValueError(f"sampling {name} has {len(value)} values, one per step; step {step} has none")
        return value[step]

    def temperature_at(self, step: int) -> float:
        """What the logits of a step are divided by."""
        return self._at("temperature", step)

    def is_greedy(self, step: int) -> bool:
        """True if the step takes the most likely code."""
        return self.temperature_at(step) == 0 or self._at("top_k", step) == 1

    def filter(self, logits_BnV: Tensor, step: int) -> Tensor:
        """Float logits with the codes that must not be drawn at -inf, divided by the temperature."""
        temperature, top_k, top_p = (self._at(n, step) for n in ("temperature", "top_k", "top_p"))
        logits_BnV = logits_BnV.float()
        if temperature == 0:
            top_k, temperature = 1, 1.0
        if self.temperature_order == "first":
            logits_BnV = logits_BnV / temperature
        if 0 < top_k < logits_BnV.shape[-1]:
            kth = logits_BnV.topk(int(top_k), dim=-1).values[..., -1:]
            logits_BnV = logits_BnV.masked_fill(logits_BnV < kth, -torch.inf)
        if top_p < 1:
            logits_BnV = _nucleus(logits_BnV, top_p)
        return logits_BnV / temperature if self.temperature_order == "last" else logits_BnV


def _nucleus(logits_BnV: Tensor, top_p: float) -> Tensor:
    """Drops the least likely codes whose probabilities together stay within 1 - top_p; the largest is always kept."""
    ascending, order = logits_BnV.sort(dim=-1)
    drop = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    drop[..., -1] = False
    return logits_BnV.masked_fill(drop.scatter(-1, order, drop), -torch.inf)
