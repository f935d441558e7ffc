"""VQGAN's convolutional encoder and decoder (arXiv 2012.09841) as LlamaGen built them and Hita took them over.

Attention stands at the lowest resolution only and has separate query, key and value convolutions.
Shape suffixes: B batch, C channels, H W pixels, h w feature map, l places of the map.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.conv import Downsample, ResBlock, Upsample


class SplitSpatialAttention(nn.Module):
    """Single-head self-attention over all places of a feature map, with a residual."""

    def __init__(self, channels: int, *, groups: int = 32) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Same shape."""
        h_BChw = self.norm(x_BChw)
        q, k, v = (conv(h_BChw).flatten(2).transpose(1, 2)[:, None] for conv in (self.query, self.key, self.value))
        h_BlC = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x_BChw + self.proj(h_BlC.transpose(1, 2).unflatten(2, x_BChw.shape[-2:]))


class Level(nn.Module):
    """The blocks of one resolution: residual blocks, each followed by attention where there is any, then a resize."""

    def __init__(self, widths: list[int], *, attention: bool, resize: nn.Module, groups: int) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.blocks = nn.ModuleList(ResBlock(a, b, groups=groups) for a, b in pairs)
        self.attentions = nn.ModuleList(SplitSpatialAttention(b, groups=groups) for _, b in pairs if attention)
        self.resize = resize

    def forward(self, x_BChw: Tensor) -> Tensor:
        """[B, last width, h', w']."""
        for i, block in enumerate(self.blocks):
            x_BChw = block(x_BChw)
            if len(self.attentions):
                x_BChw = self.attentions[i](x_BChw)
        return self.resize(x_BChw)


def _middle(width: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        ResBlock(width, width, groups=groups),
        SplitSpatialAttention(width, groups=groups),
        ResBlock(width, width, groups=groups),
    )


class VQGANEncoder(nn.Module):
    """Image [B, 3, H, W] in [-1, 1] to features [B, C, h, w]; each level but the last halves the image."""

    def __init__(
        self, *, channels: int, multipliers: tuple[int, ...], res_blocks: int, latent_channels: int, groups: int = 32
    ) -> None:
        """`multipliers`: width of every level, times `channels`, from full resolution down."""
        super().__init__()
        widths = [channels * m for m in multipliers]
        last = len(widths) - 1
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        levels = []
        for i, width in enumerate(widths):
            chain = [widths[i - 1] if i else channels] + [width] * res_blocks
            resize = Downsample(width) if i < last else nn.Identity()
            levels.append(Level(chain, attention=i == last, resize=resize, groups=groups))
        self.levels = nn.ModuleList(levels)
        self.middle = _middle(widths[-1], groups)
        self.norm = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.head = nn.Conv2d(widths[-1], latent_channels, 3, padding=1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Features, channels last in memory if the image is."""
        h = self.stem(x_B3HW)
        for level in self.levels:
            h = level(h)
        h = self.middle(h)
        return self.head(F.silu(self.norm(h)))


class VQGANDecoder(nn.Module):
    """Features [B, C, h, w] to image [B, 3, H, W], about [-1, 1]. `levels[0]` is the lowest resolution."""

    def __init__(
        self, *, channels: int, multipliers: tuple[int, ...], res_blocks: int, latent_channels: int, groups: int = 32
    ) -> None:
        """`multipliers` as in the encoder; `res_blocks` too: the decoder has one more per level."""
        super().__init__()
        widths = [channels * m for m in reversed(multipliers)]
        last = len(widths) - 1
        self.stem = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.middle = _middle(widths[0], groups)
        levels = []
        for i, width in enumerate(widths):
            chain = [widths[max(i - 1, 0)]] + [width] * (res_blocks + 1)
            resize = Upsample(width) if i < last else nn.Identity()
            levels.append(Level(chain, attention=i == 0, resize=resize, groups=groups))
        self.levels = nn.ModuleList(levels)
        self.norm = nn.GroupNorm(groups, widths[-1], eps=1e-6)
        self.head = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, f_BChw: Tensor) -> Tensor:
        """The image, not clamped."""
        h = self.middle(self.stem(f_BChw))
        for level in self.levels:
            h = level(h)
        return self.head(F.silu(self.norm(h)))
