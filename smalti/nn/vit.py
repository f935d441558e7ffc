"""Pre-norm transformer blocks as in ViT (arXiv 2010.11929), full or causal, with an optional key-value cache.

Shape suffixes: B batch, n new tokens, L all tokens, D width, H heads, d head width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.cache import KVCache


class Attention(nn.Module):
    """Multi-head self-attention with one projection to queries, keys and values."""

    def __init__(self, width: int, heads: int, *, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        x_BnD: Tensor,
        *,
        causal: bool = False,
        cache: KVCache | None = None,
        layer: int = 0,
        read: slice = slice(None),
    ) -> Tensor:
        """With a `cache` the n tokens also see those that it holds; call `cache.advance(n)` after the last layer.

        `read`: which of the n tokens to compute, in full attention; they still see all.
        """
        q, k, v = self.qkv(x_BnD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, H, n, d]
        q = q[:, :, read]
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        new, total = q.shape[2], k.shape[2]
        mask = None
        if causal and 1 < new < total:  # torch's is_causal would align the first query with the first key
            mask = torch.ones(new, total, dtype=torch.bool, device=q.device).tril(total - new)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and new == total)
        return self.proj(h.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x_BnD: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x_BnD)))


class SwiGLU(nn.Module):
    """Gated feed-forward (arXiv 2002.05202): down(silu(a) * b) with (a, b) = up(x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x_BnD: Tensor) -> Tensor:
        gate, value = self.up(x_BnD).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(
        self, width: int, heads: int, feed_forward: nn.Module, *, eps: float = 1e-6, qkv_bias: bool = True
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.feed_forward = feed_forward

    def forward(
        self,
        x_BnD: Tensor,
        *,
        causal: bool = False,
        cache: KVCache | None = None,
        layer: int = 0,
        read: slice = slice(None),
    ) -> Tensor:
        """Arguments as for `Attention`; a last block needs to compute only the tokens that are read afterwards."""
        h_BnD = self.attention(self.norm1(x_BnD), causal=causal, cache=cache, layer=layer, read=read)
        x_BnD = x_BnD[:, read] + h_BnD
        return x_BnD + self.feed_forward(self.norm2(x_BnD))


BLOCK_KEYS = {"norm1": "norm1", "attn.qkv": "attention.qkv", "attn.proj": "attention.proj", "norm2": "norm2"}
"""Usual published names of a block's layers (timm, DINOv2) -> ours."""
FEED_FORWARD_KEYS = {
    "gelu": {"mlp.fc1": "feed_forward.up", "mlp.fc2": "feed_forward.down"},
    "swiglu": {"mlp.w12": "feed_forward.up", "mlp.w3": "feed_forward.down"},
}
"""The same for the two kinds of feed-forward."""
