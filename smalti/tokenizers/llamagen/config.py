"""Sizes of LlamaGen's VQGAN (arXiv 2406.06525): the published ones, and what other ones may vary: widths, quantizer."""

from dataclasses import dataclass

from smalti.nn.quantizers.config import FSQConfig, LFQConfig, VQConfig


@dataclass(frozen=True, kw_only=True)
class LlamaGenTokenizerConfig:
    """VQGAN with a codebook of short, normalized codes."""

    encoder_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """Width of every resolution level of the encoder, times `channels`; each level but the last halves the image."""
    decoder_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    """The same of the decoder, full resolution first."""
    channels: int = 128
    """Width at full resolution."""
    res_blocks: int = 2
    """Residual blocks per level of the encoder; the decoder has one more."""
    norm_groups: int = 32
    """Groups of every GroupNorm."""
    features: int = 256
    """Channels between the autoencoder and the projections to and from codes."""
    vocab: int = 16384
    """Codes in the codebook."""
    code_channels: int = 8
    """Width of a code."""
    normalize: bool = True
    """Match and decode codes and features of length 1."""
    commitment: float = 0.25
    """Weight beta of the loss that pulls the features to the codes."""
    remembered: int = 65536
    """How many of the last codes chosen in training are kept, to tell the share of codes in use; 0 = none."""
    quantizer: VQConfig | FSQConfig | LFQConfig | None = None
    """Another quantizer between the same encoder and decoder; None = the authors', which `vocab`,
    `code_channels`, `normalize` and `remembered` describe."""
    image_size: int = 256
    """Side of the images it is trained on, pixels; it takes any multiple of `stride`."""

    def __post_init__(self) -> None:
        for name in ("encoder_multipliers", "decoder_multipliers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.encoder_multipliers or len(self.encoder_multipliers) != len(self.decoder_multipliers):
            raise ValueError(
                "encoder and decoder need equally many levels, so that images keep their size, "
                f"got {self.encoder_multipliers} and {self.decoder_multipliers}"
            )
        for multiplier in (*self.encoder_multipliers, *self.decoder_multipliers):
            if self.channels * multiplier % self.norm_groups:
                raise ValueError(
                    f"every level's width must divide into {self.norm_groups} groups, "
                    f"got {self.channels} x {multiplier} = {self.channels * multiplier}"
                )
        if self.channels % self.norm_groups:
            raise ValueError(f"channels must divide into {self.norm_groups} groups, got {self.channels}")
        if self.image_size % self.stride:
            raise ValueError(f"image_size must be a multiple of {self.stride} pixels, got {self.image_size}")

    @property
    def chosen(self) -> VQConfig | FSQConfig | LFQConfig:
        """The quantizer, whoever chose it."""
        return self.quantizer or VQConfig(
            vocab=self.vocab, width=self.code_channels, normalize=self.normalize, remembered=self.remembered
        )

    @property
    def stride(self) -> int:
        """Pixels per token, each way."""
        return 2 ** (len(self.encoder_multipliers) - 1)


PUBLISHED = {
    "vq-ds16": LlamaGenTokenizerConfig(),
    "vq-ds8": LlamaGenTokenizerConfig(encoder_multipliers=(1, 2, 2, 4), decoder_multipliers=(1, 2, 2, 4)),
}
