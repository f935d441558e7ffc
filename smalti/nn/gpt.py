"""The transformer block of LlamaGen's GPT (arXiv 2406.06525) and the models built on it: NAR, DetailFlow, Hita.

Shape suffixes: R rows (branches x batch), n tokens of this pass, D width, H heads, d head width, p pairs of channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.cache import KVCache
from smalti.nn.rope import rotate


def hidden_width(width: int, multiple_of: int = 256) -> int:
    """Width inside a SwiGLU feed-forward: 8/3 of the model's, rounded up to a multiple."""
    hidden = int(2 * (4 * width) / 3)
    return -(-hidden // multiple_of) * multiple_of


class Attention(nn.Module):
    """Causal multi-head self-attention without biases; places come as rotations or are added outside."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, projection_dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.drop = nn.Dropout(projection_dropout)

    def forward(
        self,
        x_RnD: Tensor,
        *,
        rotations_np: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: KVCache | None = None,
        layer: int = 0,
        offset_nD: Tensor | None = None,
    ) -> Tensor:
        """[R, n, D]; `offset_nD` is added to queries and keys before they are turned, `mask` as for torch's SDPA."""
        qkv = self.qkv(x_RnD).unflatten(-1, (3, self.heads, -1))
        qk, v = qkv[:, :, :2], qkv[:, :, 2].transpose(1, 2)
        if offset_nD is not None:
            qk = qk + offset_nD.unflatten(-1, (self.heads, -1))[:, None]
        if rotations_np is not None:
            qk = rotate(qk, rotations_np[:, None])
        q, k = qk[:, :, 0].transpose(1, 2), qk[:, :, 1].transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
            q = q.to(k.dtype)
            mask = mask.to(k.dtype) if mask is not None and mask.is_floating_point() else mask
        dropout = self.dropout if self.training else 0.0
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout)
        return self.drop(self.proj(h.transpose(1, 2).flatten(2).to(x_RnD.dtype)))


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202): down(silu(gate(x)) * up(x)), no biases."""

    def __init__(self, width: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_RnD: Tensor) -> Tensor:
        """[R, n, D]."""
        return self.drop(self.down(F.silu(self.gate(x_RnD)) * self.up(x_RnD)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), with RMSNorm (arXiv 1910.07467)."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        norm_eps: float = 1e-5,
        attention_dropout: float = 0.0,
        residual_dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads, dropout=attention_dropout, projection_dropout=residual_dropout)
        self.feed_forward_norm = nn.RMSNorm(width, eps=norm_eps)
        self.feed_forward = FeedForward(width, hidden, dropout=residual_dropout)
        self.drop_path = drop_path

    def forward(
        self,
        x_RnD: Tensor,
        *,
        rotations_np: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: KVCache | None = None,
        layer: int = 0,
        offset_nD: Tensor | None = None,
    ) -> Tensor:
        """[R, n, D]; arguments as for the attention. With a cache, call `cache.advance(n)` after the last block."""
        h = self.attention(
            self.attention_norm(x_RnD),
            rotations_np=rotations_np,
            mask=mask,
            causal=causal,
            cache=cache,
            layer=layer,
            offset_nD=offset_nD,
        )
        x_RnD = x_RnD + self._dropped(h)
        return x_RnD + self._dropped(self.feed_forward(self.feed_forward_norm(x_RnD)))

    def _dropped(self, h_RnD: Tensor) -> Tensor:
        """In training the whole branch is dropped for some rows (stochastic depth, arXiv 1603.09382)."""
        if not self.training or self.drop_path == 0:
            return h_RnD
        keep = torch.rand(h_RnD.shape[0], 1, 1, device=h_RnD.device) >= self.drop_path
        return h_RnD * keep.to(h_RnD.dtype) / (1 - self.drop_path)


BLOCK_KEYS: dict[str, str | None] = {
    "layers.{}.attention.wqkv.weight": "blocks.{}.attention.qkv.weight",
    "layers.{}.attention.wo.weight": "blocks.{}.attention.proj.weight",
    "layers.{}.feed_forward.w1.weight": "blocks.{}.feed_forward.gate.weight",
    "layers.{}.feed_forward.w3.weight": "blocks.{}.feed_forward.up.weight",
    "layers.{}.feed_forward.w2.weight": "blocks.{}.feed_forward.down.weight",
    "layers.{}.attention_norm.weight": "blocks.{}.attention_norm.weight",
    "layers.{}.ffn_norm.weight": "blocks.{}.feed_forward_norm.weight",
}
"""Names of a block in the authors' files -> ours, where the blocks are called `blocks`."""
