"""Sizes of MaskGIT's VQGAN (arXiv 2202.04200)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MaskGITTokenizerConfig:
    """Convolutional VQGAN without attention."""

    image_size: int = 256
    """Side of the images it is meant for, pixels; others are taken as well."""
    vocab: int = 1024
    """Codes in the codebook."""
    latent_channels: int = 256
    """Width of a code."""
    channels: int = 128
    """Width at full resolution, a multiple of 32."""
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Width of every resolution level, times `channels`; each level but the last halves the image."""
    res_blocks: int = 2
    """Residual blocks per level."""
    commitment: float = 0.25
    """Weight beta of the loss that pulls the features to the codes."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "multipliers", tuple(self.multipliers))
        if self.channels % 32:
            raise ValueError(f"channels must divide into 32 groups, got {self.channels}")
        if self.image_size % self.stride:
            raise ValueError(f"image_size must be a multiple of {self.stride} pixels, got {self.image_size}")

    @property
    def stride(self) -> int:
        """Pixels per token."""
        return 2 ** (len(self.multipliers) - 1)


PUBLISHED = {"vqgan-f16-256": MaskGITTokenizerConfig()}
