"""DINOv2's vision transformer (arXiv 2304.07193) with registers (arXiv 2309.16588), one weight for each of Meta's.

timm's and transformers' hold other weights (the class token's position added in; queries, keys and values apart), from
which Meta's file could not be written back.
Shape suffixes: B batch, H W pixels, h w patches, L tokens, D width.
"""

import torch
from torch import Tensor, nn

from smalti.nn.positions import resample_positions
from smalti.nn.vit import Attention, Mlp


class Block(nn.Module):
    """Pre-norm transformer block; every branch is scaled per channel before it is added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.scale1 = nn.Parameter(torch.ones(width))
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.feed_forward = Mlp(width, 4 * width)
        self.scale2 = nn.Parameter(torch.ones(width))

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Same shape."""
        x_BLD = x_BLD + self.scale1 * self.attention(self.norm1(x_BLD))
        return x_BLD + self.scale2 * self.feed_forward(self.norm2(x_BLD))


class DINOv2(nn.Module):
    """Images normalized with ImageNet's mean and deviation to class and patch tokens; the defaults are ViT-L/14."""

    def __init__(
        self,
        *,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        patch: int = 14,
        grid: int = 37,
        registers: int = 4,
        antialias: bool = True,
        offset: float = 0.0,
    ) -> None:
        """`grid`: side of the position table; `antialias`, `offset`: how it is resampled (see `resample_positions`)."""
        super().__init__()
        self.antialias, self.offset, self.registers = antialias, offset, registers
        self.patch_embed = nn.Conv2d(3, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + grid**2, width))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of DINOv2's own training; kept to write files back
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x_B3HW: Tensor) -> Tensor:
        """[B, 1 + h w, D]: the class token, then the patches in raster order; the registers are dropped."""
        patches_BDhw = self.patch_embed(x_B3HW)
        height, width = patches_BDhw.shape[-2:]
        class_position, grid = self.positions[:, :1], self.positions[:, 1:]
        grid = resample_positions(grid, height, width, offset=self.offset, antialias=self.antialias)
        patches_BLD = patches_BDhw.flatten(2).transpose(1, 2) + grid
        first = self.class_token + class_position
        if self.registers:
            first = torch.cat([first, self.register_tokens], dim=1)
        x_BLD = torch.cat([first.expand(len(x_B3HW), -1, -1), patches_BLD], dim=1)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        x_BLD = self.norm(x_BLD)
        return torch.cat([x_BLD[:, :1], x_BLD[:, 1 + self.registers :]], dim=1)
