"""The transformer blocks that FlexAR is built from (apple/ml-l3m; EPFL-VILAB/search-over-tokens).

Shape suffixes: R rows (branches x batch), n tokens of this pass, T text tokens, D width, H heads, G heads of keys and
values, d head width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.flextok.config import Activation, FlexARConfig, NormConfig
from smalti.nn.cache import KVCache

KeysValues = tuple[Tensor, Tensor]
"""[R, H, T, d] each: what the text is to one cross-attention."""


def norm_of(config: NormConfig | None, width: int) -> nn.Module:
    """The normalization, or nothing."""
    if config is None:
        return nn.Identity()
    if config.kind == "rms":
        return nn.RMSNorm(width, eps=config.eps, elementwise_affine=config.gain)
    return nn.LayerNorm(width, eps=config.eps, elementwise_affine=config.gain, bias=config.bias)


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh formula (arXiv 1606.08415)."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu-tanh": gelu_tanh,
    "silu": F.silu,
    "relu": F.relu,
    "quick-gelu": quick_gelu,
}


def rotary_table(length: int, width: int, base: float) -> Tensor:
    """float32 [2, n, d]: cosines and sines of p base^(-2 i / d) for places p and pairs of channels (i, i + d / 2)."""
    rates = base ** -(torch.arange(0, width, 2).float() / width)
    angles = torch.arange(length).float()[:, None] * rates
    angles = torch.cat((angles, angles), dim=-1)
    return torch.stack((angles.cos(), angles.sin()))


def rotate_pairs(x_RHnd: Tensor, table_2nd: Tensor) -> Tensor:
    """Turns channels i and i + d / 2 together."""
    cos, sin = table_2nd.to(x_RHnd.dtype)
    first, second = x_RHnd.chunk(2, dim=-1)
    return x_RHnd * cos + torch.cat((-second, first), dim=-1) * sin


class SelfAttention(nn.Module):
    """Multi-head self-attention, causal where more than one token is run at once."""

    def __init__(self, config: FlexARConfig) -> None:
        super().__init__()
        width, head = config.width, config.head_channels
        self.heads, self.kv_heads = config.heads, config.kv_heads or config.heads
        self.fused, self.scale, self.whole = config.fused_qkv, config.attention_scale, config.qk_norm_whole
        if self.fused:
            self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        else:
            self.q = nn.Linear(width, self.heads * head, bias=config.qkv_bias)
            self.k = nn.Linear(width, self.kv_heads * head, bias=config.qkv_bias)
            self.v = nn.Linear(width, self.kv_heads * head, bias=config.qkv_bias)
        queries, keys = (self.heads * head, self.kv_heads * head) if self.whole else (head, head)
        self.q_norm, self.k_norm = norm_of(config.qk_norm, queries), norm_of(config.qk_norm, keys)
        self.proj = nn.Linear(self.heads * head, width, bias=config.bias)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, x_RnD: Tensor, rotary_2nd: Tensor | None, causal: bool, cache: KVCache | None, layer: int
    ) -> Tensor:
        """[R, n, D]; with a cache, after the tokens it holds."""
        q, k, v = self.qkv(x_RnD).chunk(3, dim=-1) if self.fused else (self.q(x_RnD), self.k(x_RnD), self.v(x_RnD))
        if self.whole:
            q, k = self.q_norm(q), self.k_norm(k)
        q_RHnd = q.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k_RGnd, v_RGnd = (t.unflatten(-1, (self.kv_heads, -1)).transpose(1, 2) for t in (k, v))
        if not self.whole:
            q_RHnd, k_RGnd = self.q_norm(q_RHnd), self.k_norm(k_RGnd)
        if rotary_2nd is not None:
            q_RHnd, k_RGnd = rotate_pairs(q_RHnd, rotary_2nd), rotate_pairs(k_RGnd, rotary_2nd)
        if cache is not None:
            k_RGnd, v_RGnd = cache.extend(layer, k_RGnd, v_RGnd)
        h = F.scaled_dot_product_attention(
            q_RHnd, k_RGnd, v_RGnd, is_causal=causal, scale=self.scale, enable_gqa=self.kv_heads < self.heads
        )
        return self.drop(self.proj(h.transpose(1, 2).flatten(2)))


class CrossAttention(nn.Module):
    """Image tokens look at the text; padding is masked out."""

    def __init__(self, config: FlexARConfig) -> None:
        super().__init__()
        width, self.heads = config.width, config.cross_heads or config.heads
        head = width // self.heads
        self.q = nn.Linear(width, width, bias=config.cross_qkv_bias)
        self.k = nn.Linear(width, width, bias=config.cross_qkv_bias)
        self.v = nn.Linear(width, width, bias=config.cross_qkv_bias)
        self.q_norm, self.k_norm = norm_of(config.cross_qk_norm, head), norm_of(config.cross_qk_norm, head)
        self.proj = nn.Linear(width, width, bias=config.bias)
        self.drop = nn.Dropout(config.dropout)

    def keys_values(self, text_RTD: Tensor) -> KeysValues:
        """Those of the text: they stay the same for every image token."""
        k, v = (layer(text_RTD).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.k, self.v))
        return self.k_norm(k), v

    def forward(self, x_RnD: Tensor, text: KeysValues, mask_R11T: Tensor | None) -> Tensor:
        """[R, n, D]."""
        q_RHnd = self.q_norm(self.q(x_RnD).unflatten(-1, (self.heads, -1)).transpose(1, 2))
        h = F.scaled_dot_product_attention(q_RHnd, *text, attn_mask=mask_R11T)
        return self.drop(self.proj(h.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """Two layers with an activation between them, or three with a gate."""

    def __init__(self, config: FlexARConfig) -> None:
        super().__init__()
        self.gated, self.activation = config.gated, ACTIVATIONS[config.activation]
        if self.gated:
            self.gate = nn.Linear(config.width, config.hidden_width, bias=config.bias)
        self.up = nn.Linear(config.width, config.hidden_width, bias=config.bias)
        self.down = nn.Linear(config.hidden_width, config.width, bias=config.bias)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x_RnD: Tensor) -> Tensor:
        """[R, n, D]."""
        h = self.activation(self.gate(x_RnD)) * self.up(x_RnD) if self.gated else self.activation(self.up(x_RnD))
        return self.drop(self.down(h))


class Block(nn.Module):
    """x + attention(norm(x)), with text x + cross(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: FlexARConfig) -> None:
        super().__init__()
        self.attention_norm, self.attention = norm_of(config.norm, config.width), SelfAttention(config)
        self.crosses = bool(config.text_features)
        if self.crosses:
            self.cross_norm, self.cross = norm_of(config.norm, config.width), CrossAttention(config)
        self.feed_forward_norm, self.feed_forward = norm_of(config.norm, config.width), FeedForward(config)

    def forward(
        self,
        x_RnD: Tensor,
        *,
        text: KeysValues | None = None,
        text_mask: Tensor | None = None,
        rotary: Tensor | None = None,
        causal: bool = False,
        cache: KVCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """[R, n, D]; with a cache, call `cache.advance(n)` after the last block."""
        x_RnD = x_RnD + self.attention(self.attention_norm(x_RnD), rotary, causal, cache, layer)
        if self.crosses:
            assert text is not None
            x_RnD = x_RnD + self.cross(self.cross_norm(x_RnD), text, text_mask)
        return x_RnD + self.feed_forward(self.feed_forward_norm(x_RnD))


class TextProjection(nn.Module):
    """Features of the text encoder to the model's width: down(activation(up(x)))."""

    def __init__(self, config: FlexARConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.text_features, config.text_features, bias=config.text_bias)
        self.down = nn.Linear(config.text_features, config.width, bias=config.text_bias)
        self.activation = ACTIVATIONS[config.text_activation]

    def forward(self, text_RTF: Tensor) -> Tensor:
        """[R, T, D]."""
        return self.down(self.activation(self.up(text_RTF)))
