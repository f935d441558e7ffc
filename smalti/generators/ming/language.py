"""The language model of Ming-UniVision (BailingMoE, arXiv 2503.05139): grouped attention and routed experts.

Shape suffixes: R rows (branches x batch), n tokens of this pass, S tokens seen, D width, H heads of queries,
K heads of keys and values, d head width, p = d / 2 pairs of channels, N = R n, E experts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.generators.ming.config import MingConfig
from smalti.nn.cache import KVCache
from smalti.nn.gpt import FeedForward


def rotation_table(count: int, head_width: int, base: float, device: torch.device) -> Tensor:
    """complex64 [count, p]: the turn of pair i at every place m is m base^(-2 i / d) (arXiv 2104.09864)."""
    frequencies = 1.0 / base ** (torch.arange(0, head_width, 2, device=device).float() / head_width)
    angles = torch.arange(count, device=device).float()[:, None] * frequencies
    return torch.complex(angles.cos(), angles.sin())


def rotate_halves(x_RnHd: Tensor, rotations_Rnp: Tensor) -> Tensor:
    """Turns the pairs (x[i], x[i + d / 2]) of channels, in float32."""
    a, b = x_RnHd.float().chunk(2, dim=-1)
    cos, sin = rotations_Rnp.real[:, :, None], rotations_Rnp.imag[:, :, None]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x_RnHd.dtype)


class GroupedAttention(nn.Module):
    """Self-attention whose keys and values have fewer heads than the queries (arXiv 2305.13245); no biases."""

    def __init__(self, config: MingConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads = config.heads, config.kv_heads
        self.qkv = nn.Linear(config.width, (config.heads + 2 * config.kv_heads) * config.head_width, bias=False)
        self.proj = nn.Linear(config.heads * config.head_width, config.width, bias=False)

    def forward(
        self, x_RnD: Tensor, rotations_Rnp: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        """[R, n, D]; `mask` bool [R, n, S], True = seen, None = all."""
        heads, groups = self.kv_heads, self.heads // self.kv_heads
        qkv = self.qkv(x_RnD).unflatten(-1, (self.heads + 2 * heads, -1))
        qk = rotate_halves(qkv[:, :, : self.heads + heads], rotations_Rnp)
        q, k, v = qk[:, :, : self.heads], qk[:, :, self.heads :].transpose(1, 2), qkv[:, :, -heads:].transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        # the heads of a group read the same keys: as further queries, so that keys and values are not repeated
        q = q.unflatten(2, (heads, groups)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # [R, K, groups * n, d]
        mask = mask.repeat(1, groups, 1)[:, None] if mask is not None else None
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        h = h.unflatten(2, (groups, -1)).permute(0, 3, 1, 2, 4)  # [R, n, K, groups, d]
        return self.proj(h.flatten(2))


class Experts(nn.Module):
    """Every token goes through the `active` experts its router scores highest, and through the shared one.

    Which experts those are must be known to the program, so a block on a GPU waits for its router, as the authors' do.
    """

    def __init__(self, config: MingConfig) -> None:
        super().__init__()
        self.active, self.normalize = config.active_experts, config.normalize_experts
        self.router = nn.Linear(config.width, config.experts, bias=False)
        self.image_router = nn.Linear(config.width, config.experts, bias=False) if config.image_router else None
        self.experts = nn.ModuleList(FeedForward(config.width, config.expert_width) for _ in range(config.experts))
        shared = config.expert_width * config.shared_experts
        self.shared = FeedForward(config.width, shared) if shared else None

    def route(self, x_ND: Tensor, image_N: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights float32 and numbers int64 of every token's experts, [N, active]; `image_N` bool: the image router."""
        logits_NE = self.router(x_ND)
        if image_N is not None and self.image_router is not None:
            logits_NE = torch.where(image_N[:, None], self.image_router(x_ND), logits_NE)
        weights, chosen = logits_NE.softmax(dim=-1, dtype=torch.float32).topk(self.active, dim=-1)
        if self.normalize and self.active > 1:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights, chosen

    def forward(self, x_RnD: Tensor, image_Rn: Tensor | None = None) -> Tensor:
        """[R, n, D]."""
        x_ND = x_RnD.flatten(0, 1)
        weights, chosen = self.route(x_ND, image_Rn.flatten() if image_Rn is not None else None)
        routed_ND = torch.zeros_like(x_ND, dtype=torch.promote_types(x_ND.dtype, torch.float32))
        for number in sorted(set(chosen.flatten().tolist())):
            rows, slots = (chosen == number).nonzero(as_tuple=True)
            out = self.experts[number](x_ND[rows]) * weights[rows, slots, None]
            routed_ND = routed_ND.index_add(0, rows, out)
        h_ND = routed_ND.to(x_ND.dtype)
        if self.shared is not None:
            h_ND = h_ND + self.shared(x_ND)
        return h_ND.unflatten(0, x_RnD.shape[:2])


class ExpertBlock(nn.Module):
    """x + attention(norm(x)), then x + experts(norm(x)), with RMSNorm (arXiv 1910.07467)."""

    eager = True  # which experts run is known only when they do: nothing to compile ahead

    def __init__(self, config: MingConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.attention = GroupedAttention(config)
        self.experts_norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.experts = Experts(config)

    def forward(
        self,
        x_RnD: Tensor,
        rotations_Rnp: Tensor,
        mask: Tensor | None,
        cache: KVCache | None,
        layer: int,
        image_Rn: Tensor | None,
    ) -> Tensor:
        x_RnD = x_RnD + self.attention(self.attention_norm(x_RnD), rotations_Rnp, mask, cache, layer)
        return x_RnD + self.experts(self.experts_norm(x_RnD), image_Rn)


class LanguageModel(nn.Module):
    """Token embeddings to hidden states; without the head that writes text."""

    def __init__(self, config: MingConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocab, config.width)
        self.blocks = nn.ModuleList(ExpertBlock(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_eps)

    @torch.no_grad()
    def initialize(self, std: float = 0.006) -> None:
        """Weights to start training from: the authors' standard deviation."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=std)

    def forward(
        self,
        x_RnD: Tensor,
        rotations_Rnp: Tensor,
        mask: Tensor | None,
        cache: KVCache | None = None,
        image_Rn: Tensor | None = None,
    ) -> Tensor:
        """[R, n, D]; with a `cache` the n tokens follow those that it holds. `image_Rn` bool: the image router."""
        for layer, block in enumerate(self.blocks):
            x_RnD = block(x_RnD, rotations_Rnp, mask, cache, layer, image_Rn)
        if cache is not None:
            cache.advance(x_RnD.shape[1])
        return self.norm(x_RnD)
