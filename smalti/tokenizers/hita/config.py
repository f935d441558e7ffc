"""Sizes of Hita's tokenizers (arXiv 2507.02358): the published ones and what narrower ones may vary."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class FoundationConfig:
    """The frozen DINOv2 that the encoder looks at the image with; the defaults are ViT-L/14 with registers."""

    width: int = 1024
    """Width of its tokens."""
    depth: int = 24
    """Number of blocks."""
    heads: int = 16
    """Attention heads."""
    patch: int = 14
    """Side of a patch, pixels."""
    grid: int = 37
    """Side of its table of positions."""
    registers: int = 4
    """Register tokens; 0 = none."""
    antialias: bool = True
    """Widen the kernel that resamples the positions; false for the models without registers."""
    offset: float = 0.0
    """Added to the grid's side where the positions are resampled; 0.1 for the models without registers."""


@dataclass(frozen=True, kw_only=True)
class HitaTokenizerConfig:
    """Holistic tokens and patch tokens."""

    image_size: int = 336
    """Side of the image, pixels."""
    grid: int = 21
    """Side of the learned tables of patch positions; at another image size they are resampled."""
    holistic_tokens: int = 128
    """Tokens of the whole image, before the patches."""
    vocab: int = 16384
    """Codes in each of the two codebooks."""
    holistic_width: int = 12
    """Width of a holistic code."""
    patch_width: int = 8
    """Width of a patch code."""
    normalize: bool = True
    """Match codes by cosine similarity instead of distance."""
    channels: int = 128
    """Width of the convolutions at full resolution."""
    encoder_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Width of every resolution level of the encoder, times `channels`; each level but the last halves the image."""
    decoder_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """The same of the decoder, full resolution first."""
    res_blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    norm_groups: int = 32
    """Groups of every GroupNorm."""
    width: int = 512
    """Width of the transformers."""
    depth: int = 3
    """Blocks of each of the three transformers."""
    heads: int = 8
    """Attention heads."""
    head_width: int = 64
    """Width of a head in the transformer with full attention; in the causal ones it is `width` over `heads`."""
    mlp_width: int = 2048
    """Width of the feed-forward layers as the authors count it; the gated ones have two thirds of it."""
    dropout: float = 0.1
    """Training: dropout of attention."""
    shift: int = 4
    """How many places before its own token the decoder reads out a patch."""
    predicted_width: int = 0
    """Width of the foundation features predicted from the holistic tokens (Hita-U); 0 = none are (Hita-V)."""
    commitment: float = 0.25
    """Weight beta of the loss that pulls the features to the codes."""
    remembered: int = 65536
    """How many of the last codes chosen in training are kept, to tell the share of codes in use; 0 = none."""
    foundation: FoundationConfig = field(default_factory=FoundationConfig)
    """The frozen DINOv2."""

    def __post_init__(self) -> None:
        for name in ("encoder_multipliers", "decoder_multipliers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.encoder_multipliers or len(self.encoder_multipliers) != len(self.decoder_multipliers):
            raise ValueError(
                "encoder and decoder need equally many levels, so that images keep their size, "
                f"got {self.encoder_multipliers} and {self.decoder_multipliers}"
            )
        for multiplier in (1, *self.encoder_multipliers, *self.decoder_multipliers):
            if self.channels * multiplier % self.norm_groups:
                raise ValueError(
                    f"every level's width must divide into {self.norm_groups} groups, "
                    f"got {self.channels} x {multiplier} = {self.channels * multiplier}"
                )
        if self.image_size % self.stride:
            raise ValueError(f"image_size must be a multiple of {self.stride} pixels, got {self.image_size}")
        if self.width % self.heads:
            raise ValueError(f"width must divide into the heads, got {self.width} and {self.heads}")
        if not 0 <= self.shift <= self.holistic_tokens:
            raise ValueError(f"shift must be 0..{self.holistic_tokens} (holistic_tokens), got {self.shift}")

    @property
    def stride(self) -> int:
        """Pixels per patch token."""
        return 2 ** (len(self.encoder_multipliers) - 1)

    @property
    def side(self) -> int:
        """Side of the grid of patch tokens."""
        return self.image_size // self.stride


PUBLISHED = {
    "vanilla": HitaTokenizerConfig(),
    "ultra": HitaTokenizerConfig(predicted_width=1024),
}
