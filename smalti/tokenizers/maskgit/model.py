"""MaskGIT's VQGAN (arXiv 2202.04200; google-research/maskgit, Apache-2.0) as a tokenizer.

Shape suffixes: B batch, C code channels, H W pixels, h w token grid.
"""

from typing import Any

from torch import Generator as RandomGenerator
from torch import Tensor, channels_last

from smalti.nn.maskgit import MaskGITDecoder, MaskGITEncoder
from smalti.nn.quantizers.vq import VectorQuantizer
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.maskgit.config import MaskGITTokenizerConfig
from smalti.tokens import Segment, TokenLayout, Tokens


class MaskGITTokenizer(Tokenizer):
    """Image to a grid of codes, one for every `stride` x `stride` pixels."""

    def __init__(self, config: MaskGITTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="multiple_of", value=config.stride)
        sizes = {
            "channels": config.channels,
            "multipliers": config.multipliers,
            "features": config.latent_channels,
            "res_blocks": config.res_blocks,
        }
        self.encoder, self.decoder = MaskGITEncoder(**sizes), MaskGITDecoder(**sizes)  # type: ignore[arg-type]
        self.quantizer = VectorQuantizer(config.vocab, config.latent_channels, normalize=False, remembered=0)

    def layout(self, size: int | tuple[int, int] | None = None) -> TokenLayout:
        """The token grid of an image size; None = `image_size`."""
        height, width = (size, size) if isinstance(size, int) else size or (self.config.image_size,) * 2
        stride = self.config.stride
        if not self.sizes.allows(height, width):
            raise ValueError(f"{self.name or 'this tokenizer'} takes {self.sizes}, got {height}x{width}")
        segment = Segment(shape=(height // stride, width // stride), vocab=self.config.vocab)
        return TokenLayout(segments=(segment,), prefixes=(segment.count,))

    def features(self, images: Tensor) -> Tensor:
        """Continuous features [B, h, w, C] of images in [0, 1]: what is quantized."""
        return self.encoder(images.contiguous(memory_format=channels_last)).movedim(1, -1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Images in about [0, 1], not clamped, from codes [B, h, w, C]."""
        return self.decoder(latents.movedim(-1, 1))  # channels last in memory

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        height, width = images.shape[-2:]
        ids_Bhw = self.quantizer.nearest(self.features(images))
        return Tokens(layout=self.layout((height, width)), ids=ids_Bhw.flatten(1))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: RandomGenerator | None) -> Tensor:
        if size is not None:
            raise ValueError("this tokenizer decodes to the size of the encoded image: leave out size=")
        return self.decode_latents(self.quantizer.codes_of(tokens.segment(0)))
