"""Sizes of SEED's image tokenizer (arXiv 2310.01218): the published one and what narrower ones may vary."""

from dataclasses import dataclass
from typing import Literal

UNCLIP = "stabilityai/stable-diffusion-2-1-unclip"


@dataclass(frozen=True, kw_only=True)
class SEEDTokenizerConfig:
    """EVA-CLIP features, a causal Q-Former, one codebook, and a decoder to the image embedding of unCLIP."""

    image_size: int = 224
    """Side of the image, pixels."""
    patch: int = 14
    """Side of a patch of the vision transformer, pixels."""
    vit_width: int = 1408
    """Width of the vision transformer."""
    vit_depth: int = 39
    """Its blocks; ViT-g has 40, the last of which is left out."""
    vit_heads: int = 16
    """Its attention heads."""
    vit_mlp_ratio: float = 4.3637
    """Its hidden width, times the width, rounded down."""
    queries: int = 32
    """Learned queries, each of which becomes a token."""
    causal: bool = True
    """Query i sees queries 0..i only; the authors' code does so for exactly 32 queries."""
    width: int = 768
    """Width of the Q-Former and of the decoder."""
    depth: int = 12
    """Layers of the Q-Former."""
    heads: int = 12
    """Attention heads of the Q-Former."""
    mlp_width: int = 3072
    """Hidden width of the Q-Former."""
    cross_every: int = 2
    """Every so many layers, from the first on, look at the image."""
    norm_eps: float = 1e-12
    """Of the Q-Former's LayerNorms."""
    dropout: float = 0.1
    """Of a Q-Former in training."""
    code_channels: int = 32
    """Width of a code."""
    vocab: int = 8192
    """Codes in the codebook."""
    decoder_depth: int = 4
    """Blocks of the decoder, and of the head that restores the Q-Former's output in training."""
    decoder_heads: int = 12
    """Attention heads of those blocks."""
    restores: bool = True
    """Whether there is a head that restores the Q-Former's output; only training uses it."""
    head: Literal["projection", "qformer"] = "projection"
    """How the decoder's tokens become one embedding: narrowed and flattened, or read by a reverse Q-Former."""
    projection: tuple[int, ...] = (256, 128, 32)
    """Widths that the projection head narrows each token to, one after the other."""
    reverse_depth: int = 12
    """Layers of the reverse Q-Former."""
    embedding_channels: int = 1024
    """Width of the image embedding, that of CLIP ViT-H/14."""
    pixels: str = UNCLIP
    """Folder or hub id of the diffusers pipeline that makes pixels of the embedding, loaded when first needed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "projection", tuple(self.projection))
        if self.head not in ("projection", "qformer"):
            raise ValueError(f"head must be 'projection' or 'qformer', got {self.head!r}")
        for width, heads in (("vit_width", "vit_heads"), ("width", "heads"), ("width", "decoder_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(
                    f"{width} must be a multiple of {heads}, got {getattr(self, width)} and {getattr(self, heads)}"
                )
        if self.image_size % self.patch:
            raise ValueError(f"image_size must be a multiple of patch, got {self.image_size} and {self.patch}")


PUBLISHED = {
    "tokenizer-2": SEEDTokenizerConfig(),
    "tokenizer-2-reverse": SEEDTokenizerConfig(head="qformer"),
    "tokenizer-2-trained": SEEDTokenizerConfig(head="qformer", reverse_depth=4),
}
