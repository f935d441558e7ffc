"""VAR's multi-scale VQVAE (arXiv 2404.02905; FoundationVision/VAR, MIT).

Shape suffixes: B batch, C channels, H W pixels, h w latent grid, L tokens.
"""

from typing import Any

from torch import Generator as RandomGenerator
from torch import Tensor, channels_last, inference_mode, nn
from torch import cat as concatenate

from smalti.nn.autoencoder import Decoder, Encoder
from smalti.nn.quantizers.multiscale import MultiScaleQuantizer
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.var.config import VARTokenizerConfig
from smalti.tokenizers.var.feedback import MultiScaleFeedback
from smalti.tokens import TokenLayout, Tokens


class VARTokenizer(Tokenizer):
    """Image to K token maps, coarse to fine; any number of leading maps decodes to a whole image."""

    def __init__(self, config: VARTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="fixed", value=config.image_size)
        shape: dict[str, Any] = {
            "channels": config.channels,
            "multipliers": config.multipliers,
            "features": config.latent_channels,
            "res_blocks": config.res_blocks,
            "norm_groups": config.norm_groups,
            "patch": config.patch,
        }
        self.encoder = Encoder(**shape)
        self.decoder = Decoder(**shape)
        self.before_quantizer = nn.Conv2d(config.latent_channels, config.latent_channels, 3, padding=1)
        self.after_quantizer = nn.Conv2d(config.latent_channels, config.latent_channels, 3, padding=1)
        self.quantizer = MultiScaleQuantizer(
            config.sides,
            config.vocab,
            config.latent_channels,
            normalize=config.normalize,
            ratio=config.residual_ratio,
            refiners=config.refiner_count,
            sweeps=config.sweeps,
        )
        self._layout = TokenLayout.scales(config.sides, config.vocab)

    def features(self, images: Tensor) -> Tensor:
        """Continuous features [B, C, h, w] of images in [0, 1]: what is quantized."""
        x = (images * 2 - 1).contiguous(memory_format=channels_last)
        return self.before_quantizer(self.encoder(x))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Images in about [0, 1], not clamped, from a sum of maps [B, C, h, w]."""
        x = self.decoder(self.after_quantizer(latents.contiguous(memory_format=channels_last)))
        return (x + 1) / 2

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        ids = [ids_Bn for _, ids_Bn, _ in self.quantizer.scales(self.features(images))]
        return Tokens(layout=self._layout, ids=concatenate(ids, dim=1))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: RandomGenerator | None) -> Tensor:
        self._check_side(size)
        assert tokens.ids is not None
        return self.decode_latents(self.quantizer.sum_of(tokens.ids, tokens.lengths))

    def aim(self, images: Tensor) -> Tensor:
        """The features [B, C, h, w]: a map codes what the maps before it left of them."""
        with inference_mode():
            return self.features(images.to(self.device))

    def feedback(self, batch: int) -> MultiScaleFeedback:
        """The running sum of maps that VAR is fed from."""
        return MultiScaleFeedback(self.quantizer, batch)
