"""Continuous tokens: the scaled latents of an autoencoder of latent diffusion (arXiv 2112.10752, 2410.10733).

Shape suffixes: B batch, C latent channels, H W pixels, h w token grid.
"""

from typing import Any

from torch import Generator as RandomGenerator
from torch import Tensor

from smalti.nn.dc_autoencoder import DCAutoencoder
from smalti.nn.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.kl.config import KLTokenizerConfig
from smalti.tokens import Segment, TokenLayout, Tokens


class KLTokenizer(Tokenizer):
    """Image to a grid of latents, one per square of `stride` pixels, for any size that is a multiple of it.

    A token is what a generator of such latents predicts: (z - shift) * scale. `encode` gives the mode of the posterior,
    or with `rng` a sample of it.
    """

    def __init__(self, config: KLTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="multiple_of", value=config.stride)
        inner = config.autoencoder
        self.autoencoder = KLAutoencoder(inner) if isinstance(inner, KLAutoencoderConfig) else DCAutoencoder(inner)

    def layout(self, size: int | tuple[int, int] | None = None) -> TokenLayout:
        """One grid. `size` in pixels (side, or height and width); None = `config.image_size`."""
        size = self.config.image_size if size is None else size
        height, width = (size, size) if isinstance(size, int) else size
        if not self.sizes.allows(height, width):
            raise ValueError(f"{self.name or 'this tokenizer'} takes {self.sizes}, got {height}x{width}")
        grid = (height // self.config.stride, width // self.config.stride)
        return TokenLayout(segments=(Segment(shape=grid, vocab=None),), prefixes=(grid[0] * grid[1],))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Images in about [0, 1], not clamped, from scaled latents [B, C, h, w]."""
        return (self.autoencoder.decode(latents).float() + 1) / 2

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        latents_BChw = self.autoencoder.encode(images * 2 - 1, rng=rng).float()
        layout = self.layout((images.shape[-2], images.shape[-1]))
        return Tokens(layout=layout, latents=latents_BChw.flatten(2).transpose(1, 2).contiguous())

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: RandomGenerator | None) -> Tensor:
        latents_BhwC = tokens.segment(0)
        if latents_BhwC.shape[-1] != self.config.autoencoder.latent_channels:
            raise ValueError(
                f"{self.name or 'this tokenizer'} has latents of {self.config.autoencoder.latent_channels} channels, "
                f"got {latents_BhwC.shape[-1]}: load the tokenizer that made them"
            )
        own = tuple(n * self.config.stride for n in latents_BhwC.shape[1:3])
        if size is not None and own != (size, size):
            raise ValueError(f"these tokens decode to {own[0]}x{own[1]} pixels only, got size={size}: resize the image")
        return self.decode_latents(latents_BhwC.movedim(-1, 1))
