"""MingTok (arXiv 2510.06590; inclusionAI/Ming-UniVision, MIT): continuous tokens in three stages.

Shape suffixes: B batch, H W pixels, h w token grid, L = h w tokens (L + 1 with the class token), n new tokens,
C latent channels, D width of a stage, P cells of the pixel decoder.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from smalti.nn.cache import KVCache
from smalti.nn.vit import Block, Mlp, SwiGLU
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.mingtok.config import HEAD_WIDTH, MLP_RATIO, FeedForward, MingTokConfig
from smalti.tokenizers.mingtok.feedback import SemanticFeedback
from smalti.tokens import Segment, TokenLayout, Tokens


def _blocks(width: int, depth: int, kind: FeedForward) -> nn.ModuleList:
    hidden = width * MLP_RATIO
    gated = (hidden * 2 // 3 + 7) // 8 * 8  # about as many weights as the plain one, rounded up to a multiple of 8

    def feed_forward() -> nn.Module:
        return Mlp(width, hidden) if kind == "gelu" else SwiGLU(width, gated)

    return nn.ModuleList(Block(width, width // HEAD_WIDTH, feed_forward()) for _ in range(depth))


class LowLevelEncoder(nn.Module):
    """Image [B, 3, H, W] in [-1, 1] to raw latents [B, L + 1, C]; the class token is the last."""

    def __init__(self, config: MingTokConfig) -> None:
        super().__init__()
        width, self.grid, self.channels = config.encoder_width, config.grid, config.latent_channels
        self.patches = nn.Conv2d(3, width, config.patch, stride=config.patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, self.grid**2 + 1, width))
        self.blocks = _blocks(width, config.encoder_depth, config.encoder_feed_forward)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, config.latent_channels)
        for table in (self.class_token, self.positions):
            nn.init.normal_(table, std=0.02)

    def positions_of(self, height: int, width: int) -> Tensor:
        """The learned positions [1, L + 1, D] resampled to a grid of another size; the class token's stays."""
        if height == width == self.grid:
            return self.positions
        grid_1DHW = self.positions[:, :-1].float().unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        # kept from DINOv2: sampling at scale (n + 0.1) / grid, not n / grid
        scale = ((height + 0.1) / self.grid, (width + 0.1) / self.grid)
        resampled = F.interpolate(grid_1DHW, scale_factor=scale, mode="bicubic").flatten(2).transpose(1, 2)
        return torch.cat((resampled.to(self.positions.dtype), self.positions[:, -1:]), dim=1)

    def forward(self, x_B3HW: Tensor, hidden_BL: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
        """`hidden_BL` bool: patches that are replaced by `mask_token` [D]; for training only."""
        patches_BDhw = self.patches(x_B3HW)
        x = patches_BDhw.flatten(2).transpose(1, 2)
        if hidden_BL is not None and mask_token is not None:
            x = torch.where(hidden_BL[..., None], mask_token.to(x.dtype), x)
        x = torch.cat((x, self.class_token.expand(len(x), -1, -1)), dim=1)
        x = x + self.positions_of(*patches_BDhw.shape[2:])
        for block in self.blocks:
            x = block(x)
        means = x.unflatten(-1, (self.channels, -1)).mean(dim=-1)
        return means + self.head(F.gelu(self.norm(x)))


class SemanticDecoder(nn.Module):
    """Raw latents [B, n, C] to semantic features [B, n, D]; causal, so token after token gives the same as all at once.

    There are no positions: a token's place is in its latent, and in how many tokens it sees.
    """

    def __init__(self, config: MingTokConfig) -> None:
        super().__init__()
        width = config.semantic_width
        self.repeats = width // config.latent_channels
        self.stem = nn.Linear(config.latent_channels, width)
        self.blocks = _blocks(width, config.semantic_depth, config.semantic_feed_forward)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, z_BnC: Tensor, cache: KVCache | None = None) -> Tensor:
        """With a `cache` the n tokens follow those that it holds."""
        x = self.stem(z_BnC) + z_BnC.repeat_interleave(self.repeats, dim=-1)
        for i, block in enumerate(self.blocks):
            x = block(x, causal=True, cache=cache, layer=i)
        if cache is not None:
            cache.advance(z_BnC.shape[1])
        return self.norm(x)


