"""DetailFlow's tokenizer (arXiv 2505.21473; ByteFlow-AI/DetailFlow, Apache-2.0).

Shape suffixes: B batch, C code width, D width, H W pixels, N all tokens, n tokens, p patches,
S patches and tokens.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from smalti.nn.quantizers.vq import VectorQuantizer
from smalti.tokenizers.base import Tokenizer
from smalti.tokenizers.detailflow.config import DetailFlowTokenizerConfig, TowerConfig
from smalti.tokenizers.detailflow.resolution import Resolutions, SquareSizes
from smalti.tokens import Segment, TokenLayout, Tokens

Window = tuple[slice, slice, Tensor | None]
"""Which rows of a sequence look at which, and a mask (True = visible) where they do not see all of those."""


class Attention(nn.Module):
    """Multi-head self-attention whose rows look at their windows only."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x_BSD: Tensor, windows: list[Window]) -> Tensor:
        q, k, v = (
            layer(x_BSD).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        parts = [
            F.scaled_dot_product_attention(q[:, :, rows], k[:, :, seen], v[:, :, seen], attn_mask=mask)
            for rows, seen, mask in windows
        ]
        h = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        return self.proj(h.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)), with the tanh approximation of GELU."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attention = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.up, self.down = nn.Linear(config.width, config.mlp), nn.Linear(config.mlp, config.width)

    def forward(self, x_BSD: Tensor, windows: list[Window]) -> Tensor:
        x_BSD = x_BSD + self.attention(self.norm1(x_BSD), windows)
        return x_BSD + self.down(F.gelu(self.up(self.norm2(x_BSD)), approximate="tanh"))


def token_visibility(config: DetailFlowTokenizerConfig) -> Tensor:
    """bool [N, N]: which tokens a token sees where attention is causal.

    Inside the head itself and those before it; behind the head its own group and those before it.
    """
    place = torch.arange(config.tokens)
    earlier = place[:, None] >= place
    same_group = place[:, None] // config.group >= place // config.group
    return torch.where(place[:, None] < config.head_length, earlier, same_group)


