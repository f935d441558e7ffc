"""Encoder and decoder of a convolutional VQGAN (arXiv 2012.09841), as VAR's and LlamaGen's tokenizers use them.

Shape suffixes: B batch, C channels, H W pixels, h w latent grid.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.conv import Downsample, ResBlock, SpatialAttention, Upsample


class Level(nn.Module):
    """The blocks of one resolution: residual blocks, each followed by attention where there is any, then a resize."""

    def __init__(
        self, widths: Sequence[int], *, attention: bool, resize: nn.Module, groups: int, fused_attention: bool
    ) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.blocks = nn.ModuleList(ResBlock(a, b, groups=groups) for a, b in pairs)
        self.attentions = nn.ModuleList(
            SpatialAttention(b, groups=groups, fused=fused_attention) for _, b in pairs if attention
        )
        self.resize = resize

    def forward(self, x_BChw: Tensor) -> Tensor:
        """[B, widths[-1], ...] at the size that `resize` gives."""
        for i, block in enumerate(self.blocks):
            x_BChw = block(x_BChw)
            if len(self.attentions):
                x_BChw = self.attentions[i](x_BChw)
        return self.resize(x_BChw)


def _middle(width: int, groups: int, fused_attention: bool) -> nn.Sequential:
    return nn.Sequential(
        ResBlock(width, width, groups=groups),
        SpatialAttention(width, groups=groups, fused=fused_attention),
        ResBlock(width, width, groups=groups),
    )


class Encoder(nn.Module):
    """Image [B, 3, H, W] in [-1, 1] to features [B, features, h, w]; every level but the last halves the image.

    The last level and the middle have attention. `fused_attention`: queries, keys and values in one convolution.
    """

    def __init__(
        self,
        *,
        channels: int,
        multipliers: Sequence[int],
        features: int,
        res_blocks: int = 2,
        norm_groups: int = 32,
        patch: int = 1,
        fused_attention: bool = True,
    ) -> None:
        super().__init__()
        widths = [channels * m for m in multipliers]
        last = len(widths) - 1
        self.patch = patch
        self.stem = nn.Conv2d(3 * patch**2, channels, 3, padding=1)
        levels = []
        for i, width in enumerate(widths):
            chain = [widths[i - 1] if i else channels] + [width] * res_blocks
            resize = Downsample(width) if i < last else nn.Identity()
            levels.append(
                Level(chain, attention=i == last, resize=resize, groups=norm_groups, fused_attention=fused_attention)
            )
        self.levels = nn.ModuleList(levels)
        self.middle = _middle(widths[-1], norm_groups, fused_attention)
        self.norm = nn.GroupNorm(norm_groups, widths[-1], eps=1e-6)
        self.head = nn.Conv2d(widths[-1], features, 3, padding=1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Features [B, C, h, w]."""
        h = self.stem(F.pixel_unshuffle(x_B3HW, self.patch))
        for level in self.levels:
            h = level(h)
        h = self.middle(h)
        return self.head(F.silu(self.norm(h)))


class Decoder(nn.Module):
    """Features [B, features, h, w] to image [B, 3, H, W], about [-1, 1]. `levels[0]` is the full resolution.

    Options as for `Encoder`; a level has one residual block more.
    """

    def __init__(
        self,
        *,
        channels: int,
        multipliers: Sequence[int],
        features: int,
        res_blocks: int = 2,
        norm_groups: int = 32,
        patch: int = 1,
        fused_attention: bool = True,
    ) -> None:
        super().__init__()
        widths = [channels * m for m in multipliers]
        last = len(widths) - 1
        self.stem = nn.Conv2d(features, widths[-1], 3, padding=1)
        self.middle = _middle(widths[-1], norm_groups, fused_attention)
        levels = []
        for i, width in enumerate(widths):
            chain = [widths[min(i + 1, last)]] + [width] * (res_blocks + 1)
            resize = Upsample(width) if i else nn.Identity()
            levels.append(
                Level(chain, attention=i == last, resize=resize, groups=norm_groups, fused_attention=fused_attention)
            )
        self.levels = nn.ModuleList(levels)
        self.norm = nn.GroupNorm(norm_groups, widths[0], eps=1e-6)
        self.patch = patch
        self.head = nn.Conv2d(widths[0], 3 * patch**2, 3, padding=1)

    def forward(self, f_BChw: Tensor) -> Tensor:
        """Image [B, 3, H, W], not clamped."""
        h = self.middle(self.stem(f_BChw))
        for level in reversed(self.levels):
            h = level(h)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)
