"""VAR's multi-scale VQVAE (arXiv 2404.02905; FoundationVision/VAR, MIT).

Shape suffixes: B batch, C channels, H W pixels, h w latent grid, L tokens.
"""

from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Generator as RandomGenerator
from torch import Tensor, channels_last, nn
from torch import cat as concatenate

from smalti.nn.conv import Downsample, ResBlock, SpatialAttention, Upsample
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.var.config import VARTokenizerConfig
from smalti.tokenizers.var.quantizer import MultiScaleFeedback, MultiScaleQuantizer
from smalti.tokens import TokenLayout, Tokens


class Level(nn.Module):
    """The blocks of one resolution: residual blocks, each followed by attention where there is any, then a resize."""

    def __init__(self, widths: list[int], attention: bool, resize: nn.Module, groups: int) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.blocks = nn.ModuleList(ResBlock(a, b, groups=groups) for a, b in pairs)
        self.attentions = nn.ModuleList(SpatialAttention(b, groups=groups) for _, b in pairs if attention)
        self.resize = resize

    def forward(self, x_BChw: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x_BChw = block(x_BChw)
            if len(self.attentions):
                x_BChw = self.attentions[i](x_BChw)
        return self.resize(x_BChw)


def _middle(width: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        ResBlock(width, width, groups=groups),
        SpatialAttention(width, groups=groups),
        ResBlock(width, width, groups=groups),
    )


class Encoder(nn.Module):
    """Image [B, 3, H, W] in [-1, 1] to features [B, C, h, w]."""

    def __init__(self, config: VARTokenizerConfig) -> None:
        super().__init__()
        widths = [config.channels * m for m in config.multipliers]
        last, groups = len(widths) - 1, config.norm_groups
        self.patch = config.patch
        self.stem = nn.Conv2d(3 * config.patch**2, config.channels, 3, padding=1)
        levels = []
        for i, width in enumerate(widths):
            chain = [widths[i - 1] if i else config.channels] + [width] * config.res_blocks
            resize = Downsample(width) if i < last else nn.Identity()
            levels.append(Level(chain, attention=i == last, resize=resize, groups=groups))
        self.levels = nn.ModuleList(levels)
        self.middle = _middle(widths[-1], groups)
        self.norm = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.head = nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        h = self.stem(F.pixel_unshuffle(x_B3HW, self.patch))
        for level in self.levels:
            h = level(h)
        h = self.middle(h)
        return self.head(F.silu(self.norm(h)))


class Decoder(nn.Module):
    """Features [B, C, h, w] to image [B, 3, H, W], about [-1, 1]. `levels[0]` is the full resolution."""

    def __init__(self, config: VARTokenizerConfig) -> None:
        super().__init__()
        widths = [config.channels * m for m in config.multipliers]
        last, groups = len(widths) - 1, config.norm_groups
        self.stem = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.middle = _middle(widths[-1], groups)
        levels = []
        for i, width in enumerate(widths):
            chain = [widths[min(i + 1, last)]] + [width] * (config.res_blocks + 1)
            levels.append(
                Level(chain, attention=i == last, resize=Upsample(width) if i else nn.Identity(), groups=groups)
            )
        self.levels = nn.ModuleList(levels)
        self.norm = nn.GroupNorm(groups, widths[0], eps=1e-6)
        self.patch = config.patch
        self.head = nn.Conv2d(widths[0], 3 * config.patch**2, 3, padding=1)

    def forward(self, f_BChw: Tensor) -> Tensor:
        h = self.middle(self.stem(f_BChw))
        for level in reversed(self.levels):
            h = level(h)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)


class VARTokenizer(Tokenizer):
    """Image to K token maps, coarse to fine; any number of leading maps decodes to a whole image."""

    def __init__(self, config: VARTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="fixed", value=config.image_size)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.before_quantizer = nn.Conv2d(config.latent_channels, config.latent_channels, 3, padding=1)
        self.after_quantizer = nn.Conv2d(config.latent_channels, config.latent_channels, 3, padding=1)
        self.quantizer = MultiScaleQuantizer(config)
        self._layout = TokenLayout.scales(config.sides, config.vocab)

    def layout(self, size: int | tuple[int, int] | None = None) -> TokenLayout:
        """The one layout: a map per scale. `size`, if given, must be the model's image size."""
        side = self.config.image_size
        if size not in (None, side, (side, side)):
            raise ValueError(f"{self.name or 'this tokenizer'} has tokens for {side}x{side} pixels only, got {size}")
        return self._layout

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
        if size not in (None, self.config.image_size):
            raise ValueError(f"this tokenizer decodes to {self.config.image_size} pixels only, got size={size}")
        assert tokens.ids is not None
        return self.decode_latents(self.quantizer.sum_of(tokens.ids, tokens.lengths))

    def feedback(self, batch: int) -> MultiScaleFeedback:
        """The running sum of maps that VAR is fed from."""
        return MultiScaleFeedback(self.quantizer, batch)
