"""LARP's video tokenizer (arXiv 2410.21264; hywang66/LARP, MIT).

Shape suffixes: B batch, T frames, H W pixels, t h w patch grid, P patches, L tokens, C code width, D width.
"""

from typing import Any

import torch
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from smalti.nn.quantizers.vq import VectorQuantizer
from smalti.nn.sincos import sincos, sincos_grid
from smalti.nn.vit import Block, Mlp
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.larp.config import LARPConfig
from smalti.tokens import Segment, TokenLayout, Tokens


def _keep(module: nn.Module, name: str, values: Tensor, *, learned: bool) -> None:
    """Registers a table as parameter or as constant; both are in the published file."""
    if learned:
        module.register_parameter(name, nn.Parameter(values.float()))
    else:
        module.register_buffer(name, values.float())


def _type(width: int, used: bool) -> nn.Parameter | None:
    return nn.Parameter(0.02 * torch.randn(1, 1, width)) if used else None


def _blocks(width: int, depth: int, heads: int, eps: float) -> nn.ModuleList:
    blocks = (Block(width, heads, Mlp(width, 4 * width), eps=eps, qkv_bias=False) for _ in range(depth))
    return nn.ModuleList(blocks)


def _through(blocks: nn.ModuleList, h: Tensor, count: int) -> Tensor:
    """The last `count` tokens after all blocks; the last block computes no others."""
    for i, block in enumerate(blocks, start=1):
        h = block(h, read=slice(-count if i == len(blocks) else None, None))
    return h


class PatchPositions(nn.Module):
    """Position of every patch of a clip, [1, P, D]: a table, or the sum of learned vectors of its three places."""

    table: Tensor

    def __init__(self, grid: tuple[int, int, int], width: int, learned: bool) -> None:
        super().__init__()
        times, rows, columns = (sincos(torch.arange(n), width) for n in grid)
        self.learned = learned
        if learned:
            self.times = nn.Parameter(times.float()[None, :, None, None])
            self.rows = nn.Parameter(rows.float()[None, None, :, None])
            self.columns = nn.Parameter(columns.float()[None, None, None])
        else:
            table = times[:, None] + sincos_grid(grid[1], grid[2], width)
            self.register_buffer("table", table.flatten(0, 1).float()[None])

    def forward(self) -> Tensor:
        return (self.times + self.rows + self.columns).flatten(1, 3) if self.learned else self.table


class Encoder(nn.Module):
    """Clip [B, 3, T, H, W] in [0, 1] to one vector per token [B, L, D], read by queries from all patches."""

    queries: Tensor

    def __init__(self, config: LARPConfig) -> None:
        super().__init__()
        width, cube = config.encoder_width, (config.frame_patch, config.patch, config.patch)
        self.stills = config.frame_patch == 1
        self.patches = nn.Conv2d(3, width, cube[1:], cube[1:]) if self.stills else nn.Conv3d(3, width, cube, cube)
        self.positions = PatchPositions(config.patches, width, config.learned_patch_positions)
        self.patch_type, self.query_type = _type(width, config.patch_type), _type(width, config.query_type)
        fixed = sincos(torch.arange(config.tokens), width, config.position_base)
        queries = 0.02 * torch.randn(config.tokens, width) if config.learned_queries else fixed
        _keep(self, "queries", queries, learned=config.learned_queries)
        self.blocks = _blocks(width, config.encoder_depth, config.encoder_heads, config.norm_eps)

    def embed(self, x_B3THW: Tensor) -> Tensor:
        """The patches with their positions, [B, P, D]."""
        if self.stills:
            frames = self.patches(x_B3THW.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)
            patches = frames.unflatten(0, (len(x_B3THW), -1)).flatten(1, 2)
        else:
            patches = self.patches(x_B3THW).flatten(2).transpose(1, 2)
        patches = patches + self.positions()
        return patches if self.patch_type is None else patches + self.patch_type

    def forward(self, x_B3THW: Tensor) -> Tensor:
        queries_1LD = self.queries[None] if self.query_type is None else self.queries[None] + self.query_type
        h = torch.cat((self.embed(x_B3THW), queries_1LD.expand(len(x_B3THW), -1, -1)), dim=1)
        return _through(self.blocks, h, len(self.queries))


