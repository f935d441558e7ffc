"""Sizes of Hita's transformer (arXiv 2507.02358), and its guidance that ends early."""

from dataclasses import dataclass
from typing import Literal, get_args

from smalti.decoding.guidance import Guidance
from smalti.nn.gpt import hidden_width

Quirks = Literal["authors", "fixed"]


@dataclass(frozen=True, kw_only=True)
class HitaConfig:
    """Transformer over two streams of tokens: the whole image first, then its patches."""

    depth: int = 12
    """Number of blocks."""
    width: int = 768
    """Channels."""
    heads: int = 12
    """Attention heads."""
    hidden: int = 2048
    """Width inside the feed-forward layers."""
    holistic_tokens: int = 128
    """Tokens of the whole image."""
    side: int = 21
    """Side of the grid of patch tokens."""
    vocab: int = 16384
    """Codes of either kind."""
    classes: int = 1000
    """Number of classes; one more row stands for "no class"."""
    rotation_base: float = 10000.0
    """Slowest wavelength of the rotary positions of patches, cells over 2 pi."""
    norm_eps: float = 1e-5
    """Epsilon of every RMSNorm."""
    token_dropout: float = 0.1
    """Training: dropout of what the first block is fed."""
    dropout: float = 0.1
    """Training: dropout on the outputs of attention and feed-forward layers."""
    drop_path: float = 0.0
    """Training: chance that the last block's residual branch is dropped, growing linearly from 0 at the first."""
    quirks: Quirks = "authors"
    """Outside of training, authors: the last holistic token is looked up among the patches' vectors, as their sampler
    does and as published numbers were measured; fixed: among the holistic ones, as it was trained."""

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 4:
            raise ValueError(
                f"width must divide into heads of a multiple of 4 channels, got {self.width} and {self.heads} heads"
            )
        if self.holistic_tokens < 1 or self.side < 1:
            raise ValueError(f"both streams need tokens, got {self.holistic_tokens} and a grid of side {self.side}")
        if self.quirks not in get_args(Quirks):
            raise ValueError(f"quirks is {' or '.join(get_args(Quirks))}, got {self.quirks!r}")

    @property
    def length(self) -> int:
        """Tokens of both streams."""
        return self.holistic_tokens + self.side**2


def interval_guidance(scale: float, interval: int, tokens: int) -> Guidance:
    """The authors' `cfg_interval`: the first token and `interval` + 1 more of `tokens` are guided, the rest is not.

    A negative interval guides all.
    """
    if interval < 0:
        return Guidance(scale=scale)
    return Guidance.first_steps(scale, interval + 2, tokens)


_SIZES = {"b": (12, 768, 12), "l": (24, 1024, 16), "xl": (36, 1280, 20), "xxl": (48, 1536, 24), "2b": (48, 1920, 32)}
"""Blocks, width, heads."""
PUBLISHED = {
    size: HitaConfig(depth=depth, width=width, heads=heads, hidden=hidden_width(width))
    for size, (depth, width, heads) in _SIZES.items()
}
