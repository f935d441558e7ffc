"""Sizes of MingTok (arXiv 2510.06590): the published one and what narrower ones may vary."""

from dataclasses import dataclass
from typing import Literal

HEAD_WIDTH = 64
MLP_RATIO = 4

FeedForward = Literal["gelu", "swiglu"]


@dataclass(frozen=True, kw_only=True)
class MingTokConfig:
    """Low-level encoder, causal semantic decoder, pixel decoder."""

    image_size: int = 512
    """Side of the images it was trained on, pixels; other multiples of `patch` interpolate the positions."""
    patch: int = 32
    """Pixels per token, each way."""
    latent_channels: int = 32
    """Width of a latent, which is what a generator predicts; divides both widths it is projected from and to."""
    encoder_width: int = 768
    """Width of the low-level encoder; here and below a multiple of 64, the width of a head."""
    encoder_depth: int = 12
    """Blocks of the low-level encoder."""
    encoder_feed_forward: FeedForward = "swiglu"
    """Feed-forward of the low-level encoder."""
    semantic_width: int = 1024
    """Width of the semantic decoder, hence of a semantic feature."""
    semantic_depth: int = 24
    """Blocks of the semantic decoder."""
    semantic_feed_forward: FeedForward = "swiglu"
    """Feed-forward of the semantic decoder."""
    pixel_width: int = 1024
    """Width of the pixel decoder, whose feed-forward is "gelu"."""
    pixel_depth: int = 24
    """Blocks of the pixel decoder."""
    pixel_patch: int = 16
    """Pixels per cell of the pixel decoder, each way; every token becomes (patch / pixel_patch)^2 cells."""
    mean: float = 1.46817409
    """Mean of the raw latents; a generator predicts (raw - mean) / scale."""
    scale: float = 8.09449291
    """Scale of the raw latents."""

    def __post_init__(self) -> None:
        for name in ("encoder", "semantic", "pixel"):
            width = getattr(self, f"{name}_width")
            if width % HEAD_WIDTH:
                raise ValueError(f"{name}_width must be a multiple of {HEAD_WIDTH} (a head), got {width}")
            if name != "pixel" and width % self.latent_channels:
                raise ValueError(
                    f"{name}_width must be a multiple of latent_channels, {width} and {self.latent_channels}"
                )
            if name != "pixel" and getattr(self, f"{name}_feed_forward") not in ("gelu", "swiglu"):
                kind = getattr(self, f"{name}_feed_forward")
                raise ValueError(f"{name}_feed_forward is {kind!r}; allowed: 'gelu', 'swiglu'")
        for big, small in (("image_size", "patch"), ("patch", "pixel_patch")):
            if getattr(self, big) % getattr(self, small):
                raise ValueError(
                    f"{big} must be a multiple of {small}: {getattr(self, big)} and {getattr(self, small)}"
                )

    @property
    def grid(self) -> int:
        """Tokens along each side of the default image."""
        return self.image_size // self.patch

    @property
    def split(self) -> int:
        """Cells of the pixel decoder along each side of a token."""
        return self.patch // self.pixel_patch


PUBLISHED = {"vision": MingTokConfig()}