class Decoder(nn.Module):
    """One vector per token [B, L, D] to a clip [B, 3, T, H, W], about [0, 1]."""

    token_positions: Tensor

    def __init__(self, config: LARPConfig) -> None:
        super().__init__()
        width, self.grid = config.decoder_width, config.patches
        self.cube = (config.frame_patch, config.patch, config.patch)
        fixed = sincos(torch.arange(config.tokens), width, config.position_base)
        learned = config.learned_token_positions
        positions = 0.02 * torch.randn(config.tokens, width) if learned else fixed
        _keep(self, "token_positions", positions[None], learned=learned)
        self.patch_queries = PatchPositions(config.patches, width, config.learned_patch_queries)
        self.token_type = _type(width, config.token_type)
        self.patch_query_type = _type(width, config.patch_query_type)
        self.blocks = _blocks(width, config.decoder_depth, config.decoder_heads, config.norm_eps)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 3 * config.frame_patch * config.patch**2)

    def forward(self, z_BLD: Tensor) -> Tensor:
        tokens = z_BLD + self.token_positions
        tokens = tokens if self.token_type is None else tokens + self.token_type
        queries_1PD = self.patch_queries()
        queries_1PD = queries_1PD if self.patch_query_type is None else queries_1PD + self.patch_query_type
        h = torch.cat((tokens, queries_1PD.expand(len(tokens), -1, -1)), dim=1)
        patches = self.head(self.norm(_through(self.blocks, h, queries_1PD.shape[1])))
        x = patches.unflatten(-1, (*self.cube, 3)).unflatten(1, self.grid)  # [B, t, h, w, frame, y, x, 3]
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)


class LARPTokenizer(Tokenizer):
    """Clip of a fixed length and size to tokens, each of which may be about all of it."""

    places = False

    def __init__(self, config: LARPConfig) -> None:
        super().__init__()
        self.config, self.frames = config, config.frames
        self.sizes = Sizes(kind="fixed", value=config.image_size)
        self.encoder = Encoder(config)
        self.before_quantizer = nn.Linear(config.encoder_width, config.latent_channels)
        self.quantizer = VectorQuantizer(config.vocab, config.latent_channels, normalize=config.normalize, remembered=0)
        self.after_quantizer = nn.Linear(config.latent_channels, config.decoder_width)
        self.decoder = Decoder(config)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self._layout = TokenLayout(
            segments=(Segment(shape=config.grid, vocab=config.vocab),), prefixes=(config.tokens,)
        )

    def features(self, images: Tensor) -> Tensor:
        """Continuous features [B, L, C] of clips in [0, 1]: what is quantized."""
        return self.before_quantizer(self.encoder(images))

    def sample(self, z_BLC: Tensor, rng: RandomGenerator | None = None) -> Tensor:
        """int64 [B, L]: codes drawn from softmax(cos(z, code) / temperature), in float32 whatever the autocast."""
        with torch.autocast(z_BLC.device.type, enabled=False):
            z, codes_VC = self.quantizer.unit(z_BLC), self.quantizer.unit(self.quantizer.codebook)
            probs = (z.flatten(0, 1) @ codes_VC.T / self.config.temperature).softmax(dim=-1)
        device = rng.device if rng is not None else probs.device
        return torch.multinomial(probs.to(device), 1, generator=rng).view(z_BLC.shape[:2]).to(z_BLC.device)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Clips in about [0, 1], not clamped, from codes [B, L, C]."""
        return self.decoder(self.after_quantizer(latents))

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        z_BLC = self.features(images)
        drawn = rng is not None and self.config.temperature > 0
        ids = self.sample(z_BLC, rng) if drawn else self.quantizer.nearest(z_BLC)
        return Tokens(layout=self._layout, ids=ids)

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: RandomGenerator | None) -> Tensor:
        self._check_side(size)
        assert tokens.ids is not None
        return self.decode_latents(self.quantizer.codes_of(tokens.ids))