class PixelDecoder(nn.Module):
    """Semantic features [B, L, D] of a whole grid to an image [B, 3, H, W], about [-1, 1]."""

    def __init__(self, config: MingTokConfig) -> None:
        super().__init__()
        width, self.split, self.patch = config.pixel_width, config.split, config.pixel_patch
        self.stem = nn.Linear(config.semantic_width, width * config.split**2)
        self.blocks = _blocks(width, config.pixel_depth, "gelu")
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 3 * config.pixel_patch**2)

    def cells(self, features_BLD: Tensor, grid: tuple[int, int]) -> Tensor:
        """Every token unfolded to split x split cells, [B, P, D] in raster order."""
        x = self.stem(features_BLD).unflatten(-1, (self.split, self.split, -1)).unflatten(1, grid)
        return x.transpose(2, 3).flatten(1, 4)  # [B, h, w, y, x, D] to [B, h, y, w, x, D]

    def forward(self, features_BLD: Tensor, grid: tuple[int, int]) -> Tensor:
        """`grid`: tokens along height and width."""
        x = self.cells(features_BLD, grid)
        for block in self.blocks:
            x = block(x)
        x = self.head(self.norm(x)).unflatten(-1, (self.patch, self.patch, 3))
        x = x.unflatten(1, (grid[0] * self.split, grid[1] * self.split))  # [B, rows, columns, y, x, 3]
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


@dataclass(frozen=True, kw_only=True, eq=False)
class SemanticFeatures:
    """What MingTok understands of a batch of images."""

    patches: Tensor
    """float [B, L, D] in raster order: what a language model reads and the pixel decoder draws."""
    whole: Tensor
    """float [B, D]: the class token's, which sees all patches."""


class MingTok(Tokenizer):
    """Image to a grid of latents; from latents to semantic features causally, from these to pixels."""

    def __init__(self, config: MingTokConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="multiple_of", value=config.patch)
        self.encoder = LowLevelEncoder(config)
        self.semantic = SemanticDecoder(config)
        self.decoder = PixelDecoder(config)

    def layout(self, size: int | tuple[int, int] | None = None) -> TokenLayout:
        """One grid of latents for images of `size` pixels (default: `config.image_size`); whole only."""
        side, patch = size or self.config.image_size, self.config.patch
        height, width = (side, side) if isinstance(side, int) else side
        if height % patch or width % patch:
            raise ValueError(f"{self.name or 'MingTok'} takes {self.sizes}, got {height}x{width}")
        shape = (height // patch, width // patch)
        return TokenLayout(segments=(Segment(shape=shape, vocab=None),), prefixes=(shape[0] * shape[1],))

    def normalize(self, raw_BnC: Tensor) -> Tensor:
        """Raw latents as a generator predicts them."""
        return (raw_BnC - self.config.mean) / self.config.scale

    def denormalize(self, latents_BnC: Tensor) -> Tensor:
        """Inverse of `normalize`."""
        return latents_BnC * self.config.scale + self.config.mean

    def features(self, images: Tensor) -> SemanticFeatures:
        """Semantic features of images [B, 3, H, W] in [0, 1]."""
        x_BnD = self.semantic(self.encoder(images * 2 - 1))
        return SemanticFeatures(patches=x_BnD[:, :-1], whole=x_BnD[:, -1])

    def features_of(self, latents: Tensor) -> Tensor:
        """Semantic features [B, n, D] of the first n latents [B, n, C], as the tokens hold them."""
        return self.semantic(self.denormalize(latents))

    def decode_latents(self, latents: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Images in about [0, 1], not clamped, from the semantic features [B, L, D] of a whole grid.

        `grid`: tokens along height and width; by default as many along both.
        """
        side = round(latents.shape[1] ** 0.5)
        rows, columns = grid or (side, side)
        if rows * columns != latents.shape[1]:
            raise ValueError(f"got {latents.shape[1]} semantic features for a grid of {rows}x{columns} tokens")
        return (self.decoder(latents, (rows, columns)) + 1) / 2

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        raw_BnC = self.encoder(images * 2 - 1)[:, :-1]  # the class token's latent is no part of the picture
        return Tokens(layout=self.layout((images.shape[2], images.shape[3])), latents=self.normalize(raw_BnC.float()))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: RandomGenerator | None) -> Tensor:
        assert tokens.latents is not None
        rows, columns = tokens.layout.segments[0].shape
        sides = (rows * self.config.patch, columns * self.config.patch)
        if size is not None and sides != (size, size):
            raise ValueError(f"these tokens decode to {sides[0]}x{sides[1]} pixels only, got size={size}")
        return self.decode_latents(self.features_of(tokens.latents), (rows, columns))

    def feedback(self, batch: int) -> SemanticFeedback:
        """The semantic feature of every token, computed as tokens come."""
        return SemanticFeedback(self, batch)
