"""LlamaGen's VQGAN (arXiv 2406.06525; FoundationVision/LlamaGen, MIT).

Shape suffixes: B batch, C channels, H W pixels, h w token grid, L tokens.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.autoencoder import Decoder, Encoder
from smalti.nn.quantizers.config import build_quantizer
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.llamagen.config import LlamaGenTokenizerConfig
from smalti.tokens import PAD, Segment, TokenLayout, Tokens


class LlamaGenTokenizer(Tokenizer):
    """Image to a grid of tokens, one per square of `stride` pixels, for any size that is a multiple of it."""

    def __init__(self, config: LlamaGenTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="multiple_of", value=config.stride)
        shape: dict[str, Any] = {
            "channels": config.channels,
            "features": config.features,
            "res_blocks": config.res_blocks,
            "norm_groups": config.norm_groups,
            "fused_attention": False,
        }
        self.encoder = Encoder(multipliers=config.encoder_multipliers, **shape)
        self.decoder = Decoder(multipliers=config.decoder_multipliers, **shape)
        self.quantizer = build_quantizer(config.chosen)
        self.before_quantizer = nn.Conv2d(config.features, self.quantizer.width, 1)
        self.after_quantizer = nn.Conv2d(self.quantizer.width, config.features, 1)

    def layout(self, size: int | tuple[int, int] | None = None) -> TokenLayout:
        """One grid; where a vector has several ids, they follow each other.

        `size` in pixels (side, or height and width); None = `config.image_size`.
        """
        size = self.config.image_size if size is None else size
        height, width = (size, size) if isinstance(size, int) else size
        if not self.sizes.allows(height, width):
            raise ValueError(f"{self.name or 'this tokenizer'} takes {self.sizes}, got {height}x{width}")
        grid = (height // self.config.stride, width // self.config.stride)
        segment = Segment(shape=(*grid, *self.quantizer.each), vocab=self.quantizer.vocab)
        return TokenLayout(segments=(segment,), prefixes=(segment.count,))

    def features(self, images: Tensor) -> Tensor:
        """Features [B, h, w, C] of images in [0, 1], before they are brought to length 1 and quantized."""
        x = (images * 2 - 1).contiguous(memory_format=torch.channels_last)
        return self.before_quantizer(self.encoder(x)).movedim(1, -1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Images in about [0, 1], not clamped, from codes [B, h, w, C] or mixtures of them."""
        return (self.decoder(self.after_quantizer(latents.movedim(-1, 1))) + 1) / 2

    def _encode(self, images: Tensor, rng: torch.Generator | None) -> Tokens:
        ids = self.quantizer.nearest(self.features(images))
        return Tokens(layout=self.layout((images.shape[-2], images.shape[-1])), ids=ids.flatten(1))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: torch.Generator | None) -> Tensor:
        ids = tokens.segment(0)
        own = tuple(n * self.config.stride for n in ids.shape[1:3])
        if size is not None and own != (size, size):
            raise ValueError(f"these tokens decode to {own[0]}x{own[1]} pixels only, got size={size}: resize the image")
        return self.decode_latents(self.quantizer.codes_of(ids))

    def preview(self, tokens: Tokens, known: Tensor | None = None) -> Tensor:
        """Images [B, 3, H, W] of unfinished grids, unknown cells in grey.

        `known` bool [B, n] for the first n cells in raster order; by default what is there. The unknown cells are
        decoded as the mean of the codebook, so that the known ones look as if they stood alone.
        """
        assert tokens.ids is not None
        grid = tokens.layout.segments[0].shape
        known = tokens.ids != PAD if known is None else known.to(tokens.ids.device)
        missing = tokens.layout.length - tokens.ids.shape[1]
        ids = F.pad(tokens.ids.where(known, 0), (0, missing)).unflatten(1, grid).to(self.device)
        known_Bhw = F.pad(known, (0, missing)).unflatten(1, (*grid[:2], -1)).all(-1).to(self.device)
        with torch.no_grad():
            latents = torch.where(known_Bhw[..., None], self.quantizer.codes_of(ids), self.quantizer.mean())
            image = self.decode_latents(latents).clamp(0, 1)
        known_BHW = known_Bhw.repeat_interleave(self.config.stride, 1).repeat_interleave(self.config.stride, 2)
        return torch.where(known_BHW[:, None], image, 0.5)
