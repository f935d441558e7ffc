"""From code vectors to the features of the vision transformer, and from those to the context of a diffusion model.

Shape suffixes: B batch, L tokens, N patches, D width, C width of a code, E width of a context.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.vit import Attention, Mlp
from smalti.tokenizers.lavit.config import LaVITConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What the UNet of the pixel decoder is conditioned on."""

    tokens: Tensor
    """float [B, N, E]: context of its cross-attention."""
    pooled: Tensor | None
    """float [B, P]: the pooled embedding that SDXL takes besides."""


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence to another."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x_BND: Tensor, other_BLD: Tensor, mask: Tensor | None) -> Tensor:
        """`mask` bool [B, 1, 1, L] is true where there is something to see; None = everywhere."""
        return self.proj(_attend(self.query(x_BND), self.key(other_BLD), self.value(other_BLD), self.heads, mask))


class DecoderBlock(nn.Module):
    """Self-attention of the queries, attention to the codes, MLP."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.cross_attention = CrossAttention(width, heads)
        self.norm3 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = Mlp(width, hidden)

    def forward(self, x_BND: Tensor, codes_BLD: Tensor, mask: Tensor | None) -> Tensor:
        """`codes_BLD` are not normalized; `mask` is false for padding."""
        x_BND = x_BND + self.attention(self.norm1(x_BND))
        x_BND = x_BND + self.cross_attention(self.norm2(x_BND), codes_BLD, mask)
        return x_BND + self.mlp(self.norm3(x_BND))


class AttentionPool(nn.Module):
    """The mean of all tokens looks at itself and all tokens (the pooling of CLIP's ResNets, arXiv 2103.00020)."""

    def __init__(self, *, tokens: int, width: int, heads: int, out: int) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(torch.empty(tokens + 1, width))
        nn.init.normal_(self.positions, std=width**-0.5)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, out)

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, out]."""
        x = torch.cat([x_BND.mean(dim=1, keepdim=True), x_BND], dim=1) + self.positions
        return self.proj(_attend(self.query(x[:, :1]), self.key(x), self.value(x), self.heads))[:, 0]


class Decoder(nn.Module):
    """Code vectors [B, L, C], padded behind the length of each image, to what the pixel decoder needs.

    Positions count the kept tokens: the decoder is not told which patches were kept.
    """

    def __init__(self, config: LaVITConfig) -> None:
        super().__init__()
        width, features = config.decoder_width, config.feature_width
        self.stem = nn.Linear(config.code_width, width)
        self.positions = nn.Parameter(torch.empty(1, config.patches, width))
        self.queries = nn.Parameter(torch.empty(1, config.patches, width))
        for parameter in (self.positions, self.queries):
            nn.init.normal_(parameter, std=0.02)
        hidden = int(width * config.mlp_ratio)
        self.blocks = nn.ModuleList(
            DecoderBlock(width, config.decoder_heads, hidden) for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, features))
        self.to_context = nn.ModuleList(nn.Linear(features, out) for out in config.contexts)
        self.pool = (
            AttentionPool(tokens=config.patches, width=features, heads=config.decoder_heads, out=config.pooled)
            if config.pooled
            else None
        )

    def features(self, codes_BLC: Tensor, lengths_B: Tensor) -> Tensor:
        """Predicted features [B, N, D] of all patches."""
        length = codes_BLC.shape[1]
        inside_BL = torch.arange(length, device=codes_BLC.device) < lengths_B[:, None]
        mask = None if inside_BL.all() else inside_BL[:, None, None]
        codes_BLD = self.stem(codes_BLC) + self.positions[:, :length]
        x_BND = self.queries.expand(len(codes_BLC), -1, -1)
        for block in self.blocks:
            x_BND = block(x_BND, codes_BLD, mask)
        return self.head(self.norm(x_BND))

    def context(self, features_BND: Tensor) -> Context:
        """The UNet's context of predicted features."""
        tokens = torch.cat([project(features_BND) for project in self.to_context], dim=-1)
        return Context(tokens=tokens, pooled=self.pool(features_BND) if self.pool is not None else None)

    def forward(self, codes_BLC: Tensor, lengths_B: Tensor) -> Context:
        """`lengths_B` int64 [B], at least 1: how many of the codes are of the image."""
        return self.context(self.features(codes_BLC, lengths_B))
