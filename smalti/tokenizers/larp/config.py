"""Sizes of LARP's video tokenizer (arXiv 2410.21264): the published one and what narrower ones may vary."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LARPConfig:
    """Holistic video tokenizer: learned queries read all patches of a clip."""

    frames: int = 16
    """Frames of a clip."""
    image_size: int = 128
    """Side of a frame, pixels."""
    frame_patch: int = 4
    """Frames per patch."""
    patch: int = 8
    """Pixels per patch, each way."""
    tokens: int = 1024
    """Number of queries, hence of tokens."""
    vocab: int = 8192
    """Codes."""
    latent_channels: int = 16
    """Width of a code."""
    normalize: bool = True
    """Match codes by cosine similarity instead of distance."""
    temperature: float = 0.03
    """Of the cosine similarities when codes are sampled, as they are in training; 0 = always the nearest code."""
    encoder_width: int = 768
    """Width of the encoder."""
    encoder_depth: int = 12
    """Blocks of the encoder."""
    encoder_heads: int = 12
    """Attention heads of the encoder."""
    decoder_width: int = 768
    """Width of the decoder."""
    decoder_depth: int = 12
    """Blocks of the decoder."""
    decoder_heads: int = 12
    """Attention heads of the decoder."""
    learned_patch_positions: bool = False
    """Learned instead of sine-cosine positions of the encoder's patches."""
    learned_queries: bool = True
    """Learned queries of the encoder instead of sine-cosine positions."""
    learned_token_positions: bool = False
    """Learned instead of sine-cosine positions of the decoder's tokens."""
    learned_patch_queries: bool = False
    """Learned instead of sine-cosine positions that the decoder asks for patches with."""
    patch_type: bool = False
    """Add a learned vector to all patches of the encoder."""
    query_type: bool = False
    """Add a learned vector to all queries of the encoder."""
    token_type: bool = False
    """Add a learned vector to all tokens of the decoder."""
    patch_query_type: bool = True
    """Add a learned vector to all patch queries of the decoder."""
    position_base: float = 10000.0
    """Longest wavelength of the tokens' sine-cosine positions, in tokens over 2 pi."""
    norm_eps: float = 1e-5
    """Of the LayerNorms in the blocks."""

    def __post_init__(self) -> None:
        for big, small in (
            ("frames", "frame_patch"),
            ("image_size", "patch"),
            ("encoder_width", "encoder_heads"),
            ("decoder_width", "decoder_heads"),
        ):
            if getattr(self, big) % getattr(self, small):
                raise ValueError(
                    f"{big} must be a multiple of {small}: {getattr(self, big)} and {getattr(self, small)}"
                )
        if self.temperature and not self.normalize:
            raise ValueError(f"codes are sampled by cosine similarity: temperature {self.temperature} needs normalize")

    @property
    def patches(self) -> tuple[int, int, int]:
        """Patches of a clip along time, height and width."""
        side = self.image_size // self.patch
        return self.frames // self.frame_patch, side, side

    @property
    def grid(self) -> tuple[int, ...]:
        """How generators arrange the tokens: as the patches, if there are as many of both."""
        times, rows, columns = self.patches
        return self.patches if times * rows * columns == self.tokens else (self.tokens,)


PUBLISHED = {"l-long": LARPConfig()}
