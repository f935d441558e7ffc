"""Sizes of TiTok's masked generators (arXiv 2406.07550), tokens decided per step, and the authors' sampler."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from smalti.decoding.guidance import Guidance
from smalti.decoding.sampling import Sampling

Kind = Literal["vit", "uvit"]
Decay = Literal["constant", "linear", "power-cosine"]


@dataclass(frozen=True, kw_only=True)
class TiTokGeneratorConfig:
    """Transformer that fills in masked tokens of a class."""

    kind: Kind = "vit"
    """vit: norms behind the residual sums, as in BERT; uvit: norms before, and long skips (arXiv 2209.12152)."""
    depth: int = 24
    """Blocks; a uvit has one more in the middle."""
    width: int = 768
    """Channels."""
    heads: int = 16
    """Attention heads."""
    hidden: int = 3072
    """Width inside the feed-forward layers."""
    tokens: int = 32
    """Tokens per image."""
    vocab: int = 4096
    """Codes of the tokenizer."""
    classes: int = 1000
    """Number of classes; one more row stands for "no class"."""
    steps: int = 8
    """Decoding steps."""
    dropout: float = 0.0
    """Training, vit: dropout on the embedded tokens, on the attention weights and on the outputs of both layers."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.width % self.heads:
            raise ValueError(f"width must divide by heads, got width {self.width} and {self.heads} heads")
        if self.kind == "uvit" and self.depth % 2:
            raise ValueError(f"a uvit has as many blocks before the middle as behind it: depth {self.depth} is odd")
        if self.kind == "uvit" and self.dropout:
            raise ValueError(f"the uvit has no dropout, got {self.dropout}: set it to 0")
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"the number of decoding steps must be a whole number, at least 1, got {self.steps!r}")


def decided_per_step(tokens: int, steps: int) -> tuple[int, ...]:
    """How many tokens each step decides.

    After step i of n, floor(tokens * arccos(i / n) / (pi / 2)) tokens stay masked: few are decided at first, many at
    the end. While there is a masked token, each step but the last decides at least one and leaves at least one; where
    only one is left, it decides none.

    >>> decided_per_step(32, 8)
    (3, 3, 2, 3, 3, 4, 4, 10)
    """
    counts, masked = [], tokens
    for i in range(1, steps):
        ratio = np.arccos(i / steps) / (math.pi * 0.5)  # the authors' arithmetic: rounding decides the floor
        left = max(1, min(masked - 1, int(np.floor(tokens * ratio))))
        counts.append(masked - left)
        masked = left
    return (*counts, masked)


def authors_guidance(scale: float, decay: Decay, steps: int, power: float = 3.0) -> Guidance:
    """The authors' guidance scale g in this library's convention u + s (c - u).

    At step i of n: constant and linear are c + w g (c - u) with w = 1 and w = i / n, so s = 1 + w g; power-cosine is
    u + s (c - u) with s = 1 + (g - 1) (1 - cos(pi (i / n)^power)) / 2.
    """
    ratios = [i / steps for i in range(steps)]
    match decay:
        case "constant":
            return Guidance(scale=1 + scale)
        case "linear":
            return Guidance(scale=1 + scale, curve=tuple(ratios))
        case "power-cosine":
            return Guidance(scale=scale, curve=tuple((1 - math.cos(math.pi * r**power)) / 2 for r in ratios))
    raise ValueError(f"guidance decay {decay!r} is unknown; allowed: {', '.join(get_args(Decay))}")


def authors_sampling(temperature: float, steps: int, *, softened: bool = True) -> Sampling:
    """The authors' noise in this library's terms: one temperature per step, for the codes and for the positions.

    They take argmax(logits / T + t * Gumbel), a draw at temperature t T, with t = temperature * (1 - r) and
    r = (i + 1) / n: the last step is greedy. T is 1, or if `softened` 0.5 + 0.8 (1 - r), as in their benchmark.
    """
    rest = [1 - (i + 1) / steps for i in range(steps)]
    return Sampling(temperature=tuple(temperature * r * (0.5 + 0.8 * r if softened else 1.0) for r in rest))


_UVIT = {"kind": "uvit", "depth": 20, "width": 1024, "hidden": 4096, "steps": 64}
PUBLISHED = {
    "l32": TiTokGeneratorConfig(tokens=32, dropout=0.1),
    "b64": TiTokGeneratorConfig(tokens=64, dropout=0.1),
    "s128": TiTokGeneratorConfig(tokens=128, **_UVIT),  # type: ignore[arg-type]
}
