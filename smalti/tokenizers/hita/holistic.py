"""How holistic tokens are taken from an image and put back into it (arXiv 2507.02358).

Shape suffixes: B batch, n holistic tokens, m foundation tokens, F their width, h w patch grid, L sequence, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.nn.positions import resample_positions
from smalti.nn.vit import SwiGLU
from smalti.tokenizers.hita.config import HitaTokenizerConfig

FOUNDATION_GRID = 16
"""Side of the grid of foundation features that are predicted: DINOv2's patches of 14 pixels at 224."""


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values have a bias in the causal kind only."""

    def __init__(self, config: HitaTokenizerConfig, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = config.heads, config.dropout, causal
        inner = config.width if causal else config.heads * config.head_width
        self.query, self.key, self.value = (nn.Linear(config.width, inner, bias=causal) for _ in range(3))
        self.proj = nn.Linear(inner, config.width)

    def forward(self, x_BLD: Tensor, mask_LL: Tensor | None = None) -> Tensor:
        """Same shape; `mask_LL` (true = may look) replaces the causal one."""
        q, k, v = (f(x_BLD).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        # Kept: the authors drop attention weights in the causal kind, outputs in the other.
        drop_weights = self.dropout if self.causal and self.training else 0.0
        causal = self.causal and mask_LL is None
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_LL, is_causal=causal, dropout_p=drop_weights)
        x_BLD = self.proj(h.transpose(1, 2).flatten(2))
        return x_BLD if self.causal else F.dropout(x_BLD, self.dropout, self.training)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); the feed-forward is gated."""

    def __init__(self, config: HitaTokenizerConfig, *, causal: bool) -> None:
        super().__init__()
        hidden = (config.mlp_width * 2 // 3 + 7) // 8 * 8  # two thirds, because the gate is a third matrix
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = Attention(config, causal=causal)
        self.norm2 = nn.LayerNorm(config.width)
        self.feed_forward = SwiGLU(config.width, hidden)

    def forward(self, x_BLD: Tensor, mask_LL: Tensor | None = None) -> Tensor:
        """Same shape."""
        x_BLD = x_BLD + self.attention(self.norm1(x_BLD), mask_LL)
        return x_BLD + self.feed_forward(self.norm2(x_BLD))


class HolisticEncoder(nn.Module):
    """Gathers the image into holistic tokens: they see patches and foundation tokens in a first transformer; in a
    second, causal one the patches see them, but not the other way around."""

    def __init__(self, config: HitaTokenizerConfig) -> None:
        super().__init__()
        width = config.width
        self.project = nn.Sequential(
            nn.Linear(config.foundation.width, width, bias=False),
            nn.LayerNorm(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.LayerNorm(width),
        )
        self.queries = nn.Parameter(torch.empty(1, config.holistic_tokens, width))
        self.positions = nn.Parameter(torch.empty(1, config.grid**2, width))
        self.norm1 = nn.LayerNorm(width)
        self.full = nn.ModuleList(Block(config, causal=False) for _ in range(config.depth))
        self.norm2 = nn.LayerNorm(width)
        self.causal = nn.ModuleList(Block(config, causal=True) for _ in range(config.depth))
        for table in (self.queries, self.positions):
            nn.init.normal_(table, std=width**-0.5)

    def forward(self, features_BDhw: Tensor, foundation_BmF: Tensor) -> tuple[Tensor, Tensor]:
        """Holistic tokens [B, n, D] and patches [B, D, h, w]."""
        height, width = features_BDhw.shape[-2:]
        queries_BnD = self.queries.expand(len(features_BDhw), -1, -1)
        foundation_BmD = self.project(foundation_BmF)
        patches = features_BDhw.flatten(2).transpose(1, 2) + resample_positions(self.positions, height, width)
        x_BLD = self.norm1(torch.cat([queries_BnD, foundation_BmD, patches], dim=1))
        for block in self.full:
            x_BLD = block(x_BLD)
        n, m = queries_BnD.shape[1], foundation_BmD.shape[1]
        x_BLD = self.norm2(torch.cat([x_BLD[:, :n], x_BLD[:, n + m :]], dim=1))
        for block in self.causal:
            x_BLD = block(x_BLD)
        return x_BLD[:, :n], x_BLD[:, n:].transpose(1, 2).unflatten(2, (height, width))


class HolisticDecoder(nn.Module):
    """Fuses holistic tokens into the patches, by a causal transformer over both.

    Patch i is read out `shift` places before its own token, so that the first ones come from holistic tokens and the
    last `shift` patch tokens have no influence on anything (kept: as the authors do it; those tokens are not run).
    """

    def __init__(self, config: HitaTokenizerConfig) -> None:
        super().__init__()
        width = config.width
        self.shift = config.shift
        self.positions = nn.Parameter(torch.empty(1, config.grid**2, width))
        self.holistic_positions = nn.Parameter(torch.empty(1, config.holistic_tokens, width))
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(config, causal=True) for _ in range(config.depth))
        for table in (self.positions, self.holistic_positions):
            nn.init.normal_(table, std=width**-0.5)
        if config.predicted_width:
            self.mask = nn.Parameter(torch.empty(1, 1, width))
            nn.init.normal_(self.mask, std=width**-0.5)
            self.norm_predicted = nn.LayerNorm(width)
            self.predict = nn.Linear(width, config.predicted_width)

    def forward(self, holistic_BnD: Tensor, patches_BDhw: Tensor) -> Tensor:
        """Fused patches [B, D, h, w]."""
        height, width = patches_BDhw.shape[-2:]
        patches = patches_BDhw.flatten(2).transpose(1, 2) + resample_positions(self.positions, height, width)
        x_BLD = torch.cat([holistic_BnD + self.holistic_positions, patches], dim=1)
        x_BLD = self.norm(x_BLD[:, : x_BLD.shape[1] - self.shift])
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return x_BLD[:, holistic_BnD.shape[1] - self.shift :].transpose(1, 2).unflatten(2, (height, width))

    def predict_foundation(self, holistic_BnD: Tensor) -> Tensor:
        """Foundation features [B, 256, F] of the image from its holistic tokens alone (Hita-U; training only).

        Mask tokens at the places of the patches see everything, the holistic tokens only those before them; they get
        no positions here.
        """
        n, side = holistic_BnD.shape[1], FOUNDATION_GRID
        masks_1mD = self.mask + resample_positions(self.positions, side, side)
        x_BLD = torch.cat([holistic_BnD, masks_1mD.expand(len(holistic_BnD), -1, -1)], dim=1)
        mask_LL = torch.ones(x_BLD.shape[1], x_BLD.shape[1], dtype=torch.bool, device=x_BLD.device).tril()
        mask_LL[n:] = True
        x_BLD = self.norm_predicted(x_BLD)
        for block in self.blocks:
            x_BLD = block(x_BLD, mask_LL)
        return self.predict(x_BLD[:, n:])
