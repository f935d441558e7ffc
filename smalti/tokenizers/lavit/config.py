"""Sizes of LaVIT's dynamic visual tokenizer (arXiv 2309.04669): the published ones and what smaller ones may vary."""

from dataclasses import dataclass

PIXELS = "rain1011/LaVIT-7B-v2/{}"


@dataclass(frozen=True, kw_only=True)
class LaVITConfig:
    """Frozen vision transformer, token selector, token merger, codebook, and the decoder of one pixel decoder."""

    image_size: int = 224
    """Side of the image that is encoded, pixels."""
    patch: int = 14
    """Side of a patch, pixels."""
    width: int = 1408
    """Width of the vision transformer, the selector and the merger."""
    vit_depth: int = 40
    """Blocks of the vision transformer."""
    vit_heads: int = 16
    """Attention heads of the vision transformer."""
    vit_mlp_ratio: float = 4.3637
    """Hidden width of the vision transformer's MLPs, times the width, rounded down."""
    depth: int = 12
    """Blocks of the merger."""
    heads: int = 16
    """Attention heads of the merger."""
    mlp_ratio: float = 4.3637
    """The same for the merger and, of its own width, the decoder."""
    vocab: int = 16384
    """Codes."""
    code_width: int = 32
    """Width of a code."""
    decoder_width: int = 1408
    """Width of the decoder's blocks."""
    decoder_depth: int = 12
    """Blocks of the decoder."""
    decoder_heads: int = 16
    """Attention heads of the decoder."""
    feature_width: int = 1408
    """Width of the decoder's output: the predicted features of the vision transformer."""
    contexts: tuple[int, ...] = (768, 1280)
    """Widths of the projections of those features that together are the context of the pixel decoder's UNet."""
    pooled: int | None = 1280
    """Width of the pooled context that an SDXL UNet takes besides; None for an SD-1.5 UNet."""
    llm_width: int | None = None
    """Width of the language model that takes merged features instead of ids; None = without that projection."""
    pixels: str = PIXELS.format("highres_pixel_decoding")
    """Folder, or "owner/name/folder" on the hub, of the diffusion model that makes pixels, loaded when first needed."""
    output_size: int = 1024
    """Side of the image that is decoded unless another size is asked for, pixels."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "contexts", tuple(self.contexts))
        if self.image_size % self.patch:
            raise ValueError(f"image_size must be a multiple of patch, got {self.image_size} and {self.patch}")
        for width, heads, name in (
            (self.width, self.vit_heads, "vit_heads"),
            (self.width, self.heads, "heads"),
            (self.decoder_width, self.decoder_heads, "decoder_heads"),
            (self.feature_width, self.decoder_heads if self.pooled else 1, "decoder_heads"),
        ):
            if width % heads:
                raise ValueError(f"{name} must divide the width of its attention, got {heads} heads of {width}")
        if self.width % 4:
            raise ValueError(f"width must be a multiple of 4 (the selector halves it twice), got {self.width}")
        if len(self.contexts) != (2 if self.pooled else 1):
            raise ValueError(
                f"contexts needs two widths with pooled (SDXL) and one without (SD-1.5), got {self.contexts} and "
                f"pooled={self.pooled}"
            )

    @property
    def patches(self) -> int:
        """Number of patches, the most tokens an image can have."""
        return (self.image_size // self.patch) ** 2


PUBLISHED = {
    "lowres": LaVITConfig(contexts=(768,), pooled=None, pixels=PIXELS.format("pixel_decoding"), output_size=512),
    "highres": LaVITConfig(),
}