class Tower(nn.Module):
    """A vision transformer over patches followed by tokens."""

    visible: Tensor

    def __init__(self, config: TowerConfig, parent: DetailFlowTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.positions = nn.Parameter(torch.empty(config.grid**2, config.width))
        self.token_positions = nn.Parameter(torch.empty(1, parent.tokens, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        for table in (self.positions, self.token_positions):
            nn.init.normal_(table, std=0.02)
        self.register_buffer("visible", token_visibility(parent) if config.causal else None, persistent=False)

    def patch_positions(self, side: int) -> Tensor:
        """Positions [p, D] of a grid of `side` x `side` patches."""
        grid = self.config.grid
        if side == grid:
            return self.positions
        table_1Dhw = self.positions.T.unflatten(1, (grid, grid))[None]
        return F.interpolate(table_1Dhw, (side, side), mode="bilinear", antialias=True).flatten(2)[0].T

    def run(self, patches_BpD: Tensor, tokens_BnD: Tensor, windows: list[Window]) -> tuple[Tensor, Tensor]:
        """Features of patches [B, p, D] and tokens [B, n, D] that have their positions."""
        x_BSD = torch.cat([patches_BpD, tokens_BnD], dim=1)
        for block in self.blocks:
            x_BSD = block(x_BSD, windows)
        x_BSD = self.norm(x_BSD)
        return x_BSD[:, : patches_BpD.shape[1]], x_BSD[:, patches_BpD.shape[1] :]


class Encoder(Tower):
    """Image to token features: learned queries read the patches, which do not see them."""

    def __init__(self, config: TowerConfig, parent: DetailFlowTokenizerConfig) -> None:
        super().__init__(config, parent)
        self.patches = nn.Linear(3 * config.patch**2, config.width)
        self.queries = nn.Parameter(torch.empty(1, parent.tokens, config.width))
        self.refined = nn.Parameter(torch.empty(1, parent.tokens, config.width))
        for table in (self.queries, self.refined):
            nn.init.normal_(table, std=0.02)

    def windows(self, patches: int, tokens: int) -> list[Window]:
        """Causal: patches see patches; tokens see patches and earlier tokens. Otherwise all see all."""
        everything = slice(None)
        if not self.config.causal:
            return [(everything, everything, None)]
        mask = F.pad(self.visible[:tokens, :tokens], (patches, 0), value=True)
        return [(slice(patches), slice(patches), None), (slice(patches, None), everything, mask)]

    def forward(self, x_B3HW: Tensor, count: int, given_BmD: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Patch features [B, p, D] and features of the first `count` tokens, of an image in [-1, 1].

        `given_BmD` replaces the queries of the first m tokens; the others are then the ones learned for that.
        """
        side, size = x_B3HW.shape[-1] // self.config.patch, self.config.patch
        x = x_B3HW.unflatten(2, (side, size)).unflatten(4, (side, size))  # B, 3, row, y, column, x
        patches_BpD = self.patches(x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)) + self.patch_positions(side)
        if given_BmD is None:
            queries_BnD = self.queries[:, :count].expand(len(x), -1, -1)
        else:
            rest = self.refined[:, given_BmD.shape[1] : count].expand(len(x), -1, -1)
            queries_BnD = torch.cat([given_BmD, rest], dim=1)
        windows = self.windows(side**2, count)
        return self.run(patches_BpD, queries_BnD + self.token_positions[:, :count], windows)


class Decoder(Tower):
    """Codes to image: one learned mask token per patch reads the codes."""

    def __init__(self, config: TowerConfig, parent: DetailFlowTokenizerConfig) -> None:
        super().__init__(config, parent)
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.pixels = nn.Linear(config.width, 3 * config.patch**2)

    def windows(self, patches: int, tokens: int) -> list[Window]:
        """Causal: patches see everything; tokens see earlier tokens. Otherwise all see all."""
        everything = slice(None)
        if not self.config.causal:
            return [(everything, everything, None)]
        codes = slice(patches, None)
        return [(slice(patches), everything, None), (codes, codes, self.visible[:tokens, :tokens])]

    def forward(self, codes_BnD: Tensor, size: int) -> Tensor:
        """Image [B, 3, size, size], about [-1, 1]."""
        side, patch, count = size // self.config.patch, self.config.patch, codes_BnD.shape[1]
        patches_BpD = (self.mask_token + self.patch_positions(side)).expand(len(codes_BnD), -1, -1)
        codes_BnD = codes_BnD + self.token_positions[:, :count]
        patches_BpD, _ = self.run(patches_BpD, codes_BnD, self.windows(side**2, count))
        x = self.pixels(patches_BpD).unflatten(2, (patch, patch, 3)).unflatten(1, (side, side))
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


class DetailFlowTokenizer(Tokenizer):
    """Image to a sequence of tokens, coarse to fine; k tokens decode to an image of their own resolution."""

    def __init__(self, config: DetailFlowTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.resolutions = Resolutions(config)
        smaller = [s for s in self.resolutions.best if config.min_image_size <= s < config.image_size]
        self.sizes = SquareSizes(kind="fixed", value=config.image_size, smaller=tuple(smaller))
        self._layout = TokenLayout(
            segments=(Segment(shape=(config.tokens,), vocab=config.vocab),), prefixes=self.resolutions.counts
        )
        self.encoder = Encoder(config.encoder, config)
        self.decoder = Decoder(config.decoder, config)
        self.before_quantizer = nn.Linear(config.encoder.width, config.code_dim)
        self.after_quantizer = nn.Linear(config.code_dim, config.decoder.width)
        self.quantizer = VectorQuantizer(
            config.vocab, config.code_dim, normalize=config.normalize, remembered=config.usage_window
        )
        if config.self_correction:
            self.refine = nn.Linear(config.code_dim, config.encoder.width)
        if config.alignment:
            hidden, width = config.alignment
            self.alignment = nn.Sequential(
                nn.Linear(config.code_dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                nn.Linear(hidden, width),
            )  # fmt: skip

    def layout(self, size: int | tuple[int, int] | None = None) -> TokenLayout:
        """The one layout; a smaller image has fewer tokens of it. `size`, if given, must be one of `sizes`."""
        height, width = (size, size) if isinstance(size, int) else size or (self.config.image_size,) * 2
        if not self.sizes.allows(height, width):
            raise ValueError(f"{self.name or 'this tokenizer'} has tokens for {self.sizes}, got {height}x{width}")
        return self._layout

    def size_of(self, k: int) -> int:
        """Side of the image that `k` tokens decode to, pixels. Errors: ValueError for an illegal `k`."""
        return self.resolutions.side[self._layout.check_prefix(k)]

    def features(self, images: Tensor, count: int, given_BmC: Tensor | None = None) -> Tensor:
        """Features [B, n, C] of the first `count` tokens, of images in [0, 1]: what is quantized.

        `given_BmC` are codes to go on from in place of the first m queries (see `correction.py`).
        """
        given = None if given_BmC is None else self.refine(given_BmC)
        _, tokens_BnD = self.encoder(images * 2 - 1, count, given)
        return self.before_quantizer(tokens_BnD)

    def pixels(self, codes_BnC: Tensor, size: int) -> Tensor:
        """Images [B, 3, size, size] in about [0, 1], not clamped, from codes."""
        return (self.decoder(self.after_quantizer(codes_BnC), size) + 1) / 2

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        count = self.resolutions.best[images.shape[-1]]
        return Tokens(layout=self._layout, ids=self.quantizer.nearest(self.features(images, count)))

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: RandomGenerator | None) -> Tensor:
        assert tokens.ids is not None
        counts = tokens.lengths.tolist()
        side = self._side(counts, size)
        parts, order = [], []
        for k in sorted(set(counts)):  # images with the same number of tokens go together
            rows = [i for i, count in enumerate(counts) if count == k]
            parts.append(self.pixels(self.quantizer.codes_of(tokens.ids[rows, :k]), side))
            order += rows
        return torch.cat(parts)[torch.tensor(order).argsort()]

    def _side(self, counts: list[int], size: int | None) -> int:
        """The one side that all images of a batch decode to."""
        own = {k: self.size_of(k) for k in sorted(set(counts))}
        if size is None:
            if len(set(own.values())) > 1:
                listed = ", ".join(f"{k} tokens to {side}" for k, side in own.items())
                raise ValueError(
                    f"images of one batch decode to different sides ({listed} pixels): pass size=, or decode images "
                    "of one side at a time, such as tokens[tokens.lengths == k]"
                )
            return next(iter(own.values()))
        patch = self.config.decoder.patch
        if size % patch or not patch <= size <= self.config.image_size:
            raise ValueError(
                f"{self.name or 'this tokenizer'} decodes to multiples of {patch} up to {self.config.image_size} "
                f"pixels, got size={size}"
            )
        return size
