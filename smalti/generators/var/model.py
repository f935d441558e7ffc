"""VAR's next-scale transformer (arXiv 2404.02905; FoundationVision/VAR, MIT).

Shape suffixes: R rows (branches x batch), B batch, L or n tokens, D width, H heads, d head width, C latent channels,
V codes, 6 modulation vectors of a block: (gain, gain, scale, scale, shift, shift) of attention and feed-forward.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smalti.decoding.prediction import Categorical
from smalti.decoding.schedules import Schedule, next_scale
from smalti.generators.base import Condition, Generator
from smalti.generators.var.config import VARConfig
from smalti.nn.cache import KVCache
from smalti.tokenizers.base import Feedback
from smalti.tokens import Choice, TokenLayout, Tokens


class Attention(nn.Module):
    """Multi-head self-attention with a bias on queries and values only."""

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.heads, self.normalize = config.heads, config.normalize_attention
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(config.width))
        self.v_bias = nn.Parameter(torch.zeros(config.width))
        if self.normalize:
            self.log_scale = nn.Parameter(torch.full((1, config.heads, 1, 1), math.log(4)))
        self.proj = nn.Linear(config.width, config.width)
        self.scale = 1.0 if self.normalize else 0.25 / math.sqrt(config.width // config.heads)

    def forward(self, x_RnD: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int) -> Tensor:
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = (self.qkv(x_RnD) + bias).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [R, H, n, d]
        if self.normalize:
            q = F.normalize(q, dim=-1) * self.log_scale.clamp_max(math.log(100)).exp()
            k = F.normalize(k, dim=-1)
        q, k = q.to(v.dtype), k.to(v.dtype)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        return self.proj(h.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and feed-forward, both modulated by the condition (adaLN, arXiv 2212.09748)."""

    def __init__(self, config: VARConfig, drop_path: float) -> None:
        super().__init__()
        width, hidden = config.width, round(config.width * config.mlp_ratio)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=False)
        self.attention = Attention(config)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout, self.drop_path = nn.Dropout(config.dropout), drop_path
        if config.shared_modulation:
            self.modulation_table = nn.Parameter(torch.randn(1, 1, 6, width) / width**0.5)
        else:
            self.modulation = nn.Linear(width, 6 * width)

    def initialize(self, config: VARConfig) -> None:
        """Modulations near the identity, gains at `initial_gain`."""
        if config.shared_modulation:
            self.modulation_table[:, :, :2] = config.initial_gain
        else:
            self.modulation.weight.mul_(0.5)
            self.modulation.weight[: 2 * config.width] *= min(config.initial_gain, 0.1)
            self.modulation.bias[: 2 * config.width] = config.initial_gain

    def modulations(self, condition_RD: Tensor, shared_R6D: Tensor | None) -> Tensor:
        """[R, 6, D] from silu(condition), or from the output of the shared layer."""
        if shared_R6D is not None:
            return self.modulation_table[0] + shared_R6D
        return self.modulation(condition_RD).unflatten(-1, (6, -1))

    def forward(self, x_RnD: Tensor, mod_R6D: Tensor, mask: Tensor | None, cache: KVCache | None, layer: int) -> Tensor:
        gain1, gain2, scale1, scale2, shift1, shift2 = mod_R6D[:, :, None].unbind(1)
        h = self.attention(self.norm(x_RnD) * (1 + scale1) + shift1, mask, cache, layer)
        x_RnD = x_RnD + self._drop(h * gain1)
        h = self.down(F.gelu(self.up(self.norm(x_RnD) * (1 + scale2) + shift2), approximate="tanh"))
        return x_RnD + self._drop(h * gain2)

    def _drop(self, h_RnD: Tensor) -> Tensor:
        """Dropout, and in training the whole branch is dropped for some rows (stochastic depth)."""
        h_RnD = self.dropout(h_RnD)
        if not self.training or self.drop_path == 0:
            return h_RnD
        keep = torch.rand(h_RnD.shape[0], 1, 1, device=h_RnD.device) >= self.drop_path
        return h_RnD * keep.to(h_RnD.dtype) / (1 - self.drop_path)


@dataclass(eq=False)
class VARState:
    """Where a generation stands."""

    step: int
    """The scale that is predicted next."""
    rows: int
    """Number of branches."""
    feedback: Feedback
    cache: KVCache
    modulations: list[Tensor]
    """[R, 6, D] of every block: they depend on the condition alone and are computed once."""
    head_modulation: Tensor
    """[R, 2, D]."""
    pending: Tensor
    """[R, n, D] inputs not yet run: those of scale `step`, after a jump also of all scales before it."""


