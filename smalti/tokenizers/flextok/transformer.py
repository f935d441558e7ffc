"""The transformer that FlexTok's encoder and decoder are made of, and the positions of their patches.

Shape suffixes: B batch, R rows, L positions, P patches, D width, H heads, C latent channels, h w latent grid,
E modulated parts of a sequence (patches, registers).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.tokenizers.flextok.config import StackConfig


def layer_norm(x: Tensor) -> Tensor:
    """LayerNorm over the last dimension without weights, eps 1e-5, in float32."""
    return F.layer_norm(x.float(), x.shape[-1:]).type_as(x)


def patchify(z_BChw: Tensor, patch: int) -> Tensor:
    """[B, P, patch * patch * C]: patches in raster order, each as (row, column, channel)."""
    batch, channels, height, width = z_BChw.shape
    cells = z_BChw.view(batch, channels, height // patch, patch, width // patch, patch)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def unpatchify(x_BPc: Tensor, patch: int, side: int) -> Tensor:
    """Inverse of `patchify` for a square grid of `side` latent cells."""
    cells = x_BPc.unflatten(1, (side // patch, side // patch)).unflatten(3, (patch, patch, -1))
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(len(x_BPc), -1, side, side)


def sincos_table(places_s: Tensor, width: int) -> Tensor:
    """[1, width, s, s]: (sin, cos) of the row, then (sin, cos) of the column, at width / 4 frequencies.

    Frequency j is 10000^(-j / (width / 4)).
    """
    quarter = width // 4
    frequencies = 10000.0 ** -(torch.arange(quarter, dtype=torch.float32) / quarter)
    angles, side = places_s[:, None] * frequencies, len(places_s)
    waves = torch.cat([angles.sin(), angles.cos()], dim=1).T
    rows, columns = waves[:, :, None].expand(-1, -1, side), waves[:, None, :].expand(-1, side, -1)
    return torch.cat([rows, columns])[None]


class PatchPositions(nn.Module):
    """A vector per patch of a square grid; a smaller grid uses the table's top left corner, or the whole, resized."""

    positions: Tensor

    def __init__(self, stack: StackConfig) -> None:
        super().__init__()
        self.kind, self.resize = stack.positions, stack.resize_positions
        if self.kind == "sincos":  # stored in the authors' files: a table of another kind or size does not load
            places = torch.arange(stack.position_side, dtype=torch.float32)
            self.register_buffer("positions", sincos_table(places, stack.width))
        else:
            self.positions = nn.Parameter(torch.empty(2, 1, stack.width, stack.position_side))
            nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, side: int) -> Tensor:
        """[1, P, D] of a grid of `side` patches."""
        if self.kind == "sincos":
            table = self.positions
        else:
            rows, columns = self.positions[0, ..., None], self.positions[1, :, :, None]
            table = rows + columns if self.kind == "sum" else rows * columns
        if self.resize:
            table = F.interpolate(table, size=(side, side), mode="bilinear", align_corners=True)
        return table[..., :side, :side].flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention, scale 8 / head width (muP; the usual one for heads of 64)."""

    def __init__(self, stack: StackConfig) -> None:
        super().__init__()
        width = stack.width
        self.head_width, self.normalize = stack.head_width, stack.normalize_qk
        self.q = nn.Linear(width, width, bias=stack.qkv_bias)
        self.k = nn.Linear(width, width, bias=stack.qkv_bias)
        self.v = nn.Linear(width, width, bias=stack.qkv_bias)
        self.proj = nn.Linear(width, width, bias=stack.proj_bias)

    def forward(self, x_RLD: Tensor, mask: Tensor | None) -> Tensor:
        """`mask`: bool (True = may see) or an additive bias, broadcast to [R, H, L, L]."""
        q, k, v = (f(x_RLD).unflatten(-1, (-1, self.head_width)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.normalize:
            q, k = layer_norm(q), layer_norm(k)
        h_RHLd = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=8 / self.head_width)
        return self.proj(h_RHLd.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """down(silu(gate x) * up x), or down(silu(gate x)) where it is not gated."""

    def __init__(self, stack: StackConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(stack.width, stack.hidden, bias=stack.mlp_bias)
        self.up = nn.Linear(stack.width, stack.hidden, bias=stack.mlp_bias) if stack.gated_mlp else None
        self.down = nn.Linear(stack.hidden, stack.width, bias=stack.mlp_bias)

    def forward(self, x_RLD: Tensor) -> Tensor:
        """Same shape."""
        h = F.silu(self.gate(x_RLD))
        return self.down(h if self.up is None else h * self.up(x_RLD))


class Block(nn.Module):
    """Pre-norm transformer block: x += attention(norm x), x += mlp(norm x)."""

    def __init__(self, stack: StackConfig) -> None:
        super().__init__()
        self.attention = Attention(stack)
        self.mlp = MLP(stack)
        for layer in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x_RLD: Tensor, mask: Tensor | None) -> Tensor:
        """Same shape."""
        x_RLD = x_RLD + self.attention(layer_norm(x_RLD), mask)
        return x_RLD + self.mlp(layer_norm(x_RLD))


class Parts:
    """A sequence whose first `patches` positions are modulated by one vector and the others by another (or the same).

    Slices are modulated one by one: writing the vectors out for every position would cost more than using them.
    """

    def __init__(self, patches: int, parts: int) -> None:
        self.bounds = ((0, None),) if parts == 1 else ((0, patches), (patches, None))

    def affine(self, x_RLD: Tensor, scale_RED: Tensor, shift_RED: Tensor) -> Tensor:
        """x * scale + shift."""
        made = [
            torch.addcmul(shift_RED[:, i : i + 1], x_RLD[:, a:b], scale_RED[:, i : i + 1])
            for i, (a, b) in enumerate(self.bounds)
        ]
        return made[0] if len(made) == 1 else torch.cat(made, dim=1)

    def add(self, x_RLD: Tensor, y_RLD: Tensor, gate_RED: Tensor) -> Tensor:
        """x + gate * y."""
        made = [
            torch.addcmul(x_RLD[:, a:b], y_RLD[:, a:b], gate_RED[:, i : i + 1]) for i, (a, b) in enumerate(self.bounds)
        ]
        return made[0] if len(made) == 1 else torch.cat(made, dim=1)


class ModulatedBlock(Block):
    """The block with adaLN: norms are scaled and shifted, residuals gated (arXiv 2212.09748)."""

    def forward(self, x_RLD: Tensor, mask: Tensor | None, parts: Parts, modulation_RE6D: Tensor) -> Tensor:  # type: ignore[override]
        """Same shape; the rows of the modulation may be one for all."""
        gate_1, gate_2, shift_1, scale_1, shift_2, scale_2 = modulation_RE6D.unbind(2)
        h_RLD = self.attention(parts.affine(layer_norm(x_RLD), 1 + scale_1, shift_1), mask)
        x_RLD = parts.add(x_RLD, h_RLD, gate_1)
        h_RLD = self.mlp(parts.affine(layer_norm(x_RLD), 1 + scale_2, shift_2))
        return parts.add(x_RLD, h_RLD, gate_2)


class TimeEmbedding(nn.Module):
    """Vectors of times in [0, 1]: cosine and sine at geometric frequencies from 1 down to 1/256, then an MLP."""

    frequencies: Tensor

    def __init__(self, frequencies: int, width: int, time_scale: float) -> None:
        super().__init__()
        half = frequencies // 2
        steps = torch.arange(half, dtype=torch.float32)
        self.register_buffer("frequencies", time_scale * torch.exp(-math.log(256) * steps / half), persistent=False)
        self.up = nn.Linear(frequencies, width)
        self.down = nn.Linear(width, width)
        for layer in (self.up, self.down):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, t_R: Tensor) -> Tensor:
        """[R, D]."""
        angles = t_R.float()[:, None] * self.frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.down(F.silu(self.up(waves)))
