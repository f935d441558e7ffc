"""The Q-Former (arXiv 2301.12597): learned queries that read an image, in a BERT with cross-attention.

Post-norm layers as in BERT (arXiv 1810.04805). Shape suffixes: B batch, q queries, k keys, n context, D width,
E context width.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class PostNormAttention(nn.Module):
    """norm(x + attention(x, context)), the context being x itself where there is none."""

    def __init__(self, width: int, heads: int, context_width: int, *, eps: float, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key, self.value = nn.Linear(context_width, width), nn.Linear(context_width, width)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(
        self, x_BqD: Tensor, context_BkE: Tensor | None = None, *, causal: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        """`mask` bool, True where a key is seen, goes with scores [B, heads, q, k]."""
        source = x_BqD if context_BkE is None else context_BkE
        parts = (self.query(x_BqD), self.key(source), self.value(source))
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        dropped = self.dropout if self.training else 0.0
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropped)
        h_BqD = F.dropout(self.proj(h.transpose(1, 2).flatten(2)), self.dropout, self.training)
        return self.norm(x_BqD + h_BqD)


class PostNormMlp(nn.Module):
    """norm(x + down(gelu(up(x))))."""

    def __init__(self, width: int, hidden: int, *, eps: float, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x_BqD: Tensor) -> Tensor:
        h_BqD = F.dropout(self.down(F.gelu(self.up(x_BqD))), self.dropout, self.training)
        return self.norm(x_BqD + h_BqD)


class QFormerLayer(nn.Module):
    """Self-attention of the queries, cross-attention to the image in some layers, feed-forward."""

    def __init__(
        self, width: int, heads: int, hidden: int, context_width: int | None, *, eps: float, dropout: float
    ) -> None:
        """`context_width` None: without cross-attention."""
        super().__init__()
        self.attention = PostNormAttention(width, heads, width, eps=eps, dropout=dropout)
        self.cross_attention = (
            PostNormAttention(width, heads, context_width, eps=eps, dropout=dropout) if context_width else None
        )
        self.feed_forward = PostNormMlp(width, hidden, eps=eps, dropout=dropout)

    def forward(self, x_BqD: Tensor, context_BnE: Tensor, causal: bool) -> Tensor:
        x_BqD = self.attention(x_BqD, causal=causal)
        if self.cross_attention is not None:
            x_BqD = self.cross_attention(x_BqD, context_BnE)
        return self.feed_forward(x_BqD)


class QFormer(nn.Module):
    """Queries [B, q, D] and an image [B, n, E] to features [B, q, D]."""

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        context_width: int,
        cross_every: int,
        causal: bool,
        eps: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.causal, self.dropout = causal, dropout
        self.norm = nn.LayerNorm(width, eps=eps)
        contexts = [None if i % cross_every else context_width for i in range(depth)]
        self.layers = nn.ModuleList(
            QFormerLayer(width, heads, hidden, context, eps=eps, dropout=dropout) for context in contexts
        )

    def forward(self, queries_BqD: Tensor, context_BnE: Tensor) -> Tensor:
        x_BqD = F.dropout(self.norm(queries_BqD), self.dropout, self.training)
        for layer in self.layers:
            x_BqD = layer(x_BqD, context_BnE, self.causal)
        return x_BqD