class VARGenerator(Generator):
    """Predicts all tokens of a scale at once from the class or text and all coarser scales."""

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.config, self.classes, self.text_features = config, config.classes, config.text_features
        self.layout = TokenLayout.scales(config.sides, config.vocab)
        width = config.width
        self.class_embedding = nn.Embedding(config.classes + 1, width)
        if config.text_features:
            self.text_projection = nn.Sequential(
                nn.Linear(config.text_features, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
            )
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, self.layout.length, width))
        self.level_embedding = nn.Embedding(len(config.sides), width)
        self.input = nn.Linear(config.latent_channels, width)
        rates = [config.drop_path * i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        if config.shared_modulation:
            self.shared_modulation = nn.Linear(width, 6 * width)
        self.norm = nn.LayerNorm(width, eps=config.norm_eps, elementwise_affine=False)
        self.head_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, config.vocab)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Weights to start training from: the authors' standard deviations; gains start at `initial_gain`."""
        config, std = self.config, (1 / self.config.width / 3) ** 0.5
        for name, p in self.named_parameters():
            if p.ndim >= 2 and not name.endswith(("log_scale", "modulation_table")):
                nn.init.trunc_normal_(p, std=std)
            elif name.endswith(".bias"):
                nn.init.zeros_(p)
        self.head.weight.mul_(0.02)
        self.head_modulation.weight.mul_(0.5)
        if config.shared_modulation:
            self.shared_modulation.weight.mul_(0.5)
        for block in self.blocks:
            block.attention.proj.weight.div_(math.sqrt(2 * config.depth))  # type: ignore[union-attr]
            block.down.weight.div_(math.sqrt(2 * config.depth))  # type: ignore[union-attr]
            block.initialize(config)  # type: ignore[operator]

    def schedule(self) -> Schedule:
        """One step per scale."""
        return next_scale(self.layout)

    def embed_condition(self, condition: Condition) -> Tensor:
        """[R, D]: class embedding (the row behind the last class for none) plus projected text."""
        classes = torch.where(condition.classes < 0, self.config.classes, condition.classes)
        embedded_RD = self.class_embedding(classes)
        if condition.text is None or not self.config.text_features:
            return embedded_RD
        assert condition.text_mask is not None
        weights_RT1 = condition.text_mask[..., None].to(embedded_RD.dtype)
        pooled_RF = (condition.text.to(embedded_RD.dtype) * weights_RT1).sum(1) / weights_RT1.sum(1).clamp_min(1)
        return embedded_RD + self.text_projection(pooled_RF) * weights_RT1.amax(1)

    def _modulations(self, condition_RD: Tensor) -> list[Tensor]:
        active_RD = F.silu(condition_RD)
        shared = self.shared_modulation(active_RD).unflatten(-1, (6, -1)) if self.config.shared_modulation else None
        return [block.modulations(active_RD, shared) for block in self.blocks]  # type: ignore[operator]

    def _places(self, start: int, end: int) -> Tensor:
        """[1, n, D]: position and level embeddings of tokens start..end - 1."""
        levels = self.layout.segment_of()[start:end].to(self.positions.device)
        return self.positions[:, start:end] + self.level_embedding(levels)

    def _mask(self, end: int) -> Tensor:
        """bool [end, end]: a token sees every token of its own and coarser scales."""
        level = self.layout.segment_of()[:end].to(self.positions.device)
        return level[:, None] >= level[None, :]

    def _logits(self, h_RnD: Tensor, head_R2D: Tensor) -> Tensor:
        """float32 [R, n, V]."""
        scale, shift = head_R2D[:, :, None].float().unbind(1)
        h_RnD = self.norm(h_RnD.float()) * (1 + scale) + shift
        return self.head(h_RnD.to(self.head.weight.dtype)).float()

    def _head_modulation(self, condition_RD: Tensor) -> Tensor:
        return self.head_modulation(F.silu(condition_RD)).unflatten(-1, (2, -1))

    def logits(self, inputs_BnC: Tensor | None, condition: Condition) -> Tensor:
        """Teacher-forced logits float32 [B, 1 + n, V]; `inputs_BnC` are the maps of scales 1, 2, ... VAR is fed."""
        condition_BD = self.embed_condition(condition)
        x_BLD = condition_BD[:, None] + self.start
        if inputs_BnC is not None:
            x_BLD = torch.cat([x_BLD, self.input(inputs_BnC.to(self.input.weight.dtype))], dim=1)
        length = x_BLD.shape[1]
        x_BLD = x_BLD + self._places(0, length)
        mask = self._mask(length)
        for i, (block, mod) in enumerate(zip(self.blocks, self._modulations(condition_BD), strict=True)):
            x_BLD = block(x_BLD, mod, mask, None, i)
        return self._logits(x_BLD, self._head_modulation(condition_BD))

    def forward(self, tokens: Tokens, condition: Condition, *, feedback: Feedback | None = None) -> Categorical:
        """Logits of all given tokens, [1, B, L, V]; tokens may be cut after any scale."""
        if feedback is None or tokens.ids is None:
            raise ValueError("VAR is fed maps made by its tokenizer: pass feedback=tokenizer.feedback(len(tokens))")
        scales = self.layout.starts.index(tokens.ids.shape[1])
        inputs_BnC = feedback.push_prefix(tokens.ids, scales - 1)
        return Categorical(self.logits(inputs_BnC, condition)[None])

    def begin(
        self,
        condition: Condition,
        *,
        feedback: Feedback,
        branches: Sequence[str] = ("cond",),
        known: Tensor | None = None,
        start: int = 0,
    ) -> VARState:
        """State before scale `start`; the maps of earlier scales come from `feedback`, which has consumed them."""
        assert feedback.steps == start, f"feedback has consumed {feedback.steps} scales, not {start}"
        condition_RD = self.embed_condition(condition.rows(branches))
        x_RnD = condition_RD[:, None] + self.start
        history_BnC = feedback.history()
        if history_BnC is not None:
            x_RnD = torch.cat([x_RnD, self._embed(history_BnC, len(branches))], dim=1)
        return VARState(
            step=start,
            rows=len(branches),
            feedback=feedback,
            cache=self._cache(x_RnD),
            modulations=self._modulations(condition_RD),
            head_modulation=self._head_modulation(condition_RD),
            pending=x_RnD + self._places(0, x_RnD.shape[1]),
        )

    def _cache(self, x_RnD: Tensor) -> KVCache:
        c = self.config
        shape = {"layers": c.depth, "rows": x_RnD.shape[0], "heads": c.heads, "length": self.layout.length}
        return KVCache(**shape, head_dim=c.width // c.heads, dtype=x_RnD.dtype, device=x_RnD.device)

    def _embed(self, inputs_BnC: Tensor, rows: int) -> Tensor:
        """[rows * B, n, D]: the same input for every branch, embedded once."""
        return self.input(inputs_BnC.to(self.input.weight.dtype)).repeat(rows, 1, 1)

    def predict(self, state: VARState) -> Categorical:
        """Logits [R, B, n, V] of scale `state.step`; everything pending runs in this one pass."""
        h_RnD, count = state.pending, self.layout.segments[state.step].count
        mask = self._mask(h_RnD.shape[1]) if h_RnD.shape[1] > count else None
        for i, block in enumerate(self.blocks):
            h_RnD = block(h_RnD, state.modulations[i], mask, state.cache, i)
        state.cache.advance(h_RnD.shape[1])
        logits_RnV = self._logits(h_RnD[:, -count:], state.head_modulation)
        return Categorical(logits_RnV.unflatten(0, (state.rows, -1)))

    def unguide(self, state: VARState) -> bool:
        """Keeps the conditional rows of caches, modulations and pending inputs."""
        batch = state.pending.shape[0] // state.rows
        state.rows, state.pending = 1, state.pending[:batch]
        state.modulations = [mod[:batch] for mod in state.modulations]
        state.head_modulation = state.head_modulation[:batch]
        state.cache.keep_rows(batch)
        return True

    def accept(self, state: VARState, choice: Choice) -> None:
        """Feeds the chosen map back: it becomes the input of the next scale."""
        inputs_BnC = state.feedback.push(state.step, choice)
        state.step += 1
        if inputs_BnC is not None:
            start, end = self.layout.starts[state.step], self.layout.starts[state.step + 1]
            state.pending = self._embed(inputs_BnC, state.rows) + self._places(start, end)
