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
    multiple_of: int = 256
    """The hidden width of the feed-forward layers is rounded up to a multiple of it."""
    holistic_tokens: int = 128
    """Tokens of the whole image."""
    side: int = 21
    """Side of the grid of patch tokens."""
    vocab: int = 16384
    """Codes of either kind."""
    classes: int = 1000
    """Number of classes; one more row stands for "no class"."""
    rope_base: float = 10000.0
    """Base of the rotary positions of patches."""
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

    @property
    def hidden(self) -> int:
        """Hidden width of the feed-forward layers."""
        return hidden_width(self.width, self.multiple_of)


def guided_until(config: HitaConfig, scale: float, cfg_interval: int) -> Guidance:
    """The authors' `cfg_interval` c: scale s for the first c + 2 tokens, none from there on; below 0: to the end.

    Their count starts at the second token.
    """
    if cfg_interval < 0 or cfg_interval + 1 >= config.length:
        return Guidance(scale=scale)
    return Guidance(scale=scale, curve="interval", stop=(cfg_interval + 1) / (config.length - 1))


PUBLISHED = {
    "b": HitaConfig(),
    "l": HitaConfig(depth=24, width=1024, heads=16),
    "xl": HitaConfig(depth=36, width=1280, heads=20),
    "xxl": HitaConfig(depth=48, width=1536, heads=24),
    "2b": HitaConfig(depth=48, width=1920, heads=32),
}
