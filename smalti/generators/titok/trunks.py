"""The two transformers of TiTok's generators: BERT's with norms behind the residual sums, and a U-ViT with long skips.

Both see their tokens in any order, since places are added to the tokens, and both can compute the last block for the
first `read` tokens only. Shape suffixes: R rows (branches x batch), n tokens, m read tokens, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.titok.config import TiTokGeneratorConfig
from smalti.nn.vit import Block, Mlp


class PostNormBlock(nn.Module):
    """BERT's block (arXiv 1810.04805): norm(x + attention(x)), then norm(x + feed-forward(x))."""

    def __init__(self, config: TiTokGeneratorConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.rate = config.heads, config.dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        self.feed_forward = Mlp(width, config.hidden)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_RnD: Tensor, read: slice) -> Tensor:
        """[R, m, D]."""
        h_RmD = x_RnD[:, read]
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, h_RmD), (self.key, x_RnD), (self.value, x_RnD))
        )
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=self.rate if self.training else 0.0)
        h_RmD = self.norm1(h_RmD + self.dropout(self.proj(attended.transpose(1, 2).flatten(2))))
        return self.norm2(h_RmD + self.dropout(self.feed_forward(h_RmD)))


class ViTTrunk(nn.Module):
    """BERT's embedding norm and blocks."""

    def __init__(self, config: TiTokGeneratorConfig) -> None:
        super().__init__()
        self.segments = nn.Parameter(torch.zeros(2, config.width))
        self.embedding_norm = nn.LayerNorm(config.width, eps=1e-12)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(PostNormBlock(config) for _ in range(config.depth))

    def enter(self, x_RnD: Tensor) -> Tensor:
        """Embedded and placed tokens, as the blocks read them; token by token."""
        return self.dropout(self.embedding_norm(x_RnD + self.segments[0]))  # kept: BERT's second segment is never used

    def forward(self, x_RnD: Tensor, read: slice) -> Tensor:
        """[R, m, D] for the head."""
        *first, last = self.blocks
        for block in first:
            x_RnD = block(x_RnD, slice(None))
        return last(x_RnD, read)


class SkipBlock(nn.Module):
    """A block behind the middle: joins what the block on the other side gave."""

    def __init__(self, config: TiTokGeneratorConfig) -> None:
        super().__init__()
        self.skip = nn.Linear(2 * config.width, config.width)
        self.block = _block(config)

    def forward(self, x_RnD: Tensor, skip_RnD: Tensor, read: slice) -> Tensor:
        """[R, m, D]."""
        return self.block(self.skip(torch.cat([x_RnD, skip_RnD], dim=-1)), read=read)


class UViTTrunk(nn.Module):
    """U-ViT (arXiv 2209.12152): every block before the middle is joined to its mirror image behind it."""

    def __init__(self, config: TiTokGeneratorConfig) -> None:
        super().__init__()
        self.before = nn.ModuleList(_block(config) for _ in range(config.depth // 2))
        self.middle = _block(config)
        self.behind = nn.ModuleList(SkipBlock(config) for _ in range(config.depth // 2))
        self.norm = nn.LayerNorm(config.width)

    def enter(self, x_RnD: Tensor) -> Tensor:
        """Embedded and placed tokens, as the blocks read them; token by token."""
        return x_RnD

    def forward(self, x_RnD: Tensor, read: slice) -> Tensor:
        """[R, m, D] for the head."""
        skips = []
        for block in self.before:
            x_RnD = block(x_RnD)
            skips.append(x_RnD)
        x_RnD = self.middle(x_RnD)
        for i, block in enumerate(self.behind):
            x_RnD = block(x_RnD, skips.pop(), read if i + 1 == len(self.behind) else slice(None))
        return self.norm(x_RnD)


def _block(config: TiTokGeneratorConfig) -> Block:
    return Block(config.width, config.heads, Mlp(config.width, config.hidden), eps=1e-5, qkv_bias=False)
