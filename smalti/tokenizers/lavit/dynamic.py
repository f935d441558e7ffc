"""What makes the number of tokens depend on the image: the selector keeps patches, the merger moves what the dropped
ones show into the kept ones (arXiv 2309.04669, section 3.1).

Shape suffixes: B batch, N patches, D width, H heads, d head width.
"""

import torch
import torch.nn.functional as F
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from smalti.nn.vit import Mlp

EPS = 1e-6


class Selector(nn.Module):
    """Features [B, N, D] to log-probabilities [B, N, 2] of keeping (0) and dropping (1) each patch.

    Half of the channels see the patch itself, the other half the mean over all patches.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.stem = nn.Linear(width, width)
        self.hidden1 = nn.Linear(width, width // 2)
        self.hidden2 = nn.Linear(width // 2, width // 4)
        self.head = nn.Linear(width // 4, 2)

    def forward(self, x_BND: Tensor) -> Tensor:
        """float32, whatever the autocast dtype: the decision must not depend on it."""
        with torch.autocast(x_BND.device.type, enabled=False):
            local, shared = F.gelu(self.stem(self.norm(x_BND.float()))).chunk(2, dim=-1)
            x = torch.cat([local, shared.mean(dim=1, keepdim=True).expand_as(local)], dim=-1)
            return self.head(F.gelu(self.hidden2(F.gelu(self.hidden1(x))))).log_softmax(dim=-1)


def gumbel_noise(logp_BN2: Tensor, rng: RandomGenerator) -> Tensor:
    """Standard Gumbel noise -log(e), e ~ Exp(1), of the shape and on the device of `logp_BN2`."""
    return -torch.empty(logp_BN2.shape, device=rng.device).exponential_(generator=rng).log().to(logp_BN2.device)


def decide(logp_BN2: Tensor, noise_BN2: Tensor | None = None) -> Tensor:
    """bool [B, N], which patches to keep: the more probable of both choices, or a draw from them given Gumbel noise.

    An image of which every patch would be dropped keeps its most probable one: no image is without tokens.
    """
    score_BN2 = logp_BN2 if noise_BN2 is None else logp_BN2 + noise_BN2
    margin_BN = score_BN2[..., 0] - score_BN2[..., 1]
    keep_BN = margin_BN >= 0
    best_BN = F.one_hot(margin_BN.argmax(dim=1), margin_BN.shape[1]).bool()
    return keep_BN | (best_BN & ~keep_BN.any(dim=1, keepdim=True))


def policy_attention(q_BHNd: Tensor, k_BHNd: Tensor, v_BHNd: Tensor, policy: Tensor) -> Tensor:
    """Attention with weights w = (a + eps / N) / (sum_k a + eps), a = exp(s - max_k s) P, s = q k^T / sqrt(d).

    `policy` P, broadcast to [B, H, N, N], is 1 where a query may look and 0 elsewhere; a query that may look nowhere
    sees the mean. P may carry a gradient (DynamicViT, arXiv 2106.02034, equation 10). Scaled dot-product attention
    cannot give this: the maximum is over all keys, so eps counts more the less a query likes what it may look at.
    """
    q_BHNd = q_BHNd * q_BHNd.shape[-1] ** -0.5
    scores = (q_BHNd @ k_BHNd.transpose(-2, -1)).float()
    a = (scores - scores.amax(dim=-1, keepdim=True)).exp() * policy
    total = a.sum(dim=-1, keepdim=True) + EPS
    seen = a.to(v_BHNd.dtype) @ v_BHNd + EPS * v_BHNd.mean(dim=-2, keepdim=True)
    return (seen / total).to(v_BHNd.dtype)


def _heads(x_BNC: Tensor, heads: int) -> Tensor:
    return x_BNC.unflatten(-1, (heads, -1)).transpose(1, 2)


class MergerBlock(nn.Module):
    """Causal attention among the kept patches, attention to the dropped ones, MLP."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.cross_proj = nn.Linear(width, width)
        self.norm3 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = Mlp(width, hidden)

    def forward(self, x_BND: Tensor, source_BND: Tensor, kept: Tensor, dropped: Tensor) -> Tensor:
        """`source_BND` are the features before any merging; `kept` and `dropped` the policies of both attentions."""
        q, k, v = (_heads(t, self.heads) for t in self.qkv(self.norm1(x_BND)).chunk(3, dim=-1))
        x_BND = x_BND + self.proj(policy_attention(q, k, v, kept).transpose(1, 2).flatten(2))
        q = _heads(self.query(self.norm2(x_BND)), self.heads)
        k, v = _heads(self.key(source_BND), self.heads), _heads(self.value(source_BND), self.heads)
        x_BND = x_BND + self.cross_proj(policy_attention(q, k, v, dropped).transpose(1, 2).flatten(2))
        return x_BND + self.mlp(self.norm3(x_BND))


class Merger(nn.Module):
    """Features [B, N, D] and which are kept to features [B, N, D], of which the kept ones are meant to be used."""

    def __init__(self, *, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm_source = nn.LayerNorm(width, eps=1e-5)
        self.blocks = nn.ModuleList(MergerBlock(width, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, x_BND: Tensor, keep_BN: Tensor) -> Tensor:
        """`keep_BN` is bool, or float 0 / 1 with a gradient."""
        kept, dropped = policies(keep_BN)
        source_BND = self.norm_source(x_BND)
        for block in self.blocks:
            x_BND = block(x_BND, source_BND, kept, dropped)
        return self.norm(x_BND)


def policies(keep_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Where a patch may look: [B, 1, N, N] itself and kept ones before it; [B, 1, 1, N] dropped ones, wherever."""
    keep = keep_BN.float()[:, None, None, :]
    itself = torch.eye(keep.shape[-1], device=keep.device)
    return (keep + (1 - keep) * itself).tril(), 1 - keep
