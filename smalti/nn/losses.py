"""What every training objective returns."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Losses:
    """The loss of one batch."""

    total: Tensor
    """Scalar to minimize."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Scalars to log, detached: the terms of `total` and statistics such as codebook usage."""
    adversarial: Tensor | None = None
    """Scalar for the discriminator's own optimizer, where there is one."""
