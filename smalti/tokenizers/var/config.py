"""Sizes of VAR's multi-scale VQVAE (arXiv 2404.02905): the published one and what narrower ones may vary."""

from dataclasses import dataclass

SIDES_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
SIDES_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)


@dataclass(frozen=True, kw_only=True)
class VARTokenizerConfig:
    """Multi-scale VQVAE."""

    sides: tuple[int, ...] = SIDES_256
    """Side of every token map, coarse to fine; the last is the side of the latent grid."""
    vocab: int = 4096
    """Codes in the one codebook that all scales share."""
    latent_channels: int = 32
    """Width of a code."""
    channels: int = 160
    """Width at full resolution."""
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Width of every resolution level, times `channels`; each level but the last halves the image."""
    patch: int = 1
    """Side of the pixel blocks folded into channels before the first convolution (and unfolded after the last)."""
    res_blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    norm_groups: int = 32
    """Groups of every GroupNorm."""
    residual_ratio: float = 0.5
    """Share of the convolution in phi(h) = (1 - r) h + r conv(h)."""
    refiners: int = 4
    """How many phi there are: 1 = one for all scales, 0 = one per scale, else spread over the scales."""
    normalize: bool = False
    """Match codes by cosine similarity instead of distance."""
    sweeps: int = 0
    """Passes in which the codes of a map are chosen anew by what phi makes of the map; 0 = nearest codes, as published.

    It changes how images are encoded, not what tokens mean. With `mini/var` two give 0.4 dB, more hardly more."""
    commitment: float = 0.25
    """Weight beta of the loss that pulls the features to the codes."""

    def __post_init__(self) -> None:
        for name in ("sides", "multipliers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.sides or any(a > b for a, b in zip(self.sides, self.sides[1:], strict=False)):
            raise ValueError(f"sides must not shrink from scale to scale, got {self.sides}")
        for multiplier in self.multipliers:
            if self.channels * multiplier % self.norm_groups:
                raise ValueError(
                    f"every level's width must divide into {self.norm_groups} groups, "
                    f"got {self.channels} x {multiplier} = {self.channels * multiplier}"
                )

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return self.patch * 2 ** (len(self.multipliers) - 1)

    @property
    def image_size(self) -> int:
        """Side of the image, pixels."""
        return self.sides[-1] * self.stride

    @property
    def refiner_count(self) -> int:
        """Number of phi convolutions."""
        return self.refiners or len(self.sides)


PUBLISHED = {
    "vqvae-256": VARTokenizerConfig(),
    "vqvae-512": VARTokenizerConfig(sides=SIDES_512),
}
