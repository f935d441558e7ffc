"""FlexTok (arXiv 2502.13967; apple/ml-flextok): 1 to 256 ordered tokens per image, decoded by a rectified flow.

Shape suffixes: B batch, R rows, N registers, K given tokens, S register places computed, P patches, L = P + S or P + N,
D width, d FSQ dimensions, E modulated parts, C latent channels, H W pixels, h w latent grid.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator as RandomGenerator
from torch import Tensor, nn

from smalti.nn.kl_autoencoder import KLAutoencoder
from smalti.nn.quantizers.fsq import FSQ
from smalti.tokenizers.base import Sizes, Tokenizer
from smalti.tokenizers.flextok import flow
from smalti.tokenizers.flextok.config import FlexTokConfig, FlexTokDecode
from smalti.tokenizers.flextok.transformer import (
    Block,
    ModulatedBlock,
    Parts,
    PatchPositions,
    TimeEmbedding,
    layer_norm,
    patchify,
    sincos_table,
    unpatchify,
)
from smalti.tokens import Segment, TokenLayout, Tokens


class RegisterEncoder(nn.Module):
    """Latents [B, C, h, w] to one vector per register [B, N, d].

    Patches see patches; register i sees all patches and registers 0..i, so no token depends on a later one.
    """

    mask: Tensor

    def __init__(self, config: FlexTokConfig) -> None:
        super().__init__()
        stack = config.encoder
        self.patch, self.grid = stack.patch, config.grid(stack)
        self.patches = nn.Linear(stack.patch**2 * config.vae.latent_channels, stack.width)
        self.positions = PatchPositions(stack)
        self.registers = nn.Parameter(torch.empty(config.registers, stack.width))
        self.blocks = nn.ModuleList(Block(stack) for _ in range(stack.depth))
        self.head = nn.Linear(stack.width, len(config.levels))
        count = self.grid**2
        place = torch.arange(count + config.registers)
        self.register_buffer("mask", (place < count) | (place <= place[:, None]), persistent=False)
        nn.init.xavier_uniform_(self.patches.weight)
        nn.init.zeros_(self.patches.bias)
        nn.init.trunc_normal_(self.registers, std=0.02)
        if config.spatial_registers:
            side = math.ceil(math.sqrt(config.registers))
            places = (torch.arange(side) + 0.5) * (self.grid / side) - 0.5
            table = sincos_table(places, stack.width).flatten(2)[0].T
            with torch.no_grad():
                self.registers.copy_(table[: config.registers])

    def forward(self, z_BChw: Tensor, registers: int | None = None) -> Tensor:
        """[B, N, d], before quantization; `registers` computes only the first so many, to the same values."""
        patches_BPD = self.patches(patchify(z_BChw, self.patch)) + self.positions(self.grid)
        registers_BND = self.registers[:registers].expand(len(z_BChw), -1, -1)
        x_BLD = torch.cat([patches_BPD, registers_BND.to(patches_BPD.dtype)], dim=1)
        length = x_BLD.shape[1]
        for block in self.blocks:
            x_BLD = block(x_BLD, self.mask[:length, :length])
        return self.head(layer_norm(x_BLD[:, self.grid**2 :]))


@dataclass(frozen=True, eq=False)
class Condition:
    """What the decoder is told of an image, per row."""

    registers_RSD: Tensor
    bias_R11L: Tensor | None
    """Added to the attention logits: 0 for patches and tokens, log of how many places one stands for, -inf for none."""


@dataclass(frozen=True, eq=False)
class Modulation:
    """What the time does to every block and to the head; rows are times, or one for all images."""

    blocks: tuple[Tensor, ...]
    """[R, E, 6, D] each."""
    head_R2D: Tensor

    def row(self, i: int) -> "Modulation":
        """That of one time."""
        return Modulation(tuple(m[i : i + 1] for m in self.blocks), self.head_R2D[i : i + 1])


class FlowDecoder(nn.Module):
    """Velocity of noisy latents, given the first k tokens of an image.

    The authors overwrite the N - k dropped tokens by one learned vector (and all N by another where there is no
    condition). These copies carry no position and stay equal in every block, so one place with log(N - k) added to its
    attention logits stands for them: the same function at the cost of the tokens that are there.
    """

    def __init__(self, config: FlexTokConfig) -> None:
        super().__init__()
        stack, channels = config.decoder, config.vae.latent_channels
        width = stack.width
        self.count, self.side = config.registers, config.latent_side
        self.patch, self.grid = stack.patch, config.grid(stack)
        self.parts, self.shared = config.modulated_parts, config.shared_modulation
        self.codes = nn.Linear(len(config.levels), width)
        self.token_positions = nn.Parameter(torch.empty(1, 1, width, config.registers))
        self.dropped = nn.Parameter(torch.empty(width))
        self.null = nn.Parameter(torch.empty(width))
        self.patches = nn.Linear(stack.patch**2 * channels, width)
        self.positions = PatchPositions(stack)
        self.time = TimeEmbedding(config.frequencies, width, config.time_scale)
        self.blocks = nn.ModuleList(ModulatedBlock(stack) for _ in range(stack.depth))
        layers = 1 if self.shared else stack.depth
        self.modulations = nn.ModuleList(nn.Linear(width, self.parts * 6 * width) for _ in range(layers))
        if self.shared:
            self.modulation_table = nn.Parameter(torch.empty(stack.depth, self.parts * 6 * width))
        self.head_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, stack.patch**2 * channels)
        self._initialize(config)

    def _initialize(self, config: FlexTokConfig) -> None:
        """adaLN-zero: blocks and output start as if they were not there, unless `initial_gate` opens the gates."""
        for layer in (self.codes, self.patches):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for vector in (self.token_positions, self.dropped, self.null):
            nn.init.trunc_normal_(vector, std=0.02)
        for layer in (*self.modulations, self.head_modulation, self.head):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        gates = torch.zeros(self.parts, 6, config.decoder.width)
        gates[:, :2] = config.initial_gate
        with torch.no_grad():
            if self.shared:
                self.modulation_table.copy_(gates.flatten().expand_as(self.modulation_table))
            else:
                for layer in self.modulations:
                    layer.bias.copy_(gates.flatten())  # type: ignore[operator]

    def condition(
        self, codes_RKd: Tensor, kept_R: Tensor, null_R: Tensor | None = None, *, places: int | None = None
    ) -> Condition:
        """What the first `kept_R` of K codes tell the decoder; rows of `null_R` are told nothing.

        `places`: register places to compute; None = as few as these rows need (which waits for the device).
        """
        count, last = codes_RKd.shape[1], self.count - 1
        if null_R is None:
            null_R = torch.zeros_like(kept_R, dtype=torch.bool)
        kept_R = torch.where(null_R, 0, kept_R)
        if places is None:
            if not null_R.any() and (kept_R == self.count).all():
                return Condition(self._tokens(codes_RKd), None)
            places = int(kept_R.clamp_max(last).max()) + 1
        tokens_RSD = F.pad(self._tokens(codes_RKd[:, :places]), (0, 0, 0, max(places - count, 0)))
        place_S, kept_R1 = torch.arange(places, device=kept_R.device), kept_R[:, None]
        rest_RD = torch.where(null_R[:, None], self.null, self.dropped)
        is_rest_RS1 = (place_S == kept_R1)[..., None]
        registers_RSD = torch.where(is_rest_RS1, rest_RD[:, None].to(tokens_RSD.dtype), tokens_RSD)
        rest_bias_R1 = (self.count - kept_R1).clamp_min(1).log()
        bias_RS = torch.where(place_S == kept_R1, rest_bias_R1, -math.inf)
        bias_RS = torch.where(place_S < kept_R1, 0.0, bias_RS)
        return Condition(registers_RSD, F.pad(bias_RS, (self.grid**2, 0))[:, None, None])

    def _tokens(self, codes_RKd: Tensor) -> Tensor:
        tokens_RKD = self.codes(codes_RKd)
        return tokens_RKD + self.token_positions[0, :, :, : codes_RKd.shape[1]].transpose(1, 2)

    def modulate(self, t_R: Tensor) -> Modulation:
        """Modulations of times in [0, 1]."""
        h_RD = F.silu(self.time(t_R))
        if self.shared:
            common = self.modulations[0](h_RD)
            flat = [common + offset for offset in self.modulation_table]
        else:
            flat = [layer(h_RD) for layer in self.modulations]
        blocks = tuple(m.unflatten(1, (self.parts, 6, -1)) for m in flat)
        return Modulation(blocks, self.head_modulation(h_RD).unflatten(1, (2, -1)))

    def velocity(self, x_RChw: Tensor, condition: Condition, modulation: Modulation) -> Tensor:
        """Velocity [R, C, h, w] of noisy latents."""
        return self.watch(x_RChw, condition, modulation, 0)[0]

    def watch(
        self, x_RChw: Tensor, condition: Condition, modulation: Modulation, watched: int
    ) -> tuple[Tensor, Tensor]:
        """Velocity [R, C, h, w], and the patches [R, P, D] as block number `watched` leaves them."""
        patches_RPD = self.patches(patchify(x_RChw, self.patch)) + self.positions(self.grid)
        h_RLD = torch.cat([patches_RPD, condition.registers_RSD.to(patches_RPD.dtype)], dim=1)
        count = patches_RPD.shape[1]
        parts, early = Parts(count, self.parts), h_RLD
        for i, (block, m_RE6D) in enumerate(zip(self.blocks, modulation.blocks, strict=True)):
            h_RLD = block(h_RLD, condition.bias_R11L, parts, m_RE6D)
            early = h_RLD if i == watched else early
        shift_R1D, scale_R1D = modulation.head_R2D[:, :1], modulation.head_R2D[:, 1:]
        out_RPc = self.head(torch.addcmul(shift_R1D, layer_norm(h_RLD[:, :count]), 1 + scale_R1D))
        return unpatchify(out_RPc, self.patch, self.side), early[:, :count]


class FlexTokTokenizer(Tokenizer):
    """Image to N ordered tokens, coarse to fine by training; any prefix decodes to a whole image."""

    decode_options = FlexTokDecode

    def __init__(self, config: FlexTokConfig) -> None:
        super().__init__()
        self.config = config
        self.sizes = Sizes(kind="fixed", value=config.image_size)
        self.vae = KLAutoencoder(config.vae)
        self.encoder = RegisterEncoder(config)
        self.quantizer = FSQ(config.levels)
        self.decoder = FlowDecoder(config)
        segment = Segment(shape=(config.registers,), vocab=self.quantizer.vocab)
        self._layout = TokenLayout(segments=(segment,), prefixes=tuple(range(1, config.registers + 1)))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Images in about [0, 1], not clamped, from scaled latents [B, C, h, w]."""
        return (self.vae.decode(latents) + 1) / 2

    def sample_latents(
        self,
        tokens: Tokens,
        options: FlexTokDecode | None = None,
        *,
        noise: Tensor | None = None,
        rng: RandomGenerator | None = None,
    ) -> Tensor:
        """Scaled latents [B, C, h, w] sampled from tokens; `noise` replaces the start noise of `options` or `rng`."""
        assert tokens.ids is not None
        options, side = options or self.config.decode, self.config.latent_side
        if noise is None:
            noise = flow.start_noise(options, (len(tokens), self.config.vae.latent_channels, side, side), rng)
        codes = self.quantizer.codes_of(tokens.ids.clamp_min(0))
        return flow.sample(self.decoder, codes, tokens.lengths, noise.to(codes), options)

    def _encode(self, images: Tensor, rng: RandomGenerator | None) -> Tokens:
        ids = self.quantizer(self.encoder(self.vae.encode(images * 2 - 1, rng=rng))).ids
        return Tokens(layout=self._layout, ids=ids)

    def _decode(self, tokens: Tokens, size: int | None, options: Any, rng: RandomGenerator | None) -> Tensor:
        self._check_side(size)
        return self.decode_latents(self.sample_latents(tokens, options, rng=rng)).float()
