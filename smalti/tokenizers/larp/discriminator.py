"""LARP's discriminator: a transformer over the patches of a clip (arXiv 2410.21264).

Shape suffixes: B batch, T frames, H W pixels, P patches, D width.
"""

import torch
from torch import Tensor, nn

from smalti.nn.sincos import sincos, sincos_grid
from smalti.nn.vit import Block, Mlp
from smalti.tokenizers.larp.config import LARPConfig


class ClipDiscriminator(nn.Module):
    """Clips [B, 3, T, H, W] in [0, 1] to one real/fake logit each [B, 1], read off a class token."""

    positions: Tensor

    def __init__(self, config: LARPConfig, *, width: int = 512, depth: int = 12, heads: int = 8) -> None:
        super().__init__()
        cube = (config.frame_patch, config.patch, config.patch)
        self.patches = nn.Conv3d(3, width, cube, cube)
        self.class_token = nn.Parameter(torch.randn(1, 1, width) / width**0.5)
        times, rows, columns = config.patches
        table = sincos(torch.arange(times), width)[:, None] + sincos_grid(rows, columns, width)
        self.register_buffer("positions", table.flatten(0, 1).float()[None], persistent=False)
        self.blocks = nn.ModuleList(
            Block(width, heads, Mlp(width, 4 * width), eps=1e-5, qkv_bias=False) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 1)

    def forward(self, x_B3THW: Tensor) -> Tensor:
        """Logits: high = real."""
        patches_BPD = self.patches(x_B3THW).flatten(2).transpose(1, 2) + self.positions
        h = torch.cat((self.class_token.expand(len(x_B3THW), -1, -1), patches_BPD), dim=1)
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h[:, 0]))
