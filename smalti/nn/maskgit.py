"""Encoder and decoder of MaskGIT's VQGAN (arXiv 2202.04200): no attention, and no bias inside the blocks.

It is a tokenizer of its own (RAR's), and its decoder is the last part of TiTok's two-stage models.
Shape suffixes: B batch, C channels, H W pixels, h w feature map.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.conv import Upsample


class ResBlock(nn.Module):
    """Two convolutions with a residual, of an unusual kind where the channels change.

    Kept, as the published weights were trained with it: there the 1x1 shortcut reads the output of the convolutions,
    h + shortcut(h), and what came in is dropped.
    """

    def __init__(self, channels_in: int, channels_out: int, *, groups: int = 32) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=1e-6)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=1e-6)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        changes = channels_in != channels_out
        self.shortcut = nn.Conv2d(channels_out, channels_out, 1, bias=False) if changes else None

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Same height and width, `channels_out` channels."""
        h_BChw = self.conv1(F.silu(self.norm1(x_BChw)))
        h_BChw = self.conv2(F.silu(self.norm2(h_BChw)))
        return h_BChw + (x_BChw if self.shortcut is None else self.shortcut(h_BChw))


class Level(nn.Module):
    """The blocks of one resolution, then a resize."""

    def __init__(self, widths: Sequence[int], resize: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResBlock(a, b) for a, b in pairwise(widths)))
        self.resize = resize

    def forward(self, x_BChw: Tensor) -> Tensor:
        """[B, widths[-1], ...] at the size that `resize` gives."""
        return self.resize(self.blocks(x_BChw))


class MaskGITEncoder(nn.Module):
    """Image [B, 3, H, W] in [0, 1] to features [B, features, h, w]; every level but the last halves the image."""

    def __init__(self, *, channels: int, multipliers: Sequence[int], features: int, res_blocks: int) -> None:
        """`multipliers`: width of every level, times `channels`, from full resolution down."""
        super().__init__()
        widths = [channels * m for m in multipliers]
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        levels = []
        for i, width in enumerate(widths):
            chain = [widths[i - 1] if i else channels] + [width] * res_blocks
            levels.append(Level(chain, nn.AvgPool2d(2) if i < len(widths) - 1 else nn.Identity()))
        self.levels = nn.ModuleList(levels)
        self.middle = nn.Sequential(*(ResBlock(widths[-1], widths[-1]) for _ in range(res_blocks)))
        self.norm = nn.GroupNorm(32, widths[-1], eps=1e-6)
        self.head = nn.Conv2d(widths[-1], features, 1)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """Features, channels last in memory if the image is."""
        h = self.stem(x_B3HW)
        for level in self.levels:
            h = level(h)
        h = self.middle(h)
        return self.head(F.silu(self.norm(h)))


class MaskGITDecoder(nn.Module):
    """Features [B, features, h, w] to image [B, 3, H, W], about [0, 1]. `levels[0]` is the full resolution."""

    def __init__(self, *, channels: int, multipliers: Sequence[int], features: int, res_blocks: int) -> None:
        """As for the encoder; a level of the decoder has no further block."""
        super().__init__()
        widths = [channels * m for m in multipliers]
        last = len(widths) - 1
        self.stem = nn.Conv2d(features, widths[-1], 3, padding=1)
        self.middle = nn.Sequential(*(ResBlock(widths[-1], widths[-1]) for _ in range(res_blocks)))
        levels = []
        for i, width in enumerate(widths):
            chain = [widths[min(i + 1, last)]] + [width] * res_blocks
            levels.append(Level(chain, Upsample(width) if i else nn.Identity()))
        self.levels = nn.ModuleList(levels)
        self.norm = nn.GroupNorm(32, widths[0], eps=1e-6)
        self.head = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, f_BChw: Tensor) -> Tensor:
        """The image, not clamped."""
        h = self.middle(self.stem(f_BChw))
        for level in reversed(self.levels):
            h = level(h)
        return self.head(F.silu(self.norm(h)))


_BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "shortcut"}
_HALF = {
    "conv_in": "stem",
    **{f"mid.{{}}.{a}": f"middle.{{}}.{b}" for a, b in _BLOCK.items()},
    "norm_out": "norm",
    "conv_out": "head",
}
ENCODER_KEYS = _HALF | {f"down.{{}}.block.{{}}.{a}": f"levels.{{}}.blocks.{{}}.{b}" for a, b in _BLOCK.items()}
"""Official names of the encoder's layers -> ours."""
DECODER_KEYS = {
    **_HALF,
    **{f"up.{{}}.block.{{}}.{a}": f"levels.{{}}.blocks.{{}}.{b}" for a, b in _BLOCK.items()},
    "up.{}.upsample_conv": "levels.{}.resize.conv",
}
"""Official names of the decoder's layers -> ours."""
