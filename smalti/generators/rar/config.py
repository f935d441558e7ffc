"""Sizes of RAR (arXiv 2411.00776) and the authors' guidance."""

import math
from dataclasses import dataclass

from smalti.decoding.guidance import Guidance

SPARE_PLACES = 1024
SPARE_STEPS = 100
"""Rows of the published tables of places and steps behind those that are used."""


@dataclass(frozen=True, kw_only=True)
class RARConfig:
    """Next-token transformer that was trained on permuted orders."""

    depth: int = 24
    """Blocks."""
    width: int = 768
    """Channels."""
    heads: int = 16
    """Attention heads."""
    hidden: int = 3072
    """Width inside the feed-forward layers."""
    grid: tuple[int, int] = (16, 16)
    """Rows and columns of the token grid."""
    vocab: int = 1024
    """Codes of the tokenizer."""
    classes: int = 1000
    """Number of classes; one more row stands for "no class"."""
    dropout: float = 0.1
    """Training: dropout on the attention weights, inside the feed-forward layers, and on the outputs of both layers."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))
        if self.width % self.heads:
            raise ValueError(f"width must divide by heads, got width {self.width} and {self.heads} heads")

    @property
    def tokens(self) -> int:
        """Tokens per image."""
        return self.grid[0] * self.grid[1]


def authors_guidance(scale: float, power: float, tokens: int) -> Guidance:
    """The authors' curve: at token i of n, s = 1 + (scale - 1) (1 - cos(pi (i / n)^power)) / 2; power 0 is constant.

    A scale of 0 means no guidance, as in the authors' code.
    """
    if scale == 0:
        return Guidance()
    weights = ((1 - math.cos(math.pi * (i / tokens) ** power)) / 2 for i in range(tokens))
    return Guidance(scale=scale, curve=tuple(weights))


PUBLISHED = {
    "b": RARConfig(),
    "l": RARConfig(width=1024, hidden=4096),
    "xl": RARConfig(depth=32, width=1280, hidden=5120),
    "xxl": RARConfig(depth=40, width=1408, hidden=6144),
}
